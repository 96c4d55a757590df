#include "runtime/comm/Rendezvous.h"

#include "runtime/base/Spin.h"

namespace distc {

namespace {

const char *nameOf(Collective kind) {
  switch (kind) {
  case Collective::AllReduce:
    return "all_reduce";
  case Collective::AllGather:
    return "all_gather";
  case Collective::ReduceScatter:
    return "reduce_scatter";
  }
  return "";
}

} // namespace

Rendezvous::Rendezvous(World &world, CommGroup group)
    : world_(world), group_(std::move(group)), contributions_(group_.ranks.size()), here_(group_.ranks.size()) {}

std::string Rendezvous::describe(uint32_t member) const {
  const Contribution &c = contributions_[member];
  return describeCall(group_.ranks[member], c.call, nameOf(c.kind), group_.name);
}

std::string Rendezvous::missing() const {
  std::string ranks;
  for (size_t m = 0; m < here_.size(); ++m)
    if (!here_[m])
      ranks += (ranks.empty() ? "rank " : ", rank ") + std::to_string(group_.ranks[m]);
  return ranks;
}

Status Rendezvous::compare() const {
  const Contribution &a = contributions_[0];
  for (uint32_t m = 1; m < contributions_.size(); ++m) {
    const Contribution &b = contributions_[m];
    bool same = a.kind == b.kind && a.op == b.op && a.dtype == b.dtype && a.inCount == b.inCount &&
                a.outCount == b.outCount && a.call.step == b.call.step && a.call.sequence == b.call.sequence;
    if (same)
      continue;
    auto detail = [](const Contribution &c) {
      return " (step " + std::to_string(c.call.step) + ", " + EnumNameReduceOp(c.op) + ", " + EnumNameDType(c.dtype) +
             ", " + std::to_string(c.inCount) + " elements in, " + std::to_string(c.outCount) + " out)";
    };
    return internal(describe(m) + detail(b) + " meets " + describe(0) + detail(a) +
                    "; the members of a collective must agree: compile the model again");
  }
  return {};
}

// A member that gives up does so holding the mutex, after the failure was recorded; the last to arrive looks for a
// failure holding the mutex too. So either all members proceed, or none, and nobody touches the buffers of one that has
// left.
Status Rendezvous::meet(uint32_t member, const Contribution &mine) {
  std::unique_lock lock(mutex_);
  if (world_.failed())
    return world_.failure();
  contributions_[member] = mine;
  here_[member] = true;
  const uint64_t before = meetings_.load(std::memory_order_relaxed);
  if (++arrived_ == group_.ranks.size()) {
    Status agreed = compare();
    if (!agreed.ok()) {
      world_.record(agreed);
      return world_.failure();
    }
    arrived_ = 0;
    here_.assign(here_.size(), false);
    meetings_.store(before + 1, std::memory_order_release);
    lock.unlock();
    changed_.notify_all();
    return {};
  }
  auto complete = [&] { return meetings_.load(std::memory_order_acquire) != before; };
  if (world_.spin()) {
    lock.unlock();
    if (spinUntil(complete))
      return {};
    lock.lock();
  }
  return world_.wait(lock, changed_, complete, [&] { return describe(member) + world_.waited() + missing(); });
}

// No time limit and no way out: whoever is between meet and part only computes.
void Rendezvous::part() {
  std::unique_lock lock(mutex_);
  const uint64_t before = partings_.load(std::memory_order_relaxed);
  if (++parted_ == group_.ranks.size()) {
    parted_ = 0;
    partings_.store(before + 1, std::memory_order_release);
    lock.unlock();
    changed_.notify_all();
    return;
  }
  auto complete = [&] { return partings_.load(std::memory_order_acquire) != before; };
  if (world_.spin()) {
    lock.unlock();
    if (spinUntil(complete))
      return;
    lock.lock();
  }
  changed_.wait(lock, complete);
}

void Rendezvous::wake() {
  std::lock_guard lock(mutex_);
  changed_.notify_all();
}

} // namespace distc
