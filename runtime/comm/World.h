// What ranks share to wait for each other: the first failure, and the one way to wait.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/comm/InProcess.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>

namespace distc {

/// "rank 1: instruction 7 (layers.0.attention.o): all_reduce #3 of group tp0"
std::string describeCall(uint32_t rank, const CommCall &call, std::string_view op, std::string_view group);

class World {
public:
  explicit World(InProcessOptions options);
  virtual ~World() = default;

  bool failed() const { return failed_.load(std::memory_order_acquire); }
  Status failure() const;
  bool spin() const { return options_.spin; }
  bool interrupted() const { return options_.interrupted && options_.interrupted->load(std::memory_order_relaxed); }
  const std::atomic<bool> *interruptedFlag() const { return options_.interrupted; }
  double timeoutSeconds() const { return options_.timeoutSeconds; }

  /// Keeps the first failure. The waiters are not woken: the caller may hold the mutex of one of them. Where ranks are
  /// processes, the others are told (ControlPlane.h).
  virtual void record(const Status &status);

  /// `tell` is called once when there is a failure, by the thread that records it, even if all others are stuck; at
  /// once if there is one. It must not wait, nor call this. Not after `forget` has returned.
  void whenFailed(const void *who, std::function<void()> tell);
  void forget(const void *who);

  /// Blocks until `ready()`; else returns the failure that ended the wait, with `what()` telling what was waited for.
  /// `lock` is held whenever `ready` runs. Ready wins over a failure that comes at the same time: see Rendezvous.
  template <typename Ready, typename What>
  Status wait(std::unique_lock<std::mutex> &lock, std::condition_variable &changed, Ready ready, What what) {
    using Clock = std::chrono::steady_clock;
    const auto limit = std::chrono::duration<double>(options_.timeoutSeconds);
    const Clock::time_point deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(limit);
    while (!ready()) {
      if (failed())
        return failure();
      if (interrupted())
        record(cancelled("interrupted"));
      else if (Clock::now() >= deadline)
        record(deadlineExceeded(what()));
      else
        changed.wait_until(lock, std::min(deadline, Clock::now() + kPoll));
    }
    return {};
  }

  /// ": waited 60 s for "
  std::string waited() const;

private:
  // How soon an interrupt is seen by a rank that waits.
  static constexpr std::chrono::milliseconds kPoll{20};

  const InProcessOptions options_;
  std::atomic<bool> failed_{false};
  mutable std::mutex mutex_;
  Status first_;
  std::map<const void *, std::function<void()>> told_;
};

} // namespace distc
