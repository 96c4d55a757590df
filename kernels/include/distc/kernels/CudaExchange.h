// Exchange of short messages between the members of a group, each on a device whose memory the others can write: one
// kernel a member pushes its message into the others' memory and takes theirs as they come, in one way over the link.
// Launchers follow the rules of Cuda.h.
//
// A message travels in words of 8 bytes: 4 of its own, and the number of the call. A word is stored and loaded as one,
// so whoever sees the number has the message: there is no flag behind the data and no fence between them (as in NCCL's
// protocol LL). The calls are counted in device memory, so a launch may be captured and replayed.
//
// Messages alternate between two slots, and that is enough: a member pushes call n + 2 after it has taken call n + 1 of
// every other member, who pushed that after its kernel of call n, the last to read the slot, had ended. So every call
// moves something from each member to each, and all members make the same calls.
#pragma once

#include "distc/kernels/Cuda.h"

namespace distc::cuda {

/// The longest message of a member.
inline constexpr int64_t maxExchangeBytes = 512 << 10;

/// Memory of the host that the device can use: zeros in the beginning.
struct ExchangeHost {
  uint32_t abort;   // by the host: not 0 ends every wait, and what is exchanged is worth nothing
  uint32_t waiting; // by the device: the note of a call that has waited for some milliseconds; 0: there is none
};

/// What one member has.
struct Exchange {
  void *inboxes[maxPeers]; // of each member, as this device addresses them: inboxBytes, zeros before the first call
  uint32_t *calls;         // two numbers on this device, zeros before the first call
  ExchangeHost *host;
  int members, self;
};
constexpr int64_t inboxBytes(int members) { return 2 * members * 2 * maxExchangeBytes; }

/// A call is both, in one launch that waits for its peers on the device. Members that share a device must not: there
/// all push before the first receives.
enum class ExchangePart : uint8_t { Push = 1, Receive = 2, Both = 3 };

/// Loads the kernels on the current device, which a launch would do else: not into a capture, and not safely while
/// another of the process waits there for a peer.
cudaError_t prepareExchange();

/// out[i] = the sum, or the largest, of in[i] of all members, added up in their order in f32: the bits of reduce(). in
/// and out are of one type; out may be in. `note`, not 0, is what ExchangeHost tells of the call.
cudaError_t exchangeReduce(const Exchange &exchange, ExchangePart part, ReduceOp op, In in, int64_t n, Out out,
                           uint32_t note, cudaStream_t stream);

/// Member m's n numbers of 4 bytes go to out[m * n], as far as `total` reaches; in and out do not overlap.
cudaError_t exchangeGather(const Exchange &exchange, ExchangePart part, const void *in, int64_t n, void *out,
                           int64_t total, uint32_t note, cudaStream_t stream);

} // namespace distc::cuda
