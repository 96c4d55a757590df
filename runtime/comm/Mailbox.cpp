#include "runtime/comm/Mailbox.h"

#include "runtime/base/Spin.h"
#include "runtime/schema/PlanFile.h"

#include <cstring>

namespace distc {

void Mailbox::put(const CommCall &call, const void *in, size_t count, plan::DType dtype) {
  Message message{call, dtype, count, {}};
  {
    std::lock_guard lock(mutex_);
    if (!spare_.empty()) {
      message.bytes = std::move(spare_.back());
      spare_.pop_back();
    }
  }
  message.bytes.resize(count * dtypeBytes(dtype));
  if (!message.bytes.empty())
    std::memcpy(message.bytes.data(), in, message.bytes.size());
  {
    std::lock_guard lock(mutex_);
    messages_.push_back(std::move(message));
    size_.store(messages_.size(), std::memory_order_release);
  }
  changed_.notify_all();
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
    message = std::move(messages_.front());
    messages_.pop_front();
    size_.store(messages_.size(), std::memory_order_release);
  }
  if (message.call.step != call.step || message.call.sequence != call.sequence || message.dtype != dtype ||
      message.count != count) {
    auto detail = [](const CommCall &c, plan::DType type, size_t n) {
      return " (step " + std::to_string(c.step) + ", " + EnumNameDType(type) + ", " + std::to_string(n) + " elements)";
    };
    return internal(describeCall(self, call, "recv", group) + detail(call, dtype, count) + " meets " +
                    describeCall(peer, message.call, "send", group) +
                    detail(message.call, message.dtype, message.count) +
                    "; send and recv must agree: compile the model again");
  }
  if (!message.bytes.empty())
    std::memcpy(out, message.bytes.data(), message.bytes.size());
  std::lock_guard lock(mutex_);
  spare_.push_back(std::move(message.bytes));
  return {};
}

void Mailbox::wake() {
  std::lock_guard lock(mutex_);
  changed_.notify_all();
}

} // namespace distc
