// Quantized blocks for tests: random ones, and what they stand for, element by element as the layouts say
// (WeightType.h).
#pragma once

#include "distc/kernels/WeightType.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <random>
#include <vector>

namespace distc::reference {

inline constexpr WeightType kQuantizedTypes[] = {WeightType::Q8_0, WeightType::Q4_0, WeightType::Q4_1, WeightType::Q5_0,
                                                 WeightType::Q5_1, WeightType::Q2_K, WeightType::Q3_K, WeightType::Q4_K,
                                                 WeightType::Q5_K, WeightType::Q6_K};

inline double halfValue(const uint8_t *p) {
  const unsigned bits = p[0] | p[1] << 8, exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double magnitude =
      exponent ? std::ldexp(1024.0 + mantissa, int(exponent) - 25) : std::ldexp(double(mantissa), -24);
  return bits & 0x8000 ? -magnitude : magnitude;
}

/// The places of the f16 fields of a block.
inline std::vector<int> halvesOf(WeightType type) {
  switch (type) {
  case WeightType::Q2_K:
    return {80, 82};
  case WeightType::Q3_K:
    return {108};
  case WeightType::Q6_K:
    return {208};
  case WeightType::Q4_1:
  case WeightType::Q5_1:
  case WeightType::Q4_K:
  case WeightType::Q5_K:
    return {0, 2};
  default:
    return {0};
  }
}

/// Blocks of random bytes; their f16 fields are of either sign and between 2^-9 and 2^-3, some 0.
template <class Random> std::vector<uint8_t> randomBlocks(WeightType type, int64_t blocks, Random &random) {
  std::uniform_int_distribution<int> byte(0, 255);
  std::vector<uint8_t> bytes(size_t(blocks * blockBytes(type)));
  std::generate(bytes.begin(), bytes.end(), [&] { return uint8_t(byte(random)); });
  for (int64_t b = 0; b < blocks; ++b)
    for (int at : halvesOf(type)) {
      uint8_t *field = &bytes[size_t(b * blockBytes(type) + at)];
      field[1] = byte(random) < 8 ? 0 : uint8_t((field[1] & 0x83) | (6 + byte(random) % 6) << 2);
      field[0] = field[1] ? field[0] : 0;
    }
  return bytes;
}

/// Element e of a block, in double precision.
inline double blockValue(WeightType type, const uint8_t *b, int e) {
  const auto nibble = [&](const uint8_t *q) { return e < 16 ? q[e] & 15 : q[e - 16] >> 4; };
  const auto fifth = [&](const uint8_t *h) { return (h[e / 8] >> e % 8 & 1) << 4; };
  const int n = e / 128, j = e % 128 / 32, l = e % 32, g = e / 16;
  switch (type) {
  case WeightType::Q8_0:
    return halfValue(b) * int8_t(b[2 + e]);
  case WeightType::Q4_0:
    return halfValue(b) * (nibble(b + 2) - 8);
  case WeightType::Q4_1:
    return halfValue(b) * nibble(b + 4) + halfValue(b + 2);
  case WeightType::Q5_0:
    return halfValue(b) * ((nibble(b + 6) | fifth(b + 2)) - 16);
  case WeightType::Q5_1:
    return halfValue(b) * (nibble(b + 8) | fifth(b + 4)) + halfValue(b + 2);
  case WeightType::Q2_K:
    return halfValue(b + 80) * (b[g] & 15) * (b[16 + 32 * n + l] >> 2 * j & 3) - halfValue(b + 82) * (b[g] >> 4);
  case WeightType::Q3_K: {
    const uint8_t *s = b + 96;
    const int scale = (g < 8 ? s[g] & 15 : s[g - 8] >> 4) | (s[8 + g % 4] >> 2 * (g / 4) & 3) << 4;
    const int q = (b[32 + 32 * n + l] >> 2 * j & 3) | (b[l] >> (4 * n + j) & 1) << 2;
    return halfValue(b + 108) * (scale - 32) * (q - 4);
  }
  case WeightType::Q4_K:
  case WeightType::Q5_K: {
    const bool isFive = type == WeightType::Q5_K;
    const uint8_t *s = b + 4, *q = b + (isFive ? 48 : 16);
    const int p = e / 32;
    const int scale = p < 4 ? s[p] & 63 : (s[p + 4] & 15) | s[p - 4] >> 6 << 4;
    const int least = p < 4 ? s[p + 4] & 63 : s[p + 4] >> 4 | s[p] >> 6 << 4;
    int v = p % 2 ? q[32 * (p / 2) + l] >> 4 : q[32 * (p / 2) + l] & 15;
    v += isFive && b[16 + l] >> p & 1 ? 16 : 0;
    return halfValue(b) * scale * v - halfValue(b + 2) * least;
  }
  case WeightType::Q6_K: {
    const uint8_t low = b[64 * n + 32 * (j % 2) + l];
    const int q = (j < 2 ? low & 15 : low >> 4) | (b[128 + 32 * n + l] >> 2 * j & 3) << 4;
    return halfValue(b + 208) * int8_t(b[192 + g]) * (q - 32);
  }
  default:
    return 0;
  }
}

inline std::vector<float> dequantized(WeightType type, const std::vector<uint8_t> &blocks) {
  std::vector<float> values;
  for (size_t at = 0; at < blocks.size(); at += size_t(blockBytes(type)))
    for (int e = 0; e < blockElements(type); ++e)
      values.push_back(float(blockValue(type, &blocks[at], e)));
  return values;
}

} // namespace distc::reference
