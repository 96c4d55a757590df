// The communicator of ranks with a GPU each, in one process or many: NCCL moves the bytes, our kernels add.
//
// NCCL's all-reduce is not used: it adds in the order of its rings and trees, bf16 after bf16, and in another order
// where the length is another. Here a short vector goes whole to everyone, and each adds in member order, in f32; of a
// long one each member adds its share, and hands it to all. So the bits are those of ranks that share one GPU.
//
// The short messages of a group whose members can map each other's memory need no NCCL: PeerExchange.h.
//
// Collectives have a communicator of NCCL for each group. A send must not wait for its receiver (Communicator.h), while
// NCCL's waits on its stream: so each pair of sender and receiver has a communicator too, and sends leave from a copy,
// on a stream of their own. All of it is NCCL's non-blocking kind, polled: a time limit, an interrupt or a failure of
// another rank ends every wait, of the host and, through ncclCommAbort, of the device.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/comm/World.h"

#include <memory>
#include <span>

namespace distc {

/// What all ranks of a plan set must be given, made once for all of them.
Result<std::vector<std::byte>> openNccl(std::span<const plan::Plan *const> plans);

/// The communicator of plans[rank], on the GPU `device` of this process; `world`: the first failure of all ranks, and
/// the time limit. It is connected by its rank's thread (Communicator::connect), with memory for its messages on the
/// device.
std::unique_ptr<Communicator> joinNccl(std::span<const plan::Plan *const> plans, uint32_t rank, uint32_t device,
                                       std::vector<std::byte> ids, std::shared_ptr<World> world);

} // namespace distc
