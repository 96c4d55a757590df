#include "runtime/base/ThreadPool.h"

#include "runtime/base/Log.h"
#include "runtime/base/Spin.h"
#include "runtime/base/System.h"

#include <string>
#include <system_error>

namespace distc {

ThreadPool::ThreadPool(const Options &options) : spin_(options.spin) {
  for (uint32_t part = 1; part < options.threads; ++part)
    try {
      workers_.emplace_back(
          [this, part, core = part < options.cores.size() ? options.cores[part] : -1] { worker(part, core); });
    } catch (const std::system_error &error) { // results do not depend on how many there are
      log(LogLevel::Warn, "only " + std::to_string(part) + " of " + std::to_string(options.threads) +
                              " threads could be started: " + error.what());
      return;
    }
}

ThreadPool::~ThreadPool() {
  function_ = nullptr;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread &thread : workers_)
    thread.join();
}

void ThreadPool::waitWhile(const std::atomic<uint32_t> &value, uint32_t old) const {
  if (spin_ && spinUntil([&] { return value.load(std::memory_order_acquire) != old; }))
    return;
  value.wait(old, std::memory_order_acquire);
}

void ThreadPool::run(Function function, void *context) {
  if (!workers_.empty()) {
    function_ = function;
    context_ = context;
    busy_.store(static_cast<uint32_t>(workers_.size()), std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
  }
  function(context, 0);
  while (uint32_t busy = busy_.load(std::memory_order_acquire))
    waitWhile(busy_, busy);
}

void ThreadPool::worker(uint32_t part, int core) {
  if (core >= 0)
    pinThisThread(core);
  for (uint32_t seen = 0;;) {
    waitWhile(generation_, seen);
    ++seen; // the caller waits for every worker, so no run is ever missed
    if (!function_)
      return;
    function_(context_, part);
    if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1)
      busy_.notify_one();
  }
}

} // namespace distc
