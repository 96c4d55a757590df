// Link: messages between processes, in order for each pair of them; what Messages.h makes a communicator of. Nothing
// here waits: time limits, failures of other ranks and interrupts are the business of who polls.
#pragma once

#include "distc/Status.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

namespace distc {

class Link {
public:
  using Message = std::vector<std::byte>;

  explicit Link(uint32_t world) : inboxes_(world) {}
  virtual ~Link() = default;
  Link(const Link &) = delete;

  /// Begins to send head and body as one message; both are free again when it returns.
  virtual Status send(uint32_t to, std::span<const std::byte> head, std::span<const std::byte> body) = 0;
  /// Moves on what is under way in both directions, as far as that goes now. An error names the rank that is lost.
  virtual Status progress() = 0;
  /// Whether everything sent has left this process; until then progress() must be called.
  virtual bool drained() const = 0;
  /// Lets others have the core for a moment, or until something may have come. `idle`: how often in a row.
  virtual void pause(uint32_t idle) = 0;

  /// Messages of one rank that have come whole, oldest first.
  std::deque<Message> &inbox(uint32_t from) { return inboxes_[from]; }
  /// The memory of a message that was read, for the next one.
  void recycle(Message message) { spare_.push_back(std::move(message)); }

protected:
  Message spare(size_t bytes) {
    Message message;
    if (!spare_.empty()) {
      message = std::move(spare_.back());
      spare_.pop_back();
    }
    message.resize(bytes);
    return message;
  }

private:
  std::vector<std::deque<Message>> inboxes_;
  std::vector<Message> spare_;
};

} // namespace distc
