// Types of weights, and the block formats of GGUF among them. In those the elements of a row lie in blocks, each with
// scales of its own; a block is a run of bytes at any address. d and m are f16 (little-endian), all else bytes; bit
// fields are unsigned, the lowest bits first. Source of the layouts: ggml, src/ggml-common.h and ggml-quants.c
// (https://github.com/ggml-org/ggml).
//
//   Q8_0  32 elements   d, i8 q[32]                                          d q
//   Q4_0  32            d, u8 q[16]                                          d (q - 8)
//   Q4_1  32            d, m, u8 q[16]                                       d q + m
//   Q5_0  32            d, u32 h, u8 q[16]                                   d (q - 16)
//   Q5_1  32            d, m, u32 h, u8 q[16]                                d q + m
//     of 4 and 5 bits: the low halves of the bytes q are elements 0 to 15, the high ones 16 to 31; bit i of h is the
//     fifth of element i
//   Q2_K  256           u8 s[16], u8 q[64], d, m                             d (s & 15) q - m (s >> 4)
//   Q3_K  256           u8 h[32], u8 q[64], s (16 of 6 bits), d              d (s - 32) (q - 4)
//   Q4_K  256           d, m, s (8 pairs of 6 bits), u8 q[128]               d s q - m t
//   Q5_K  256           d, m, s (8 pairs of 6 bits), u8 h[32], u8 q[128]     d s q - m t
//   Q6_K  256           u8 q[128], u8 h[64], i8 s[16], d                     d s (q - 32)
//     a scale is for 16 elements (Q2_K, Q3_K, Q6_K), a pair s, t for 32 (Q4_K, Q5_K); the places of bits:
//     docs/plan-format.md
#pragma once

#include <cstdint>

namespace distc {

enum class WeightType : uint8_t { F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K };

constexpr bool isQuantized(WeightType type) { return type >= WeightType::Q8_0; }

/// 1 where elements stand alone.
constexpr int64_t blockElements(WeightType type) {
  return !isQuantized(type) ? 1 : type <= WeightType::Q5_1 ? 32 : 256;
}

/// Bytes of a block.
constexpr int64_t blockBytes(WeightType type) {
  constexpr int64_t bytes[] = {4, 2, 2, 34, 18, 20, 22, 24, 84, 110, 144, 176, 210};
  return bytes[static_cast<int>(type)];
}

} // namespace distc
