// What the attention kernels share: softmax whose parts are each relative to a maximum of their own, and windows.
#pragma once

#include "kernels/cuda/Device.cuh"

#include <algorithm>

namespace distc::cuda {

/// What a sum relative to `maximum` must be multiplied by to be relative to `of`, the larger of several. No positions:
/// nothing of it counts. The error of __expf grows with its argument, which is where the factor itself is small.
__device__ inline float factor(float maximum, float of) { return maximum == -INFINITY ? 0.0f : __expf(maximum - of); }

/// A window as the kernels count positions; one that is larger than any context is as good as that. 0: there is none.
inline int windowOf(const AttentionParams &params) { return int(std::min<int64_t>(params.window, INT32_MAX / 2)); }

} // namespace distc::cuda
