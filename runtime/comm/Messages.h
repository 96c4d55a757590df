// The communicator of ranks that are processes without shared memory: collectives made of messages over a Link.
//
// A member sends its part to the others, and reduces what has come itself, in member order (Reduce.h). So a run gives
// the bits that it gives with ranks as threads, which a library's all-reduce would not: it adds in the order that suits
// its algorithm, another for each length. Short vectors go whole to everyone, in one exchange; of long ones each member
// reduces its share, and hands it to all. Every message says what it is part of, which the receiver compares.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/comm/Link.h"
#include "runtime/comm/World.h"

#include <memory>

namespace distc {

/// `groups`: those of this rank, in the order of its plan; `world`: the first failure of all ranks, and the time limit.
/// `spin`: poll without a pause at first, where every rank has a core. Host memory.
std::unique_ptr<Communicator> connectMessages(uint32_t rank, std::vector<CommGroup> groups, std::shared_ptr<Link> link,
                                              std::shared_ptr<World> world, bool spin);

} // namespace distc
