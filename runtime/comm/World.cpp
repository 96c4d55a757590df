#include "runtime/comm/World.h"

#include <algorithm>
#include <cstdio>

namespace distc {

std::string describeCall(uint32_t rank, const CommCall &call, std::string_view op, std::string_view group) {
  std::string text = "rank " + std::to_string(rank) + ": instruction " + std::to_string(call.instruction);
  if (!call.label.empty())
    text.append(" (").append(call.label).append(")");
  text.append(": ").append(op).append(" #").append(std::to_string(call.sequence));
  return text.append(" of group ").append(group);
}

World::World(InProcessOptions options)
    : options_([&] {
        // Far beyond any use, and still far from overflowing the clock.
        options.timeoutSeconds = std::clamp(options.timeoutSeconds, 0.0, 1e8);
        return options;
      }()) {}

Status World::failure() const {
  if (!failed())
    return {};
  std::lock_guard lock(mutex_);
  return first_;
}

void World::record(const Status &status) {
  std::lock_guard lock(mutex_);
  if (!first_.ok())
    return;
  first_ = status;
  failed_.store(true, std::memory_order_release);
  for (const auto &[who, tell] : told_)
    tell();
}

void World::whenFailed(const void *who, std::function<void()> tell) {
  std::lock_guard lock(mutex_);
  if (!first_.ok())
    tell();
  told_[who] = std::move(tell);
}

void World::forget(const void *who) {
  std::lock_guard lock(mutex_);
  told_.erase(who);
}

std::string World::waited() const {
  char text[64];
  std::snprintf(text, sizeof text, ": waited %g s for ", options_.timeoutSeconds);
  return text;
}

} // namespace distc
