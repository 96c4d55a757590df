// The block formats of GGUF as vectors of f32 (layouts: WeightType.h). decode(block, f) calls f(i, v) for the vectors
// of elements i, i + lanes, ... of a block, in order. Each value is one product and one sum: products of a scale and an
// element are exact in f32 (at most 11 + 7 + 5 bits), so fused or not, here or on a GPU, the bits are the same.
// Included once per target.
#if defined(DISTC_KERNELS_CPU_BLOCKS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef DISTC_KERNELS_CPU_BLOCKS_INL_H
#undef DISTC_KERNELS_CPU_BLOCKS_INL_H
#else
#define DISTC_KERNELS_CPU_BLOCKS_INL_H
#endif

#include "kernels/cpu/Simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace distc::cpu::HWY_NAMESPACE {

using DU32 = hn::Rebind<uint32_t, DF>;
using VU32 = hn::Vec<DU32>;
static_assert(16 % lanes == 0, "a vector lies in one half of a block's bytes");

/// An f16 at any address.
HWY_INLINE float halfAt(const uint8_t *p) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  uint16_t stored;
  std::memcpy(&stored, p, sizeof(stored));
  return _cvtsh_ss(stored);
#else
  const uint32_t bits = p[0] | uint32_t(p[1]) << 8;
  const uint32_t magnitude = (bits & 0x7FFF) << 13, sign = (bits & 0x8000) << 16;
  // Exponent and mantissa at their place in f32 are the value times 2^-112.
  float value;
  std::memcpy(&value, &magnitude, sizeof(value));
  value *= 0x1p112f;
  uint32_t out;
  std::memcpy(&out, &value, sizeof(out));
  out = sign | (magnitude < 0x7C00u << 13 ? out : magnitude | 0x7F800000u);
  std::memcpy(&value, &out, sizeof(value));
  return value;
#endif
}

HWY_INLINE VU32 bytesAt(const uint8_t *p) { return hn::PromoteTo(DU32(), hn::LoadU(hn::Rebind<uint8_t, DF>(), p)); }
HWY_INLINE VF asFloat(VU32 q) { return hn::ConvertTo(DF(), hn::BitCast(hn::Rebind<int32_t, DF>(), q)); }
template <int Shift> HWY_INLINE VU32 bits(VU32 q, uint32_t mask) {
  return hn::And(hn::ShiftRight<Shift>(q), hn::Set(DU32(), mask));
}
/// f(std::integral_constant<size_t, i>()) for i < N: shifts are by constants.
template <size_t N, size_t I = 0, class F> HWY_INLINE void unrolled(F f) {
  if constexpr (I < N) {
    f(std::integral_constant<size_t, I>());
    unrolled<N, I + 1>(f);
  }
}

struct BlockQ8_0 {
  static constexpr size_t elements = 32, bytes = 34;
  template <class F> static HWY_INLINE void decode(const uint8_t *block, F f) {
    const DF d;
    const VF scale = hn::Set(d, halfAt(block));
    const auto *q = reinterpret_cast<const int8_t *>(block + 2);
    for (size_t i = 0; i < elements; i += lanes) {
      const auto wide = hn::PromoteTo(hn::Rebind<int32_t, DF>(), hn::LoadU(hn::Rebind<int8_t, DF>(), q + i));
      f(i, hn::Mul(scale, hn::ConvertTo(d, wide)));
    }
  }
};

/// The types of 4 and 5 bits: with a minimum or with a zero point in the middle.
template <bool HasMinimum, bool HasFifth> struct BlockNibbles {
  static constexpr size_t head = HasMinimum ? 4 : 2, elements = 32, bytes = head + (HasFifth ? 4 : 0) + 16;
  template <class F> static HWY_INLINE void decode(const uint8_t *block, F f) {
    const DF d;
    const float d0 = halfAt(block);
    const VF scale = hn::Set(d, d0);
    const VF minimum = hn::Set(d, HasMinimum ? halfAt(block + 2) : d0 * (HasFifth ? -16.0f : -8.0f));
    const uint8_t *q = block + bytes - 16;
    [[maybe_unused]] uint32_t fifth = 0;
    if constexpr (HasFifth)
      std::memcpy(&fifth, block + head, sizeof(fifth));
    const auto emit = [&](size_t i, VU32 v) HWY_ATTR {
      if constexpr (HasFifth) {
        // Bit i + k of `fifth`, at lane k, becomes bit 4.
        const VU32 own = hn::Shr(hn::Set(DU32(), fifth >> i), hn::Iota(DU32(), 0));
        v = hn::Or(v, hn::ShiftLeft<4>(hn::And(own, hn::Set(DU32(), 1))));
      }
      f(i, hn::MulAdd(asFloat(v), scale, minimum));
    };
    for (size_t i = 0; i < 16; i += lanes)
      emit(i, bits<0>(bytesAt(q + i), 15));
    for (size_t i = 0; i < 16; i += lanes)
      emit(16 + i, hn::ShiftRight<4>(bytesAt(q + i)));
  }
};
using BlockQ4_0 = BlockNibbles<false, false>;
using BlockQ4_1 = BlockNibbles<true, false>;
using BlockQ5_0 = BlockNibbles<false, true>;
using BlockQ5_1 = BlockNibbles<true, true>;

/// Elements 128 n + 32 j + l have bits 2 j of byte 32 n + l, and scale 8 n + 2 j + l / 16.
struct BlockQ2_K {
  static constexpr size_t elements = 256, bytes = 84;
  template <class F> static HWY_INLINE void decode(const uint8_t *block, F f) {
    const DF d;
    const float d0 = halfAt(block + 80), m0 = halfAt(block + 82);
    for (size_t n = 0; n < 2; ++n)
      unrolled<4>([&](auto j) HWY_ATTR {
        for (size_t l = 0; l < 32; l += 16) {
          const uint8_t s = block[8 * n + 2 * j + l / 16];
          const VF scale = hn::Set(d, d0 * float(s & 15)), minimum = hn::Set(d, -m0 * float(s >> 4));
          for (size_t k = l; k < l + 16; k += lanes)
            f(128 * n + 32 * j + k,
              hn::MulAdd(asFloat(bits<2 * j>(bytesAt(block + 16 + 32 * n + k), 3)), scale, minimum));
        }
      });
  }
};

/// As Q2_K; bit 4 n + j of byte h[l] is the third. Scale i: the low bits are a half of byte i % 8 (the high half from 8
/// on), the upper two are bits 2 (i / 4) of byte 8 + i % 4.
struct BlockQ3_K {
  static constexpr size_t elements = 256, bytes = 110;
  template <class F> static HWY_INLINE void decode(const uint8_t *block, F f) {
    const DF d;
    const uint8_t *q = block + 32, *s = block + 96;
    const float d0 = halfAt(block + 108);
    unrolled<8>([&](auto nj) HWY_ATTR {
      constexpr size_t n = nj / 4, j = nj % 4;
      for (size_t l = 0; l < 32; l += 16) {
        const size_t g = 2 * nj + l / 16;
        const int low = n == 0 ? s[g] & 15 : s[g - 8] >> 4, high = s[8 + g % 4] >> (2 * (g / 4)) & 3;
        const float own = d0 * float((low | high << 4) - 32);
        const VF scale = hn::Set(d, own), zero = hn::Set(d, -4.0f * own);
        for (size_t k = l; k < l + 16; k += lanes) {
          const VU32 two = bits<2 * j>(bytesAt(q + 32 * n + k), 3), third = bits<nj>(bytesAt(block + k), 1);
          f(32 * nj + k, hn::MulAdd(asFloat(hn::Or(two, hn::ShiftLeft<2>(third))), scale, zero));
        }
      }
    });
  }
};

/// Elements 64 n + 32 j + l have the low (j = 0) or high half of byte 32 n + l, and pair 2 n + j. Pair i < 4: the low
/// six bits of bytes i and i + 4; from 4 on: the halves of byte i + 4, and the upper two bits of bytes i - 4 and i. Of
/// Q5_K bit 2 n + j of h[l] is the fifth.
template <bool HasFifth> struct BlockPairs {
  static constexpr size_t elements = 256, bytes = 144 + (HasFifth ? 32 : 0);
  template <class F> static HWY_INLINE void decode(const uint8_t *block, F f) {
    const DF d;
    const uint8_t *s = block + 4, *h = block + 16, *q = block + bytes - 128;
    const float d0 = halfAt(block), m0 = halfAt(block + 2);
    unrolled<8>([&](auto g) HWY_ATTR {
      constexpr bool isFirst = g < 4;
      constexpr size_t before = isFirst ? 0 : g - 4;
      const int own = isFirst ? s[g] & 63 : (s[g + 4] & 15) | s[before] >> 6 << 4;
      const int least = isFirst ? s[g + 4] & 63 : s[g + 4] >> 4 | s[g] >> 6 << 4;
      const VF scale = hn::Set(d, d0 * float(own)), minimum = hn::Set(d, -m0 * float(least));
      for (size_t k = 0; k < 32; k += lanes) {
        VU32 v = bits<g % 2 * 4>(bytesAt(q + g / 2 * 32 + k), 15);
        if constexpr (HasFifth)
          v = hn::Or(v, hn::ShiftLeft<4>(bits<g>(bytesAt(h + k), 1)));
        f(32 * g + k, hn::MulAdd(asFloat(v), scale, minimum));
      }
    });
  }
};
using BlockQ4_K = BlockPairs<false>;
using BlockQ5_K = BlockPairs<true>;

/// Elements 128 n + 32 j + l have a half (the high one for j of 2 and 3) of byte 64 n + 32 (j % 2) + l, bits 2 j of
/// byte h[32 n + l], and scale 8 n + 2 j + l / 16.
struct BlockQ6_K {
  static constexpr size_t elements = 256, bytes = 210;
  template <class F> static HWY_INLINE void decode(const uint8_t *block, F f) {
    const DF d;
    const uint8_t *h = block + 128;
    const float d0 = halfAt(block + 208);
    for (size_t n = 0; n < 2; ++n)
      unrolled<4>([&](auto j) HWY_ATTR {
        for (size_t l = 0; l < 32; l += 16) {
          const float own = d0 * float(static_cast<int8_t>(block[192 + 8 * n + 2 * j + l / 16]));
          const VF scale = hn::Set(d, own), zero = hn::Set(d, -32.0f * own);
          for (size_t k = l; k < l + 16; k += lanes) {
            const VU32 four = bits<j / 2 * 4>(bytesAt(block + 64 * n + j % 2 * 32 + k), 15);
            const VU32 two = bits<2 * j>(bytesAt(h + 32 * n + k), 3);
            f(128 * n + 32 * j + k, hn::MulAdd(asFloat(hn::Or(four, hn::ShiftLeft<4>(two))), scale, zero));
          }
        }
      });
  }
};

/// Calls f(Block()) with the format of a quantized type.
template <class F> HWY_INLINE void withBlock(WeightType type, F f) {
  switch (type) {
  case WeightType::Q8_0:
    return f(BlockQ8_0());
  case WeightType::Q4_0:
    return f(BlockQ4_0());
  case WeightType::Q4_1:
    return f(BlockQ4_1());
  case WeightType::Q5_0:
    return f(BlockQ5_0());
  case WeightType::Q5_1:
    return f(BlockQ5_1());
  case WeightType::Q2_K:
    return f(BlockQ2_K());
  case WeightType::Q3_K:
    return f(BlockQ3_K());
  case WeightType::Q4_K:
    return f(BlockQ4_K());
  case WeightType::Q5_K:
    return f(BlockQ5_K());
  case WeightType::Q6_K:
    return f(BlockQ6_K());
  case WeightType::F32:
  case WeightType::F16:
  case WeightType::BF16:
    return;
  }
}

} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
