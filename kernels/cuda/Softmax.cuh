// What the attention kernels share: softmax whose parts are each relative to a maximum of their own.
#pragma once

#include "kernels/cuda/Device.cuh"

namespace distc::cuda {

/// What a sum relative to `maximum` must be multiplied by to be relative to `of`, the larger of several. No positions:
/// nothing of it counts. The error of __expf grows with its argument, which is where the factor itself is small.
__device__ inline float factor(float maximum, float of) { return maximum == -INFINITY ? 0.0f : __expf(maximum - of); }

} // namespace distc::cuda
