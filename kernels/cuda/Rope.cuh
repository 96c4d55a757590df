// The rotation of eight pairs of elements, for all kernels that rotate heads.
#pragma once

#include "kernels/cuda/Device.cuh"

namespace distc::cuda {

constexpr int pairs = packElements;

/// The cosines and sines of eight pairs, n of which are wanted.
template <bool Aligned> __device__ inline void loadAngles(const float *from, int64_t n, float (&angles)[2 * pairs]) {
  float first[packElements], second[packElements];
  load8<Aligned>(from, 2 * n, first);
  load8<Aligned>(from + packElements, 2 * n - packElements, second);
#pragma unroll
  for (int i = 0; i < packElements; ++i)
    angles[i] = first[i], angles[packElements + i] = second[i];
}

/// Split: v0 has the first elements of the pairs, v1 the second ones. Otherwise v0 and v1 have one pair after the
/// other.
__device__ inline void rotatePairs(const float (&angles)[2 * pairs], bool split, float (&v0)[packElements],
                                   float (&v1)[packElements]) {
  const auto rotate = [](float &a, float &b, float cos, float sin) {
    const float rotated = fmaf(a, cos, -(b * sin)); // contracted the same way in every instantiation
    b = fmaf(a, sin, b * cos);
    a = rotated;
  };
#pragma unroll
  for (int i = 0; i < pairs; ++i) {
    const int in = i % (pairs / 2) * 2;
    const float cos = angles[2 * i], sin = angles[2 * i + 1];
    if (split)
      rotate(v0[i], v1[i], cos, sin);
    else if (i < pairs / 2)
      rotate(v0[in], v0[in + 1], cos, sin);
    else
      rotate(v1[in], v1[in + 1], cos, sin);
  }
}

} // namespace distc::cuda
