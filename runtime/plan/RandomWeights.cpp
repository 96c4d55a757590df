#include "runtime/plan/RandomWeights.h"

#include "runtime/base/File.h"
#include "runtime/plan/Convert.h"
#include "runtime/schema/PlanFile.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace distc {

namespace {

// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

template <typename T, typename Convert>
void fill(void *out, plan::Init init, float scale, uint64_t key, uint64_t from, uint64_t count, Convert convert) {
  T *values = static_cast<T *>(out);
  for (uint64_t i = 0; i < count; ++i) {
    const float value = init == plan::Init::Uniform ? randomValue(key, from + i) * scale
                        : init == plan::Init::Ones  ? 1.0f
                                                    : 0.0f;
    values[i] = convert(value);
  }
}

/// How the elements of random blocks spread for d = 1, and by how much d their minimum makes the mean 0.
struct Spread {
  float deviation, minimum;
};
Spread spreadOf(plan::DType dtype) {
  switch (dtype) {
  case plan::DType::Q8_0:
    return {73.9f, 0};
  case plan::DType::Q4_0:
    return {4.61f, 0};
  case plan::DType::Q4_1:
    return {4.61f, -7.5f};
  case plan::DType::Q5_0:
    return {9.23f, 0};
  case plan::DType::Q5_1:
    return {9.23f, -15.5f};
  case plan::DType::Q2_K:
    return {14.0f, 1.5f};
  case plan::DType::Q3_K:
    return {43.3f, 0};
  case plan::DType::Q4_K:
    return {258.0f, 7.5f};
  case plan::DType::Q5_K:
    return {527.0f, 15.5f};
  default: // Q6_K
    return {1366.0f, 0};
  }
}

/// Where d lies in a block, and m behind it.
uint64_t scaleAt(plan::DType dtype) {
  return dtype == plan::DType::Q2_K ? 80 : dtype == plan::DType::Q3_K ? 108 : dtype == plan::DType::Q6_K ? 208 : 0;
}

/// Blocks of random bits and one scale. `from` and `count` are of whole blocks.
void fillBlocks(std::byte *out, plan::DType dtype, float scale, uint64_t key, uint64_t from, uint64_t count) {
  const uint64_t bytes = dtypeBytes(dtype), elements = dtypeBlock(dtype);
  const Spread spread = spreadOf(dtype);
  const auto d = static_cast<_Float16>(scale / spread.deviation),
             m = static_cast<_Float16>(scale / spread.deviation * spread.minimum);
  for (uint64_t block = from / elements; count > 0; ++block, count -= elements, out += bytes) {
    for (uint64_t at = 0; at < bytes; at += 8) {
      const uint64_t bits = mix(key + (block * 32 + at / 8 + 1) * 0x9e3779b97f4a7c15);
      std::memcpy(out + at, &bits, std::min<uint64_t>(8, bytes - at));
    }
    std::memcpy(out + scaleAt(dtype), &d, sizeof d);
    if (spread.minimum != 0)
      std::memcpy(out + scaleAt(dtype) + sizeof d, &m, sizeof m);
  }
}

} // namespace

uint64_t randomKey(uint64_t seed, std::string_view tensor) { return mix(hashBytes(tensor) + mix(seed)); }

float randomValue(uint64_t key, uint64_t element) {
  const uint64_t bits = mix(key + (element + 1) * 0x9e3779b97f4a7c15) >> 40;  // 24 bits: exact in f32
  const float uniform = static_cast<float>(bits) * 0x1p-23f - (1 - 0x1p-24f); // (-1, 1), symmetric
  return uniform * 1.7320508f;                                                // sqrt(3): variance 1
}

bool canFillRandom(plan::DType dtype) { return dtype != plan::DType::I32; }

void fillRandom(void *out, plan::DType dtype, plan::Init init, float scale, uint64_t key, uint64_t from,
                uint64_t count) {
  if (isQuantized(dtype))
    fillBlocks(static_cast<std::byte *>(out), dtype, scale, key, from, count);
  else if (dtype == plan::DType::F32)
    fill<float>(out, init, scale, key, from, count, [](float v) { return v; });
  else if (dtype == plan::DType::F16)
    fill<_Float16>(out, init, scale, key, from, count, [](float v) { return static_cast<_Float16>(v); });
  else
    fill<uint16_t>(out, init, scale, key, from, count, toBf16);
}

} // namespace distc
