// A link of TCP connections, one for each pair of ranks.
#pragma once

#include "runtime/comm/ControlPlane.h"
#include "runtime/comm/Link.h"

#include <memory>

namespace distc {

/// Connects every pair of ranks; all ranks call it at the same place in their conversation on `control`.
Result<std::unique_ptr<Link>> connectTcp(ControlPlane &control);

} // namespace distc
