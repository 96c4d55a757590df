// What the kernels share for each SIMD target: loads of weights as f32, partial vectors. Included once per target.
#if defined(DISTC_KERNELS_CPU_SIMD_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef DISTC_KERNELS_CPU_SIMD_INL_H
#undef DISTC_KERNELS_CPU_SIMD_INL_H
#else
#define DISTC_KERNELS_CPU_SIMD_INL_H
#endif

#include "distc/kernels/Cpu.h"
#include "hwy/highway.h"

#include <cstddef>
#include <cstring>
#include <type_traits>

HWY_BEFORE_NAMESPACE();
namespace distc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;

inline constexpr size_t lanes = hn::MaxLanes(DF());

HWY_INLINE VF loadF32(DF d, const float *p) { return hn::LoadU(d, p); }

HWY_INLINE VF loadF32(DF d, const hwy::bfloat16_t *p) {
  const hn::Rebind<uint16_t, DF> d16;
  const hn::Rebind<uint32_t, DF> d32;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t *>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}

HWY_INLINE VF loadF32(DF d, const hwy::float16_t *p) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<hwy::float16_t, DF>(), p));
#else
  // Exponent and mantissa moved to their place in f32 are the value times 2^-112, also when it is subnormal; the
  // emulation in Highway does not know infinities.
  const hn::Rebind<uint16_t, DF> d16;
  const hn::Rebind<uint32_t, DF> d32;
  const auto bits = hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t *>(p)));
  const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(d32, 0x7FFFu)));
  const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(d32, 0x8000u)));
  const auto finite = hn::BitCast(d32, hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1p112f)));
  const auto special = hn::Or(magnitude, hn::Set(d32, 0x7F800000u));
  const auto isFinite = hn::Lt(magnitude, hn::Set(d32, 0x7C00u << 13));
  return hn::BitCast(d, hn::Or(sign, hn::IfThenElse(isFinite, finite, special)));
#endif
}

/// The first n < lanes elements, zeros after them; nothing behind them is read.
template <class T> HWY_INLINE VF loadPartial(DF d, const T *p, size_t n) {
  HWY_ALIGN T padded[lanes] = {};
  std::memcpy(padded, p, n * sizeof(T));
  return loadF32(d, padded);
}

HWY_INLINE void storePartial(VF v, DF d, float *p, size_t n) {
  HWY_ALIGN float padded[lanes];
  hn::Store(v, d, padded);
  std::memcpy(p, padded, n * sizeof(float));
}

HWY_INLINE float sumOfLanes(DF d, VF v) { return hn::GetLane(hn::SumOfLanes(d, v)); }

#if HWY_TARGET != HWY_SCALAR
/// Stores the sum of the blocks of 128 bits.
template <class D> HWY_INLINE void storeSumOfBlocks(D d, hn::Vec<D> v, float *out) {
  if constexpr (hn::MaxLanes(D()) == 4) {
    hn::StoreU(v, d, out);
  } else {
    const hn::Half<D> half;
    storeSumOfBlocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)), out);
  }
}
#endif

/// out[i] = the sum of the lanes of v[i], four at a time: half the work of four sums, and the same additions for each.
HWY_INLINE void sumsOfLanes(DF d, VF a, VF b, VF c, VF e, float *out) {
#if HWY_TARGET == HWY_SCALAR
  const VF values[] = {a, b, c, e};
  for (size_t i = 0; i < 4; ++i)
    out[i] = hn::GetLane(values[i]);
#else
  // Blocks of 128 bits: (a0+a2, b0+b2, a1+a3, b1+b3), then (a, b, c, e); then the blocks are added up.
  const hn::Repartition<uint64_t, DF> d64;
  const VF ab = hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
  const VF ce = hn::Add(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e));
  const auto ab64 = hn::BitCast(d64, ab), ce64 = hn::BitCast(d64, ce);
  const VF blocks = hn::Add(hn::BitCast(d, hn::InterleaveLower(d64, ab64, ce64)),
                            hn::BitCast(d, hn::InterleaveUpper(d64, ab64, ce64)));
  storeSumOfBlocks(d, blocks, out);
#endif
}

/// y[n] = the sum of the lanes of sums[n] + bias[n].
HWY_INLINE void total(const float *sums, size_t count, const float *bias, float *y) {
  const DF d;
  for (size_t n = 0; n < count; n += 4) {
    const auto vector = [&](size_t i)
                            HWY_ATTR { return n + i < count ? hn::Load(d, sums + (n + i) * lanes) : hn::Zero(d); };
    float totals[4];
    sumsOfLanes(d, vector(0), vector(1), vector(2), vector(3), totals);
    for (size_t i = 0; i < 4 && n + i < count; ++i)
      y[n + i] = bias ? totals[i] + bias[n + i] : totals[i];
  }
}

/// Calls f(T()) with the element type of a weight that is not quantized.
template <class F> HWY_INLINE void withElement(WeightType type, F f) {
  switch (type) {
  case WeightType::F32:
    return f(float());
  case WeightType::F16:
    return f(hwy::float16_t());
  case WeightType::BF16:
    return f(hwy::bfloat16_t());
  default:
    return;
  }
}

/// Calls f(std::integral_constant<size_t, n>()), 1 <= n <= Max.
template <size_t Max, class F> HWY_INLINE void withConstant(size_t n, F f) {
  if constexpr (Max > 1) {
    if (n < Max)
      return withConstant<Max - 1>(n, f);
  }
  f(std::integral_constant<size_t, Max>());
}

/// The vectors of [begin, end): f(i, lanes) for whole ones, f(i, n) with n < lanes for the last.
template <class F> HWY_INLINE void forVectors(int64_t begin, int64_t end, F f) {
  int64_t i = begin;
  for (; i + int64_t(lanes) <= end; i += lanes)
    f(i, lanes);
  if (i < end)
    f(i, size_t(end - i));
}

template <class T> HWY_INLINE VF load(DF d, const T *p, size_t n) {
  return HWY_LIKELY(n == lanes) ? loadF32(d, p) : loadPartial(d, p, n);
}

HWY_INLINE void store(VF v, DF d, float *p, size_t n) {
  if (HWY_LIKELY(n == lanes))
    hn::StoreU(v, d, p);
  else
    storePartial(v, d, p, n);
}

} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
