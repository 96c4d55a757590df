// `distc advise`, and the mesh of `distc compile --tp auto --pp auto`.
#pragma once

#include "compiler/Analysis/Advise.h"
#include "tools/distc/Compile.h"

namespace distc {

struct AdviseCommand {
  std::string model, machine;
  int64_t gpus = 1, context = 4096, batch = 1;
  bool latency = false, throughput = false, json = false;
};

/// What is wrong with the flags alone: a usage error.
Status checkOptions(const AdviseCommand &command);

Status adviseCommand(const AdviseCommand &command);

/// The mesh for `options.machine` and `options.gpus` in the place of `auto`, with the target of the machine.
Status chooseMesh(CompileOptions &options);

} // namespace distc
