#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/RmsNorm.cpp"
#include "hwy/foreach_target.h" // IWYU pragma: keep

#include "kernels/cpu/Simd-inl.h"

#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace distc::cpu::HWY_NAMESPACE {
namespace {

// Four sums: the latency of one chain of additions would be four times the time of the loads.
float sumOfSquares(const float *x, int64_t width) {
  const DF d;
  VF sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  int64_t i = 0;
  for (; i + 4 * int64_t(lanes) <= width; i += 4 * lanes) {
    const VF a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + lanes);
    const VF c = hn::LoadU(d, x + i + 2 * lanes), e = hn::LoadU(d, x + i + 3 * lanes);
    sum0 = hn::MulAdd(a, a, sum0);
    sum1 = hn::MulAdd(b, b, sum1);
    sum2 = hn::MulAdd(c, c, sum2);
    sum3 = hn::MulAdd(e, e, sum3);
  }
  forVectors(i, width, [&](int64_t j, size_t n) {
    const VF a = load(d, x + j, n);
    sum0 = hn::MulAdd(a, a, sum0);
  });
  return sumOfLanes(d, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3)));
}

void rmsNorm(const float *x, const float *weight, float eps, int64_t width, float *y, int64_t rowBegin,
             int64_t rowEnd) {
  const DF d;
  for (int64_t t = rowBegin; t < rowEnd; ++t) {
    const float *in = x + t * width;
    float *out = y + t * width;
    const VF inverse = hn::Set(d, 1.0f / std::sqrt(sumOfSquares(in, width) / float(width) + eps));
    forVectors(0, width, [&](int64_t i, size_t n) {
      store(hn::Mul(hn::Mul(load(d, in + i, n), inverse), load(d, weight + i, n)), d, out + i, n);
    });
  }
}

} // namespace
} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace distc::cpu {
HWY_EXPORT(rmsNorm);

void rmsNorm(const float *x, const float *weight, float eps, int64_t width, float *y, int64_t rowBegin,
             int64_t rowEnd) {
  HWY_DYNAMIC_DISPATCH(rmsNorm)(x, weight, eps, width, y, rowBegin, rowEnd);
}
} // namespace distc::cpu
#endif
