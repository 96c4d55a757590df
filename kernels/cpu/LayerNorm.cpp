// Ba, Kiros, Hinton: Layer Normalization, arXiv:1607.06450. The variance is that of the differences, since squares of
// values far from 0 would cancel.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/LayerNorm.cpp"
#include "hwy/foreach_target.h" // IWYU pragma: keep

#include "kernels/cpu/Simd-inl.h"

#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace distc::cpu::HWY_NAMESPACE {
namespace {

// The sum of f(x[i]); in four parts, as the latency of one chain of additions would be four times the time of the
// loads.
template <class F> HWY_INLINE float sumOf(const float *x, int64_t width, F f) {
  const DF d;
  VF sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  int64_t i = 0;
  for (; i + 4 * int64_t(lanes) <= width; i += 4 * lanes) {
    sum0 = hn::Add(f(hn::LoadU(d, x + i)), sum0);
    sum1 = hn::Add(f(hn::LoadU(d, x + i + lanes)), sum1);
    sum2 = hn::Add(f(hn::LoadU(d, x + i + 2 * lanes)), sum2);
    sum3 = hn::Add(f(hn::LoadU(d, x + i + 3 * lanes)), sum3);
  }
  float tail = 0;
  forVectors(i, width, [&](int64_t j, size_t n) HWY_ATTR {
    HWY_ALIGN float values[lanes];
    hn::Store(f(load(d, x + j, n)), d, values);
    for (size_t k = 0; k < n; ++k)
      tail += values[k];
  });
  return sumOfLanes(d, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3))) + tail;
}

void layerNorm(const float *x, const float *weight, const float *bias, float eps, int64_t width, float *y,
               int64_t rowBegin, int64_t rowEnd) {
  const DF d;
  for (int64_t t = rowBegin; t < rowEnd; ++t) {
    const float *in = x + t * width;
    float *out = y + t * width;
    const VF mean = hn::Set(d, sumOf(in, width, [](VF v) HWY_ATTR { return v; }) / float(width));
    const float squares = sumOf(in, width, [mean](VF v) HWY_ATTR {
      const VF difference = hn::Sub(v, mean);
      return hn::Mul(difference, difference);
    });
    const VF inverse = hn::Set(d, 1.0f / std::sqrt(squares / float(width) + eps));
    forVectors(0, width, [&](int64_t i, size_t n) HWY_ATTR {
      const VF normal = hn::Mul(hn::Mul(hn::Sub(load(d, in + i, n), mean), inverse), load(d, weight + i, n));
      store(bias ? hn::Add(normal, load(d, bias + i, n)) : normal, d, out + i, n);
    });
  }
}

} // namespace
} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace distc::cpu {
HWY_EXPORT(layerNorm);

void layerNorm(const float *x, const float *weight, const float *bias, float eps, int64_t width, float *y,
               int64_t rowBegin, int64_t rowEnd) {
  HWY_DYNAMIC_DISPATCH(layerNorm)(x, weight, bias, eps, width, y, rowBegin, rowEnd);
}
} // namespace distc::cpu
#endif
