#include "runtime/plan/RandomWeights.h"

#include "runtime/base/File.h"
#include "runtime/plan/Convert.h"

#include <cmath>

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

} // namespace

uint64_t randomKey(uint64_t seed, std::string_view tensor) { return mix(hashBytes(tensor) + mix(seed)); }

float randomValue(uint64_t key, uint64_t element) {
  const uint64_t bits = mix(key + (element + 1) * 0x9e3779b97f4a7c15) >> 40;  // 24 bits: exact in f32
  const float uniform = static_cast<float>(bits) * 0x1p-23f - (1 - 0x1p-24f); // (-1, 1), symmetric
  return uniform * 1.7320508f;                                                // sqrt(3): variance 1
}

bool canFillRandom(plan::DType dtype) {
  return dtype == plan::DType::F32 || dtype == plan::DType::F16 || dtype == plan::DType::BF16;
}

void fillRandom(void *out, plan::DType dtype, plan::Init init, float scale, uint64_t key, uint64_t from,
                uint64_t count) {
  if (dtype == plan::DType::F32)
    fill<float>(out, init, scale, key, from, count, [](float v) { return v; });
  else if (dtype == plan::DType::F16)
    fill<_Float16>(out, init, scale, key, from, count, [](float v) { return static_cast<_Float16>(v); });
  else
    fill<uint16_t>(out, init, scale, key, from, count, toBf16);
}

} // namespace distc
