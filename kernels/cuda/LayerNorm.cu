// A block for each row, three passes over it; all but the first find the row in the first cache.
#include "kernels/cuda/Hopper.cuh"

namespace distc::cuda {
namespace {

constexpr int threads = 256; // fixed: the order of the sums depends on it

template <class A, class W, bool Aligned>
__global__ void __launch_bounds__(threads)
    layerNormKernel(const A *x, const W *weight, const W *bias, float eps, int64_t width, A *y) {
  letNextStart();
  waitForPrevious();
  x += blockIdx.x * width;
  y += blockIdx.x * width;
  __shared__ float shared[2][threads / warpSize];
  float sum = 0.0f, v[packElements];
  for (int64_t i = threadIdx.x * packElements; i < width; i += threads * packElements) {
    load8<Aligned>(x + i, width - i, v);
    for (float value : v) // beyond the row they are 0
      sum += value;
  }
  const float mean = reduceBlock(sum, shared[0], Plus()) / float(width);
  sum = 0.0f;
  for (int64_t i = threadIdx.x * packElements; i < width; i += threads * packElements) {
    load8<Aligned>(x + i, width - i, v);
#pragma unroll
    for (int j = 0; j < packElements; ++j)
      if (i + j < width)
        sum = fmaf(v[j] - mean, v[j] - mean, sum);
  }
  const float scale = 1.0f / sqrtf(reduceBlock(sum, shared[1], Plus()) / float(width) + eps);
  for (int64_t i = threadIdx.x * packElements; i < width; i += threads * packElements) {
    float w[packElements], b[packElements] = {};
    load8<Aligned>(x + i, width - i, v);
    load8<Aligned>(weight + i, width - i, w);
    if (bias)
      load8<Aligned>(bias + i, width - i, b);
#pragma unroll
    for (int j = 0; j < packElements; ++j)
      v[j] = (v[j] - mean) * scale * w[j] + b[j];
    store8<Aligned>(y + i, width - i, v);
  }
}

} // namespace

cudaError_t layerNorm(In x, In weight, In bias, float eps, int64_t width, int64_t rows, Out y, cudaStream_t stream) {
  if (y.type != x.type || (bias.data && bias.type != weight.type) || rows > INT32_MAX)
    return cudaErrorInvalidValue;
  if (rows <= 0)
    return cudaSuccess;
  const bool aligned = aligned16(x.data, weight.data, bias.data, y.data) && width % packElements == 0;
  return withType(x.type, [&](auto activation) {
    return withType(weight.type, [&](auto element) {
      return withBool(aligned, [&](auto vectors) {
        using A = decltype(activation);
        using W = decltype(element);
        return launchOverlapped(stream, layerNormKernel<A, W, vectors.value>, dim3(unsigned(rows)), threads, 0, 1,
                                static_cast<const A *>(x.data), static_cast<const W *>(weight.data),
                                static_cast<const W *>(bias.data), eps, width, static_cast<A *>(y.data));
      });
    });
  });
}

} // namespace distc::cuda
