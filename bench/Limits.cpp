#include "bench/Limits.h"

#include "benchmark/benchmark.h"

#include <algorithm>
#include <chrono>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/Limits.cpp"
#include "hwy/foreach_target.h" // IWYU pragma: keep

#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace distc::bench::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

/// Reads n elements as so many streams at once.
template <size_t streams> uint32_t readStreams(const uint32_t *data, size_t n) {
  const hn::ScalableTag<uint32_t> d;
  const size_t length = n / streams;
  auto sum = hn::Zero(d);
  for (size_t i = 0; i < length; i += 64 / sizeof(uint32_t))
    for (size_t s = 0; s < streams; ++s)
      for (size_t j = 0; j < 64 / sizeof(uint32_t); j += hn::MaxLanes(d)) {
        hwy::Prefetch(data + s * length + i + 256);
        sum = hn::Xor(sum, hn::Load(d, data + s * length + i + j));
      }
  return hn::GetLane(sum);
}

uint32_t readOneStream(const uint32_t *data, size_t n) { return readStreams<1>(data, n); }
uint32_t readFourStreams(const uint32_t *data, size_t n) { return readStreams<4>(data, n); }

float multiplyAdd(size_t rounds, float &lanesOut) {
  const hn::ScalableTag<float> d;
  constexpr size_t chains = 12;
  lanesOut = float(hn::MaxLanes(d) * chains);
  hn::Vec<decltype(d)> sum[chains];
  for (auto &s : sum)
    s = hn::Zero(d);
  const auto a = hn::Set(d, lanesOut * 1e-9f), b = hn::Set(d, 0.99f);
  for (size_t i = 0; i < rounds; ++i)
    for (auto &s : sum)
      s = hn::MulAdd(s, b, a);
  auto total = hn::Zero(d);
  for (auto &s : sum)
    total = hn::Add(total, s);
  return hn::GetLane(total);
}

} // namespace
} // namespace distc::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace distc::bench {
HWY_EXPORT(readOneStream);
HWY_EXPORT(readFourStreams);
HWY_EXPORT(multiplyAdd);

static double seconds(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double readBandwidth(const void *data, size_t bytes) {
  const auto *words = static_cast<const uint32_t *>(data);
  const auto start = std::chrono::steady_clock::now();
  benchmark::DoNotOptimize(HWY_DYNAMIC_DISPATCH(readOneStream)(words, bytes / 4));
  const double one = seconds(start);
  const auto middle = std::chrono::steady_clock::now();
  benchmark::DoNotOptimize(HWY_DYNAMIC_DISPATCH(readFourStreams)(words, bytes / 4));
  return double(bytes) / std::min(one, seconds(middle));
}

double fmaPeak() {
  const size_t rounds = 20000000;
  float lanes = 0;
  const auto start = std::chrono::steady_clock::now();
  benchmark::DoNotOptimize(HWY_DYNAMIC_DISPATCH(multiplyAdd)(rounds, lanes));
  return 2.0 * lanes * double(rounds) / seconds(start);
}
} // namespace distc::bench
#endif
