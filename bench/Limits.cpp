#include "bench/Limits.h"

#include "benchmark/benchmark.h"

#include <chrono>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/Limits.cpp"
#include "hwy/foreach_target.h" // IWYU pragma: keep

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace distc::bench::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

uint32_t readAll(const uint32_t *data, size_t n) {
  const hn::ScalableTag<uint32_t> d;
  constexpr size_t lanes = hn::MaxLanes(d), streams = 8;
  auto sum = hn::Zero(d);
  // As many streams as `linear` has rows at a time would not be faster: one is what the prefetchers like best.
  for (size_t i = 0; i < n; i += streams * lanes) {
    auto part = hn::Load(d, data + i);
    for (size_t s = 1; s < streams; ++s)
      part = hn::Xor(part, hn::Load(d, data + i + s * lanes));
    sum = hn::Xor(sum, part);
  }
  return hn::GetLane(sum);
}

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
HWY_EXPORT(readAll);
HWY_EXPORT(multiplyAdd);

static double seconds(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double readBandwidth(const void *data, size_t bytes) {
  const auto start = std::chrono::steady_clock::now();
  benchmark::DoNotOptimize(HWY_DYNAMIC_DISPATCH(readAll)(static_cast<const uint32_t *>(data), bytes / 4));
  return double(bytes) / seconds(start);
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
