// ThreadPool: the threads of one rank. The calling thread is one of them.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace distc {

class ThreadPool {
public:
  struct Options {
    uint32_t threads = 1;
    bool spin = false;      // poll before blocking: every thread has a core
    std::vector<int> cores; // thread i stays on cores[i]; empty: anywhere. The caller's is its own business.
  };
  explicit ThreadPool(const Options &options);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;

  uint32_t size() const { return static_cast<uint32_t>(workers_.size()) + 1; }

  /// work(part) for every part in [0, size()), each on its own thread; returns when all are done.
  template <typename Work> void forEachThread(Work &&work) {
    run([](void *context, uint32_t part) { (*static_cast<std::remove_reference_t<Work> *>(context))(part); }, &work);
  }

  /// work(begin, end) over [0, n): one contiguous range per thread, cut at multiples of `grain`, the same for the same
  /// n.
  template <typename Work> void parallelFor(int64_t n, int64_t grain, Work &&work) {
    const int64_t units = (n + grain - 1) / grain, parts = std::min<int64_t>(size(), units);
    if (parts <= 1) {
      if (n > 0)
        work(int64_t(0), n);
      return;
    }
    forEachThread([&](uint32_t part) {
      const int64_t begin = units * part / parts * grain, end = std::min(n, units * (part + 1) / parts * grain);
      if (part < parts && begin < end)
        work(begin, end);
    });
  }

private:
  using Function = void (*)(void *context, uint32_t part);
  void run(Function function, void *context);
  void worker(uint32_t part, int core);
  void waitWhile(const std::atomic<uint32_t> &value, uint32_t old) const;

  const bool spin_;
  std::atomic<uint32_t> generation_{0}; // counts the runs; a worker waits for the next
  std::atomic<uint32_t> busy_{0};       // workers that are not done with this run
  Function function_ = nullptr;         // null: the workers end
  void *context_ = nullptr;
  std::vector<std::thread> workers_;
};

} // namespace distc
