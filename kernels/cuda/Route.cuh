// Which experts a token goes to, and how much each counts.
#pragma once

#include "kernels/cuda/Candidate.cuh"

#include <climits>

namespace distc::cuda {

struct ExpertCandidate {
  float logit;
  int id; // INT_MAX: none

  __device__ bool isBefore(const ExpertCandidate &other) const {
    return logit > other.logit || (logit == other.logit && id < other.id);
  }
};

__device__ inline float orLeast(float logit) { return isnan(logit) ? -INFINITY : logit; }

constexpr int keptLogits = 8; // of a lane, in registers

/// All lanes of a warp, of one row: of up to 32 chosen ones lane j finds the j-th. Ties go to the lower id.
__device__ inline void routeKept(const float *logits, int experts, int count, bool normalize, float *out) {
  const int lane = threadIdx.x % warpSize;
  uint32_t left[keptLogits];
#pragma unroll
  for (int i = 0; i < keptLogits; ++i)
    left[i] = lane + i * warpSize < experts ? ordered(orLeast(logits[lane + i * warpSize])) : 0;
  float largest = 0, sum = 0, mine = 0;
  uint32_t id = 0;
  for (int j = 0; j < count; ++j) {
    uint32_t best = 0, at = 0;
#pragma unroll
    for (int i = 0; i < keptLogits; ++i)
      if (left[i] > best)
        best = left[i], at = uint32_t(lane + i * warpSize);
    const uint32_t order = __reduce_max_sync(allLanes, best);
    const uint32_t chosen = __reduce_min_sync(allLanes, best == order ? at : UINT32_MAX);
#pragma unroll
    for (int i = 0; i < keptLogits; ++i)
      if (chosen == uint32_t(lane + i * warpSize))
        left[i] = 0;
    const float logit = fromOrdered(order);
    if (j == 0)
      largest = logit;
    sum += expf(logit - largest);
    if (lane == j)
      mine = logit, id = chosen;
  }
  if (!normalize) {
    sum = 0;
    for (int e = lane; e < experts; e += warpSize)
      sum += expf(orLeast(logits[e]) - largest);
    sum = reduceWarp(sum, Plus());
  }
  if (lane < count) {
    out[2 * lane] = expf(mine - largest) / sum;
    out[2 * lane + 1] = float(id);
  }
}

/// The same of any number. The chosen ones are found one after the other, each as the first behind the one before.
__device__ inline void routeRow(const float *logits, int experts, int count, bool normalize, float *out) {
  if (experts <= keptLogits * warpSize && count <= warpSize)
    return routeKept(logits, experts, count, normalize, out);
  const int lane = threadIdx.x % warpSize;
  ExpertCandidate last{INFINITY, -1};
  float largest = 0, sum = 0;
  for (int j = 0; j < count; ++j) {
    ExpertCandidate best{-INFINITY, INT_MAX};
    for (int e = lane; e < experts; e += warpSize)
      if (const ExpertCandidate candidate{orLeast(logits[e]), e}; last.isBefore(candidate) && candidate.isBefore(best))
        best = candidate;
    for (int offset = warpSize / 2; offset > 0; offset /= 2) {
      const ExpertCandidate other{__shfl_xor_sync(allLanes, best.logit, offset),
                                  __shfl_xor_sync(allLanes, best.id, offset)};
      if (other.isBefore(best))
        best = other;
    }
    last = best;
    if (j == 0)
      largest = last.logit;
    if (normalize)
      sum += expf(last.logit - largest);
    if (lane == 0) {
      out[2 * j] = last.logit;
      out[2 * j + 1] = float(last.id);
    }
  }
  if (!normalize) {
    for (int e = lane; e < experts; e += warpSize)
      sum += expf(orLeast(logits[e]) - largest);
    sum = reduceWarp(sum, Plus());
  }
  __syncwarp();
  for (int j = lane; j < count; j += warpSize)
    out[2 * j] = expf(out[2 * j] - largest) / sum;
}

} // namespace distc::cuda
