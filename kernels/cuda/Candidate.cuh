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

/// The order of candidates: larger values first, of equal ones the lower id. No value is NaN.
__device__ inline bool precedes(const Candidate &a, const Candidate &b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

constexpr int valueBits = 32, columnBits = 24; // firstId + valid <= 2^24

/// Unique, and larger for what comes first in the order of candidates.
__device__ inline uint64_t keyOf(int64_t column, float logit) {
  const uint32_t bits = __float_as_uint(logit + 0.0f); // -0 counts as 0
  const uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return uint64_t(ordered) << columnBits | (((1u << columnBits) - 1) - uint32_t(column));
}
__device__ inline int64_t columnOf(uint64_t key) {
  return ((1 << columnBits) - 1) - int64_t(key & ((1u << columnBits) - 1));
}

/// The better of two that may be none.
__device__ inline Candidate better(const Candidate &a, const Candidate &b) {
  return b.id >= 0 && (a.id < 0 || precedes(b, a)) ? b : a;
}

/// The best of the warp's, in every lane.
__device__ inline Candidate bestOfWarp(Candidate best) {
  for (int offset = warpSize / 2; offset > 0; offset /= 2)
    best = better(best,
                  Candidate{__shfl_xor_sync(allLanes, best.value, offset), __shfl_xor_sync(allLanes, best.id, offset)});
  return best;
}

__device__ inline bool isGreedy(const SamplingRow &row) { return !(row.temperature >= greedyTemperature); }

struct GumbelNoise {
  uint32_t low;
  uint32_t high;

  __device__ explicit GumbelNoise(const SamplingRow &row) {
    const uint64_t key = mix64(row.seed ^ mix64(row.counter + 0x9E3779B97F4A7C15u));
    low = uint32_t(key);
    high = uint32_t(key >> 32);
  }

  /// "lowbias32" of C. Wellons' search for integer hashes (2018).
  static __device__ uint32_t mix32(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    return x ^ (x >> 16);
  }

  __device__ float operator()(uint32_t id) const {
    const uint32_t hash = mix32(mix32(id ^ low) + high);
    const float v = fminf((float(hash >> 1) + 0.5f) * 0x1p-31f, 1.0f - 0x1p-24f);
    return -logf(-log1pf(-v));
  }
};

} // namespace distc::cuda
