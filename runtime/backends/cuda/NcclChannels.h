// The NCCL communicators of a plan set, and the memory that a rank needs to use them, as its instructions say.
#pragma once

#include "runtime/comm/Communicator.h"

#include <map>
#include <span>

namespace distc {

/// Up to here a vector goes whole to every member; bytes of all of them together.
inline constexpr size_t kShortBytes = 512 << 10;

/// The share of one of `members` of a long vector: whole vectors of a kernel's loads.
inline size_t shareOf(size_t count, size_t members) {
  constexpr size_t kLine = 16;
  return (count + members * kLine - 1) / (members * kLine) * kLine;
}

struct Channel {
  std::string group;           // its name; empty: from one rank to another
  std::vector<uint32_t> ranks; // of the group; sender and receiver
  auto operator<=>(const Channel &) const = default;
};

/// Sorted: whoever opens those it is part of in this order waits for nobody that waits for it.
std::vector<Channel> channelsOf(std::span<const plan::Plan *const> plans);

/// Bytes of device memory, for the largest batch.
struct ChannelMemory {
  size_t parts = 0;                  // what other members send into a reduction
  std::map<uint32_t, size_t> copies; // by receiver: all that is sent to it in one step
};
ChannelMemory channelMemory(const plan::Plan &plan);

} // namespace distc
