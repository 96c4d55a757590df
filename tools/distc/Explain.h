// `distc explain`: a plan set in words.
#pragma once

#include "distc/Status.h"

#include <cstdint>
#include <string>

namespace distc {

struct ExplainCommand {
  std::string directory, name, memory;
  int64_t batch = 0; // 0: that of the plans
  bool json = false;
};

/// What is wrong with the flags alone: a usage error.
Status checkOptions(const ExplainCommand &command);

Status explainCommand(const ExplainCommand &command);

} // namespace distc
