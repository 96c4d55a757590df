#include "runtime/backends/Backend.h"

#include "runtime/backends/cpu/CpuBackend.h"

namespace distc {

Status checkTarget(const plan::Plan &plan) {
  if (plan.target()->string_view() == "cpu")
    return {};
  return failedPrecondition("the plan is for target '" + plan.target()->str() +
                            "', this build runs 'cpu'; compile with --target cpu");
}

Result<std::unique_ptr<Backend>> createBackend(const plan::Plan &plan, Communicator &communicator, ThreadPool &pool) {
  DISTC_TRY(checkTarget(plan));
  return std::unique_ptr<Backend>(new CpuBackend(plan, communicator, pool));
}

} // namespace distc
