// Mailbox: messages of one sender to one receiver, in order, copied in and out.
#pragma once

#include "runtime/comm/World.h"

#include <deque>

namespace distc {

class Mailbox {
public:
  explicit Mailbox(World &world) : world_(world) {}

  /// Waits for room, then copies. `self` and `peer` are ranks; with the group's name, for errors.
  Status put(const CommCall &call, uint32_t self, uint32_t peer, const std::string &group, const void *in, size_t count,
             plan::DType dtype);
  /// Waits for the next message, which must be the one meant.
  Status take(const CommCall &call, uint32_t self, uint32_t peer, const std::string &group, void *out, size_t count,
              plan::DType dtype);
  void wake();

private:
  struct Message {
    CommCall call;
    plan::DType dtype;
    size_t count;
    std::vector<std::byte> bytes;
  };
  // Enough for a sender to be some chunks ahead, little enough that it cannot run away.
  static constexpr size_t kCapacity = 4;

  World &world_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Message> messages_;
  std::vector<std::vector<std::byte>> spare_;
  std::atomic<size_t> size_{0}; // of messages_, readable without the mutex
};

} // namespace distc
