#include "runtime/backends/Backend.h"

#include "runtime/backends/cpu/CpuBackend.h"

namespace distc {

Result<std::unique_ptr<Backend>> createBackend(const plan::Plan &plan, Communicator &communicator, ThreadPool &pool) {
  if (plan.target()->string_view() == "cpu")
    return std::unique_ptr<Backend>(new CpuBackend(plan, communicator, pool));
  return failedPrecondition("the plan is for target '" + plan.target()->str() +
                            "', this build runs 'cpu'; compile with --target cpu");
}

} // namespace distc
