// Mailbox: messages of one sender to one receiver, in order, copied in and out.
#pragma once

#include "runtime/comm/World.h"

#include <deque>

namespace distc {

class Mailbox {
public:
  explicit Mailbox(World &world) : world_(world) {}

  /// Copies, and never waits: the verifier proves plans free of deadlock on that ground. There are never more messages
  /// than a program has sends, since a step begins only after all ranks have ended the one before.
  void put(const CommCall &call, const void *in, size_t count, plan::DType dtype);
  /// Waits for the next message, which must be the one meant. `self` and `peer` are ranks; with the group's name, for
  /// errors.
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

  World &world_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Message> messages_;
  std::vector<std::vector<std::byte>> spare_;
  std::atomic<size_t> size_{0}; // of messages_, readable without the mutex
};

} // namespace distc
