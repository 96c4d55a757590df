// Mailbox: messages of one sender to one receiver, in order, copied in and out.
#pragma once

#include "runtime/comm/World.h"

#include <deque>
#include <vector>

namespace distc {

class Mailbox {
public:
  Mailbox(World &world, CommMemory &memory) : world_(world), memory_(memory) {}
  /// No work on the messages may be outstanding.
  ~Mailbox();
  Mailbox(const Mailbox &) = delete;

  /// Copies, and never waits: the verifier proves plans free of deadlock on that ground. There are never more messages
  /// than a program has sends, since a step begins only after all ranks have ended the one before.
  /// Fails only for want of memory.
  Status put(const CommCall &call, const void *in, size_t count, plan::DType dtype);
  /// Waits for the next message, which must be the one meant. `self` and `peer` are ranks; with the group's name, for
  /// errors.
  Status take(const CommCall &call, uint32_t self, uint32_t peer, const std::string &group, void *out, size_t count,
              plan::DType dtype);
  void wake();

private:
  struct Buffer {
    std::byte *data = nullptr;
    size_t size = 0;
    CommMemory::Event event = nullptr; // full, or after it was taken empty again
  };
  struct Message {
    CommCall call;
    plan::DType dtype;
    size_t count;
    Buffer buffer;
  };

  World &world_;
  CommMemory &memory_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Message> messages_;
  std::vector<Buffer> spare_;
  std::atomic<size_t> size_{0}; // of messages_, readable without the mutex
};

} // namespace distc
