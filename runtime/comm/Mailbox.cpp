#include "runtime/comm/Mailbox.h"

#include "runtime/base/Spin.h"
#include "runtime/schema/PlanFile.h"

#include <string>

namespace distc {

Mailbox::~Mailbox() {
  for (Message &message : messages_)
    spare_.push_back(message.buffer);
  for (Buffer &buffer : spare_) {
    memory_.free(buffer.data);
    memory_.destroyEvent(buffer.event);
  }
}

Status Mailbox::put(const CommCall &call, const void *in, size_t count, plan::DType dtype) {
  Message message{call, dtype, count, {}};
  Buffer &buffer = message.buffer;
  {
    std::lock_guard lock(mutex_);
    if (!spare_.empty()) {
      buffer = spare_.back();
      spare_.pop_back();
    }
  }
  const size_t bytes = count * dtypeBytes(dtype);
  if (!buffer.event)
    buffer.event = memory_.createEvent();
  if (buffer.size < bytes) {
    memory_.free(buffer.data);
    buffer.data = memory_.allocate(bytes);
    buffer.size = buffer.data ? bytes : 0;
  }
  Status status = buffer.size < bytes
                      ? resourceExhausted("no memory for a message of " + std::to_string(bytes) + " bytes")
                      : Status();
  if (status.ok()) {
    memory_.wait(buffer.event, call.stream);
    memory_.copy(buffer.data, in, bytes, call.stream);
    memory_.record(buffer.event, call.stream);
    status = memory_.status();
  }
  std::lock_guard lock(mutex_);
  if (!status.ok()) {
    spare_.push_back(buffer);
    return status;
  }
  messages_.push_back(message);
  size_.store(messages_.size(), std::memory_order_release);
  changed_.notify_all();
  return {};
}

Status Mailbox::take(const CommCall &call, uint32_t self, uint32_t peer, const std::string &group, void *out,
                     size_t count, plan::DType dtype) {
  if (world_.spin())
    (void)spinUntil([&] { return size_.load(std::memory_order_acquire) != 0; });
  Message message;
  {
    std::unique_lock lock(mutex_);
    DISTC_TRY(world_.wait(
        lock, changed_, [&] { return !messages_.empty(); },
        [&] {
          return describeCall(self, call, "recv", group) + world_.waited() + "rank " + std::to_string(peer) +
                 " to send";
        }));
    message = messages_.front();
    messages_.pop_front();
    size_.store(messages_.size(), std::memory_order_release);
  }
  auto giveBack = [&] {
    std::lock_guard lock(mutex_);
    spare_.push_back(message.buffer);
  };
  if (message.call.step != call.step || message.call.sequence != call.sequence || message.dtype != dtype ||
      message.count != count) {
    auto detail = [](const CommCall &c, plan::DType type, size_t n) {
      return " (step " + std::to_string(c.step) + ", " + EnumNameDType(type) + ", " + std::to_string(n) + " elements)";
    };
    giveBack();
    return internal(describeCall(self, call, "recv", group) + detail(call, dtype, count) + " meets " +
                    describeCall(peer, message.call, "send", group) +
                    detail(message.call, message.dtype, message.count) +
                    "; send and recv must agree: compile the model again");
  }
  memory_.wait(message.buffer.event, call.stream);
  memory_.copy(out, message.buffer.data, count * dtypeBytes(dtype), call.stream);
  memory_.record(message.buffer.event, call.stream);
  giveBack();
  return memory_.status();
}

void Mailbox::wake() {
  std::lock_guard lock(mutex_);
  changed_.notify_all();
}

} // namespace distc
