#include "tools/distrun/MachineBench.h"

#include "distc/kernels/Cpu.h"
#include "runtime/backends/cpu/CpuBackend.h"
#include "runtime/base/AnonymousMemory.h"
#include "runtime/base/System.h"
#include "runtime/base/ThreadPool.h"
#include "runtime/comm/InProcess.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unistd.h>

namespace distc {

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// The lower quartile: other work on the machine makes a time longer, never shorter. What is timed should be shorter
/// than the milliseconds after which the system lets others run.
double undisturbed(std::vector<double> times) {
  const auto place = times.begin() + static_cast<ptrdiff_t>(times.size() / 4);
  std::nth_element(times.begin(), place, times.end());
  return *place;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Seconds of one call.
template <typename Work> double secondsOf(size_t count, Work work) {
  std::vector<double> times;
  for (size_t i = 0; i < count; ++i) {
    const auto start = Clock::now();
    work();
    times.push_back(secondsSince(start));
  }
  return undisturbed(std::move(times));
}

constexpr int64_t kRows = 2048, kCols = 768; // of the products: a projection of a small model
constexpr uint32_t kManyTokens = 32; // from here on all cores are measured together: they share caches and clock
constexpr uint32_t kTokens[] = {1, 2, 4, 8, 16, 32, 64, 128, 512};
constexpr int64_t kElements = 1024 * 1024;                           // of activations
constexpr uint32_t kMegabytes[] = {16, 32, 64, 128, 256, 512, 1024}; // of weights
constexpr uint64_t kMayBeKept = 256'000'000; // bytes: last-level caches are about as large, shared ones by others

/// Weights and caches come from memory that is larger than most caches, one piece after the other.
class Pool {
public:
  Status create(ThreadPool &threads) {
    const uint64_t bytes = std::clamp<uint64_t>(availableMemory() / 4, 40'000'000, 1'100'000'000);
    DISTC_ASSIGN(memory_, AnonymousMemory::reserve(bytes, "weights to measure with"));
    DISTC_TRY(memory_.commit(threads, "weights to measure with"));
    auto *halves = reinterpret_cast<uint16_t *>(memory_.data());
    for (uint64_t i = 0; i < bytes / 2; ++i) // numbers near 1 as halves, and as the upper half of an f32
      halves[i] = static_cast<uint16_t>(0x3c00 | (i * 2654435761u >> 16 & 0x3ff));
    return {};
  }
  /// `of`: comes back to the first piece after so many bytes.
  const void *next(uint64_t bytes, uint64_t of = UINT64_MAX) {
    if (at_ + bytes > std::min(of, memory_.size()))
      at_ = 0;
    at_ += bytes;
    return memory_.data() + at_ - bytes;
  }
  uint64_t size() const { return memory_.size(); }

private:
  AnonymousMemory memory_;
  uint64_t at_ = 0;
};

class Bench {
public:
  /// `pinned`: the core of each thread, as ranks have them; the caller's is the first. Empty: anywhere.
  Bench(uint32_t cores, std::vector<int> pinned)
      : threads_({cores, cores > 1, pinned}), cores_(cores), pinned_(std::move(pinned)),
        y_(size_t(std::max(3 * kElements, 512 * 1024 * int64_t(cores)))) {}

  Status create() { return pool_.create(threads_); }
  Result<MachineFigures> round(const std::atomic<bool> &interrupted) {
    MachineFigures figures;
    figures.cores = cores_;
    for (auto part : {&Bench::streams, &Bench::products, &Bench::attention, &Bench::elementwise, &Bench::threads}) {
      if (interrupted)
        return cancelled("interrupted");
      (this->*part)(figures);
    }
    DISTC_TRY(messages(figures));
    return figures;
  }

private:
  void streams(MachineFigures &figures) {
    constexpr uint64_t bytes = kRows * kCols * 4;
    for (uint32_t megabytes : kMegabytes) {
      const uint64_t footprint = uint64_t(megabytes) * 1'000'000;
      if (footprint > pool_.size())
        break;
      // A step streams for tens of milliseconds, and bandwidth comes and goes: the median of many short stretches.
      constexpr size_t calls = 10;
      // The first half brings in what a cache keeps, which grows over several passes.
      const uint64_t passes = footprint <= kMayBeKept ? 8 : 2;
      const size_t stretches = std::max<size_t>(passes * footprint / (bytes * calls), 16);
      const auto gbs = [&](auto &&product) {
        std::vector<double> times;
        for (size_t i = 0; i < stretches; ++i) {
          const auto start = Clock::now();
          for (size_t call = 0; call < calls; ++call)
            product(cpu::Matrix{pool_.next(bytes, footprint), cpu::WeightType::F32, kRows, kCols, kCols});
          if (i >= stretches / 2)
            times.push_back(secondsSince(start));
        }
        return double(bytes * calls) / 1e9 / median(std::move(times));
      };
      figures.stream.emplace_back(megabytes, gbs([&](const cpu::Matrix &w) {
                                    cpu::linear(x_.data(), 1, w, nullptr, y_.data(), kRows, 0, kRows);
                                  }));
      figures.streamAll.emplace_back(megabytes, gbs([&](const cpu::Matrix &w) {
                                       threads_.parallelFor(kRows, 16, [&](int64_t begin, int64_t end) {
                                         cpu::linear(x_.data(), 1, w, nullptr, y_.data(), kRows, begin, end);
                                       });
                                     }));
    }
    // A larger working set is never read faster: a smaller one that seems slower was disturbed.
    for (auto *curve : {&figures.stream, &figures.streamAll})
      for (size_t i = curve->size(); i-- > 1;)
        (*curve)[i - 1].second = std::max((*curve)[i - 1].second, (*curve)[i].second);
  }

  void products(MachineFigures &figures) {
    const std::pair<const char *, cpu::WeightType> types[] = {
        {"F32", cpu::WeightType::F32}, {"F16", cpu::WeightType::F16}, {"BF16", cpu::WeightType::BF16}};
    for (auto [name, type] : types)
      for (uint32_t tokens : kTokens) {
        const bool all = tokens >= kManyTokens;
        const int64_t width = kCols * (type == cpu::WeightType::F32 ? 4 : 2);
        const int64_t rows = std::min(std::clamp<int64_t>(kRows * 64 / tokens, 256, kRows / 2) * (all ? cores_ : 1),
                                      static_cast<int64_t>(pool_.size()) / width);
        const uint64_t bytes = uint64_t(rows) * kCols * (type == cpu::WeightType::F32 ? 4 : 2);
        const double seconds = secondsOf(24, [&] {
          const cpu::Matrix w{pool_.next(bytes), type, rows, kCols, kCols};
          const auto part = [&](int64_t begin, int64_t end) {
            cpu::linear(x_.data(), tokens, w, nullptr, y_.data(), rows, begin, end);
          };
          all ? threads_.parallelFor(rows, 16, part) : part(0, rows);
        });
        figures.matrix[name].emplace_back(tokens,
                                          2.0 * double(rows) * kCols * tokens / seconds / 1e9 / (all ? cores_ : 1));
      }
  }

  // 16 query heads of 64 over 8 heads of keys and values.
  void attention(MachineFigures &figures) {
    constexpr int64_t heads = 16, kvHeads = 8, dim = 64, block = 16;
    const auto run = [&](uint32_t tokens, int64_t context, const void *memory) {
      std::vector<int32_t> table(static_cast<size_t>(context / block)), positions(tokens), sequences(tokens);
      for (size_t i = 0; i < table.size(); ++i)
        table[i] = static_cast<int32_t>(i);
      for (uint32_t t = 0; t < tokens; ++t)
        positions[t] = static_cast<int32_t>(context - tokens + t);
      // The kernel only reads: the view is not const as kvAppend's is not.
      const cpu::KvView view{static_cast<float *>(const_cast<void *>(memory)), kvHeads, block, dim};
      auto all = [&](uint32_t thread) { // each core the same: a token costs as much as it sees
        cpu::attention(x_.data(), view, {heads, .125f, 0, 0}, table.data(), static_cast<int64_t>(table.size()),
                       sequences.data(), positions.data(), y_.data() + thread * tokens * heads * dim, 0,
                       tokens * kvHeads);
      };
      const auto start = Clock::now();
      tokens >= kManyTokens ? threads_.forEachThread(all) : all(0);
      return secondsSince(start);
    };
    constexpr int64_t context = 512, longContext = 4096, token = 2 * kvHeads * dim * 4;
    const auto seenBy = [](uint32_t tokens) { return tokens * (double(context) - (tokens - 1) / 2.0); };
    const void *cached = pool_.next(context * token);
    for (uint32_t tokens : {1u, 64u, 512u}) {
      run(tokens, context, cached);
      std::vector<double> times;
      for (int i = 0; i < 16; ++i)
        times.push_back(run(tokens, context, cached));
      figures.attention.emplace_back(tokens, 4.0 * heads * dim * seenBy(tokens) / undisturbed(times) / 1e9);
    }
    std::vector<double> times;
    for (int i = 0; i < 16; ++i)
      times.push_back(run(1, longContext, pool_.next(longContext * token)));
    figures.cacheRead = double(longContext * token) / undisturbed(times) / 1e9;
  }

  void elementwise(MachineFigures &figures) {
    // Of a prefill's size, which leaves the nearest caches.
    constexpr int64_t n = kElements;
    const auto perCore = [&](auto work) {
      return double(n) / cores_ / 1e9 / secondsOf(16, [&] { threads_.parallelFor(n, 4096, work); });
    };
    float *a = y_.data(), *b = a + n, *out = b + n;
    figures.elementwise = 12 * perCore([=](int64_t begin, int64_t end) { cpu::add(a, b, out, begin, end); });
    figures.activation =
        perCore([=](int64_t begin, int64_t end) { cpu::glu(a, b, cpu::Activation::Silu, out, begin, end); });
  }

  void threads(MachineFigures &figures) {
    const std::vector<float> ones(64, 1);
    constexpr int calls = 200;
    const double small = secondsOf(40, [&] {
      for (int i = 0; i < calls; ++i)
        cpu::rmsNorm(x_.data(), ones.data(), 1e-5f, 64, y_.data(), 0, 1);
    });
    figures.instruction = small / calls * 1e6;
    const double fork = secondsOf(40, [&] {
      for (int i = 0; i < calls; ++i)
        threads_.forEachThread([](uint32_t) {});
    });
    figures.fork = cores_ > 1 ? fork / calls * 1e6 : 0;

    // A step begins and ends with a word to a thread that sleeps.
    std::mutex mutex;
    std::condition_variable changed;
    int turn = 0;
    bool stop = false;
    std::thread other([&] {
      pin(1);
      std::unique_lock lock(mutex);
      while (true) {
        changed.wait(lock, [&] { return stop || turn == 1; });
        if (stop)
          return;
        turn = 0;
        changed.notify_all();
      }
    });
    figures.step = 1e6 * secondsOf(201, [&] {
                     std::unique_lock lock(mutex);
                     turn = 1;
                     changed.notify_all();
                     changed.wait(lock, [&] { return turn == 0; });
                   });
    {
      std::lock_guard lock(mutex);
      stop = true;
    }
    changed.notify_all();
    other.join();
  }

  // Two ranks, each a thread with a core of its own where there are two.
  Status messages(MachineFigures &figures) {
    constexpr size_t kLarge = 256 * 1024;
    const std::vector<std::vector<CommGroup>> groups(2, {{"pair", {0, 1}}});
    auto ranks = connectInProcess(groups, {60, cores_ > 1, nullptr, nullptr});
    Status failures[2];
    double small = 0, large = 0, there = 0;
    const auto walk = [&](uint32_t self) -> Status {
      Communicator &me = *ranks[self];
      std::vector<float> data(kLarge, 1);
      uint32_t sequence = 0, message = 0;
      const auto reduce = [&](size_t count) {
        return me.allReduce({0, 0, sequence++, 0, "measured"}, data.data(), data.data(), count, plan::DType::F32,
                            plan::ReduceOp::Max);
      };
      DISTC_TRY(reduce(kLarge));
      const auto times = [&](int calls, auto call, double &seconds) -> Status {
        std::vector<double> all;
        for (int batch = 0; batch < 40; ++batch) {
          const auto start = Clock::now();
          for (int i = 0; i < calls; ++i)
            DISTC_TRY(call());
          all.push_back(secondsSince(start) / calls);
        }
        if (self == 0)
          seconds = undisturbed(std::move(all));
        return {};
      };
      const auto thereAndBack = [&]() -> Status {
        for (uint32_t sender : {0u, 1u}) {
          const CommCall call{0, 0, message++, 0, "measured"};
          DISTC_TRY(self == sender ? me.send(call, 1 - self, data.data(), 16, plan::DType::F32)
                                   : me.recv(call, 1 - self, data.data(), 16, plan::DType::F32));
        }
        return {};
      };
      DISTC_TRY(times(20, [&] { return reduce(16); }, small));
      DISTC_TRY(times(2, [&] { return reduce(kLarge); }, large));
      DISTC_TRY(times(20, thereAndBack, there));
      return {};
    };
    std::thread other([&] {
      pin(1);
      failures[1] = walk(1);
    });
    failures[0] = walk(0);
    other.join();
    for (const Status &failure : failures)
      DISTC_TRY(failure);
    figures.message = there / 2 * 1e6;
    figures.collective = small * 1e6;
    figures.collectiveBytes = kLarge * 4 / std::max(large - small, 1e-9) / 1e9; // 2 (n - 1) / n of the bytes, n = 2
    return {};
  }

  // A thread starts where the one that makes it may run.
  void pin(size_t thread) const {
    if (!pinned_.empty())
      pinThisThread(pinned_[thread % pinned_.size()]);
  }

  ThreadPool threads_;
  const uint32_t cores_;
  const std::vector<int> pinned_;
  Pool pool_;
  std::vector<float> x_ = std::vector<float>(512 * 1024, .5f), y_;
};

} // namespace

Result<MachineFigures> measureMachine(uint32_t rounds, const std::atomic<bool> &interrupted) {
  const uint32_t cores = usableCores();
  const std::vector<int> allowed = allowedCores();
  std::vector<MachineFigures> all;
  std::vector<double> reads;
  for (uint32_t i = 0; i < rounds; ++i) {
    if (interrupted)
      return cancelled("interrupted");
    reads.push_back(cpuReadBandwidth() / 1e9);
  }
  Status status;
  std::thread worker([&] { // like that of a rank
    status = [&]() -> Status {
      const bool pin = cores == allowed.size(); // as runtime/exec/Placement.cpp decides
      if (pin)
        pinThisThread(allowed[0]);
      Bench bench(cores, pin ? allowed : std::vector<int>());
      DISTC_TRY(bench.create());
      for (uint32_t i = 0; i < rounds; ++i) {
        DISTC_ASSIGN(MachineFigures figures, bench.round(interrupted));
        all.push_back(std::move(figures));
      }
      return {};
    }();
  });
  worker.join();
  DISTC_TRY(status);
  MachineFigures result = all[0];
  const auto medianOf = [&](auto member) {
    std::vector<double> values;
    for (MachineFigures &figures : all)
      values.push_back(member(figures));
    return median(values);
  };
  for (double MachineFigures::*figure :
       {&MachineFigures::cacheRead, &MachineFigures::elementwise, &MachineFigures::activation,
        &MachineFigures::instruction, &MachineFigures::fork, &MachineFigures::step, &MachineFigures::message,
        &MachineFigures::collective, &MachineFigures::collectiveBytes})
    result.*figure = medianOf([&](const MachineFigures &f) { return f.*figure; });
  const auto pointsOf = [&](auto member) {
    MachineFigures::Points &points = member(result);
    for (size_t i = 0; i < points.size(); ++i)
      points[i].second = medianOf([&](MachineFigures &f) { return member(f)[i].second; });
  };
  using Points = MachineFigures::Points;
  for (const auto &[type, points] : all[0].matrix)
    pointsOf([&type = type](MachineFigures &f) -> Points & { return f.matrix[type]; });
  pointsOf([](MachineFigures &f) -> Points & { return f.attention; });
  pointsOf([](MachineFigures &f) -> Points & { return f.stream; });
  pointsOf([](MachineFigures &f) -> Points & { return f.streamAll; });
  result.readAll = median(reads);
  result.memoryBytes = uint64_t(::sysconf(_SC_PHYS_PAGES)) * uint64_t(::sysconf(_SC_PAGESIZE));
  return result;
}

} // namespace distc
