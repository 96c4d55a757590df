#include "runtime/backends/cpu/CpuBackend.h"
#include "runtime/base/System.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

namespace distc {

double cpuReadBandwidth() {
  const size_t threads = std::max(1u, usableCores());
  const size_t words = std::min<uint64_t>(uint64_t(1) << 30, availableMemory() / 4) / 8 / threads / 8 * 8;
  std::vector<std::vector<uint64_t>> parts(threads);
  auto inParallel = [&](auto work) {
    std::vector<std::thread> team;
    for (size_t t = 0; t < threads; ++t)
      team.emplace_back([&, t] { work(t); });
    for (std::thread &thread : team)
      thread.join();
  };
  inParallel([&](size_t t) { parts[t].assign(words, t + 1); });
  std::vector<uint64_t> sums(threads);
  double best = 0;
  for (int pass = 0; pass < 5; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    inParallel([&](size_t t) {
      uint64_t lanes[8] = {};
      for (size_t i = 0; i + 8 <= parts[t].size(); i += 8)
        for (size_t lane = 0; lane < 8; ++lane)
          lanes[lane] += parts[t][i + lane];
      for (uint64_t lane : lanes)
        sums[t] += lane;
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, double(words) * 8 * double(threads) / seconds);
  }
  // A use of the sums that the compiler cannot foresee keeps the reads.
  volatile uint64_t keep = sums[0];
  (void)keep;
  return best;
}

} // namespace distc
