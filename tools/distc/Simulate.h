// `distc simulate`: what a plan set is predicted to do on a machine.
#pragma once

#include "compiler/Analysis/Simulate.h"

namespace distc {

struct SimulateCommand {
  std::string directory, machine, trace;
  int64_t batch = 1, promptTokens = 512, newTokens = 128;
  bool json = false;
};

/// What is wrong with the flags alone: a usage error.
Status checkOptions(const SimulateCommand &command);

Status simulateCommand(const SimulateCommand &command);

} // namespace distc
