// A communicator whose collectives take as long as over a slower link, for trying what a schedule hides.
#pragma once

#include "runtime/comm/Communicator.h"

#include <atomic>
#include <memory>

namespace distc {

/// Each collective of `inner` waits, after it has been done, as long as a ring would take: a member passes on (n-1)/n
/// of the whole value for a gather or a scatter, twice that for an all-reduce (Patarasuk and Yuan, 2009). `members`:
/// how many each group of the rank has. The wait ends early when a rank has failed, or `interrupted`.
std::unique_ptr<Communicator> slowDown(std::unique_ptr<Communicator> inner, double latencySeconds,
                                       double bytesPerSecond, std::vector<size_t> members,
                                       const std::atomic<bool> *interrupted = nullptr);

} // namespace distc
