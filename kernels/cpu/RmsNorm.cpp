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

/// The row times `inverse` times the weights.
void normalize(const float *in, float inverse, const float *weight, float weightOffset, int64_t width, float *out) {
  const DF d;
  const VF factor = hn::Set(d, inverse), offset = hn::Set(d, weightOffset);
  forVectors(0, width, [&](int64_t i, size_t n) {
    store(hn::Mul(hn::Mul(load(d, in + i, n), factor), hn::Add(load(d, weight + i, n), offset)), d, out + i, n);
  });
}

void rmsNorm(const float *x, const float *weight, float eps, int64_t width, float *y, int64_t rowBegin, int64_t rowEnd,
             float weightOffset) {
  for (int64_t t = rowBegin; t < rowEnd; ++t)
    normalize(x + t * width, 1.0f / std::sqrt(sumOfSquares(x + t * width, width) / float(width) + eps), weight,
              weightOffset, width, y + t * width);
}

void squareSum(const float *x, int64_t width, float *out, int64_t outStride, int64_t rowBegin, int64_t rowEnd) {
  for (int64_t t = rowBegin; t < rowEnd; ++t)
    out[t * outStride] = sumOfSquares(x + t * width, width);
}

void rmsNormOfParts(const float *x, const Squares &squares, const float *weight, float eps, int64_t width, float *y,
                    int64_t rowBegin, int64_t rowEnd, float weightOffset) {
  for (int64_t t = rowBegin; t < rowEnd; ++t)
    normalize(x + t * width, 1.0f / std::sqrt(squares.data[t * squares.stride] / float(squares.elements) + eps), weight,
              weightOffset, width, y + t * width);
}

} // namespace
} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace distc::cpu {
HWY_EXPORT(rmsNorm);
HWY_EXPORT(squareSum);
HWY_EXPORT(rmsNormOfParts);

void rmsNorm(const float *x, const float *weight, float eps, int64_t width, float *y, int64_t rowBegin, int64_t rowEnd,
             float weightOffset) {
  HWY_DYNAMIC_DISPATCH(rmsNorm)(x, weight, eps, width, y, rowBegin, rowEnd, weightOffset);
}

void squareSum(const float *x, int64_t width, float *out, int64_t outStride, int64_t rowBegin, int64_t rowEnd) {
  HWY_DYNAMIC_DISPATCH(squareSum)(x, width, out, outStride, rowBegin, rowEnd);
}

void rmsNormOfParts(const float *x, const Squares &squares, const float *weight, float eps, int64_t width, float *y,
                    int64_t rowBegin, int64_t rowEnd, float weightOffset) {
  HWY_DYNAMIC_DISPATCH(rmsNormOfParts)(x, squares, weight, eps, width, y, rowBegin, rowEnd, weightOffset);
}
} // namespace distc::cpu
#endif
