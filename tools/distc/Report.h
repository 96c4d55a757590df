// `distc report`: a plan set as a page of HTML.
#pragma once

#include "distc/Status.h"

#include <cstdint>
#include <string>

namespace distc {

struct ReportCommand {
  std::string directory, output, trace, machine, memory;
  int64_t batch = 1, promptTokens = 0; // 0: 512, or as many as one step takes
};

/// What is wrong with the flags alone: a usage error.
Status checkOptions(const ReportCommand &command);

Status reportCommand(const ReportCommand &command);

} // namespace distc
