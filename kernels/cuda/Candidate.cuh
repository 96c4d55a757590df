// What TopCandidates and Sample share: (value, id) pairs, their order, and the noise of Sampling.h.
#pragma once

#include "kernels/cuda/Device.cuh"
#include "kernels/cuda/Random.cuh"

namespace distc::cuda {

struct Candidate {
  float value;
  float id; // exact, a vocabulary has far fewer than 2^24 entries
};
static_assert(sizeof(Candidate) == 2 * sizeof(float));

__device__ constexpr Candidate noCandidate{-INFINITY, -1.0f};

/// In the order of the floats, and back; -0 counts as 0. 0 is less than any.
__device__ inline uint32_t ordered(float value) {
  const uint32_t bits = __float_as_uint(value + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ inline float fromOrdered(uint32_t bits) {
  return __uint_as_float(bits & 0x80000000u ? bits & 0x7FFFFFFFu : ~bits);
}

constexpr int valueBits = 32, columnBits = 24; // firstId + valid <= 2^24

/// Unique, and larger for what comes first in the order of candidates: larger values first, of equal ones the lower
/// column. 0 is no key: no value is NaN.
__device__ inline uint64_t keyOf(int64_t column, float logit) {
  return uint64_t(ordered(logit)) << columnBits | (((1u << columnBits) - 1) - uint32_t(column));
}
__device__ inline int64_t columnOf(uint64_t key) {
  return ((1 << columnBits) - 1) - int64_t(key & ((1u << columnBits) - 1));
}

__device__ inline float valueOf(uint64_t key) { return fromOrdered(uint32_t(key >> columnBits)); }

__device__ inline bool isGreedy(const SamplingRow &row) { return !(row.temperature >= greedyTemperature); }

struct GumbelNoise {
  uint32_t low;
  uint32_t high;

  __device__ explicit GumbelNoise(const SamplingRow &row) {
    const uint64_t key = mix64(row.seed ^ mix64(row.counter + 0x9E3779B97F4A7C15u));
    low = uint32_t(key);
    high = uint32_t(key >> 32);
  }

  /// "lowbias32" of C. Wellons' search for integer hashes (2018), but for its last step, which changes the lower half.
  static __device__ uint32_t mixUpper(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    return (x ^ (x >> 15)) * 0x846CA68Bu;
  }
  static __device__ uint32_t mix32(uint32_t x) {
    x = mixUpper(x);
    return x ^ (x >> 16);
  }

  /// Whether v may be at most chance * 2^-32, as far as the upper half of the hash says. The noise of v,
  /// -log(-log1p(-v)), is less than -log(v).
  __device__ bool mayBeBelow(uint32_t id, uint32_t chance) const {
    return mixUpper(mix32(id ^ low) + high) <= (chance | 0xFFFFu);
  }

  __device__ float operator()(uint32_t id) const {
    const uint32_t hash = mix32(mix32(id ^ low) + high);
    const float v = fminf((float(hash >> 1) + 0.5f) * 0x1p-31f, 1.0f - 0x1p-24f);
    return -logf(-log1pf(-v));
  }
};

} // namespace distc::cuda
