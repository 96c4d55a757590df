// The noise of sampling, as stated in Cpu.h. Included once per SIMD target.
#if defined(DISTC_KERNELS_CPU_GUMBEL_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef DISTC_KERNELS_CPU_GUMBEL_INL_H
#undef DISTC_KERNELS_CPU_GUMBEL_INL_H
#else
#define DISTC_KERNELS_CPU_GUMBEL_INL_H
#endif

#include "hwy/contrib/math/math-inl.h"
#include "kernels/cpu/Simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace distc::cpu::HWY_NAMESPACE {

using DU = hn::Rebind<uint32_t, DF>;
using VU = hn::Vec<DU>;

/// The finalizer of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
HWY_INLINE uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

/// "lowbias32" of C. Wellons' search for integer hashes (2018).
HWY_INLINE VU mix32(DU d, VU x) {
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(d, 0x7FEB352Du));
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<15>(x)), hn::Set(d, 0x846CA68Bu));
  return hn::Xor(x, hn::ShiftRight<16>(x));
}

struct GumbelNoise {
  uint32_t low;
  uint32_t high;

  explicit GumbelNoise(const SamplingRow &row) {
    const uint64_t key = mix64(row.seed ^ mix64(row.counter + 0x9E3779B97F4A7C15u));
    low = uint32_t(key);
    high = uint32_t(key >> 32);
  }

  /// v of each id: the chance that a noise is larger than the one that v gives.
  HWY_INLINE VF tail(DF d, VU ids) const {
    const DU du;
    const VU hash = mix32(du, hn::Add(mix32(du, hn::Xor(ids, hn::Set(du, low))), hn::Set(du, high)));
    const VF number = hn::ConvertTo(d, hn::BitCast(hn::Rebind<int32_t, DF>(), hn::ShiftRight<1>(hash)));
    const VF v = hn::Mul(hn::Add(number, hn::Set(d, 0.5f)), hn::Set(d, 0x1p-31f));
    return hn::Min(v, hn::Set(d, 1.0f - 0x1p-24f));
  }

  static HWY_INLINE VF ofTail(DF d, VF v) { return hn::Neg(hn::Log(d, hn::Neg(hn::Log1p(d, hn::Neg(v))))); }

  /// More than ofTail, at a tenth of its cost: -log(-log1p(-v)) < -log(v) <= -log(2) floor(log2(v)), and a margin for
  /// the rounding of the logarithms.
  static HWY_INLINE VF boundOfTail(DF d, VF v) {
    const hn::Rebind<int32_t, DF> di;
    const auto exponent = hn::Sub(hn::ShiftRight<23>(hn::BitCast(di, v)), hn::Set(di, 127));
    return hn::MulAdd(hn::ConvertTo(d, exponent), hn::Set(d, -0.6931472f), hn::Set(d, 0.001f));
  }
};

} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
