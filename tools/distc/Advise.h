// `distc advise`, and the mesh of `distc compile --tp auto --pp auto`.
#pragma once

#include "compiler/Analysis/Advise.h"
#include "tools/distc/Compile.h"

namespace distc {

struct AdviseCommand {
  std::string model, machine;
  int64_t gpus = 1, batch = 1;
  std::optional<int64_t> context; // as for compile where it is not given
  bool latency = false, throughput = false, json = false;
};

/// What is wrong with the flags alone: a usage error.
Status checkOptions(const AdviseCommand &command);

Status adviseCommand(const AdviseCommand &command);

/// What is predicted to be best on `options.machine` in the place of each `auto`: the mesh for `options.gpus`, the
/// chunks of prefill for the mesh. With the target of the machine.
Status chooseAutomatic(CompileOptions &options);

} // namespace distc
