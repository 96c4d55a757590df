// `distc diff`: what differs between two plan sets, or two plans.
#pragma once

#include <string>

namespace distc {

struct DiffCommand {
  std::string a, b;
  bool json = false;
};

/// Exit code as of diff(1): 0 the same, 1 they differ, 2 with a message where that could not be found out.
int diffCommand(const DiffCommand &command);

} // namespace distc
