#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/Rope.cpp"
#include "hwy/foreach_target.h" // IWYU pragma: keep

#include "kernels/cpu/Simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace distc::cpu::HWY_NAMESPACE {
namespace {

HWY_INLINE void loadPairs(DF d, const float *p, size_t n, VF &first, VF &second) {
  HWY_ALIGN float padded[2 * lanes] = {};
  if (n < lanes) {
    std::memcpy(padded, p, 2 * n * sizeof(float));
    p = padded;
  }
  hn::LoadInterleaved2(d, p, first, second);
}

HWY_INLINE void storePairs(VF first, VF second, DF d, float *p, size_t n) {
  if (n == lanes)
    return hn::StoreInterleaved2(first, second, d, p);
  HWY_ALIGN float padded[2 * lanes];
  hn::StoreInterleaved2(first, second, d, padded);
  std::memcpy(p, padded, 2 * n * sizeof(float));
}

void rope(const float *x, const int32_t *positions, const float *cosSin, int64_t heads, int64_t headDim,
          int64_t rotated, RopeStyle style, float *y, int64_t rowBegin, int64_t rowEnd) {
  const DF d;
  const int64_t half = rotated / 2;
  for (int64_t t = rowBegin; t < rowEnd; ++t) {
    const float *angles = cosSin + positions[t] * rotated;
    for (int64_t h = 0; h < heads; ++h) {
      const float *in = x + (t * heads + h) * headDim;
      float *out = y + (t * heads + h) * headDim;
      forVectors(0, half, [&](int64_t i, size_t n) {
        VF cos, sin, a, b;
        loadPairs(d, angles + 2 * i, n, cos, sin);
        if (style == RopeStyle::Half) {
          a = load(d, in + i, n);
          b = load(d, in + half + i, n);
        } else {
          loadPairs(d, in + 2 * i, n, a, b);
        }
        const VF rotatedA = hn::NegMulAdd(b, sin, hn::Mul(a, cos));
        const VF rotatedB = hn::MulAdd(a, sin, hn::Mul(b, cos));
        if (style == RopeStyle::Half) {
          store(rotatedA, d, out + i, n);
          store(rotatedB, d, out + half + i, n);
        } else {
          storePairs(rotatedA, rotatedB, d, out + 2 * i, n);
        }
      });
      if (out != in)
        std::memcpy(out + rotated, in + rotated, (headDim - rotated) * sizeof(float));
    }
  }
}

} // namespace
} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace distc::cpu {
HWY_EXPORT(rope);

void rope(const float *x, const int32_t *positions, const float *cosSin, int64_t heads, int64_t headDim,
          int64_t rotated, RopeStyle style, float *y, int64_t rowBegin, int64_t rowEnd) {
  HWY_DYNAMIC_DISPATCH(rope)(x, positions, cosSin, heads, headDim, rotated, style, y, rowBegin, rowEnd);
}
} // namespace distc::cpu
#endif
