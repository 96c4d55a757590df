// The communicator of ranks that are threads of one process: collectives read and write the members' buffers in place,
// in host memory or on one device.
#pragma once

#include "runtime/comm/CommMemory.h"
#include "runtime/comm/Communicator.h"

#include <atomic>
#include <memory>
#include <span>
#include <vector>

namespace distc {

struct InProcessOptions {
  double timeoutSeconds = 60;                     // how long one call waits for its peers
  bool spin = false;                              // poll before blocking: every thread has a core
  const std::atomic<bool> *interrupted = nullptr; // ends every wait with Code::Cancelled
  std::shared_ptr<CommMemory> memory = nullptr;   // where the buffers are; null: host memory
  uint32_t slots = 1;                             // micro-batches in flight
};

/// Connected communicators, that of slot s of rank r at [r * slots + s]: what one micro-batch sends meets nothing of
/// another, so they need no order among each other. groupsOfRank[r] are the groups of rank r in the order of its plan.
/// Groups of the same name and members are one group. A rank's communicator is used by one thread at a time (abort and
/// failure: by any).
std::vector<std::unique_ptr<Communicator>> connectInProcess(std::span<const std::vector<CommGroup>> groupsOfRank,
                                                            const InProcessOptions &options);

} // namespace distc
