// A block for each row, two passes over it; the second finds the row in the first cache.
#include "kernels/cuda/Hopper.cuh"

namespace distc::cuda {
namespace {

constexpr int threads = 256; // fixed: the order of the sum depends on it

template <class A, class W, bool Aligned>
__global__ void __launch_bounds__(threads) rmsNormKernel(const A *x, const W *weight, float eps, int64_t width, A *y) {
  letNextStart();
  waitForPrevious();
  x += blockIdx.x * width;
  y += blockIdx.x * width;
  float sum = 0.0f, v[packElements];
  for (int64_t i = threadIdx.x * packElements; i < width; i += threads * packElements) {
    load8<Aligned>(x + i, width - i, v);
    for (float value : v)
      sum = fmaf(value, value, sum);
  }
  __shared__ float shared[threads / warpSize];
  sum = reduceBlock(sum, shared, Plus());
  const float scale = 1.0f / sqrtf(sum / float(width) + eps);
  for (int64_t i = threadIdx.x * packElements; i < width; i += threads * packElements) {
    float w[packElements];
    load8<Aligned>(x + i, width - i, v);
    load8<Aligned>(weight + i, width - i, w);
#pragma unroll
    for (int j = 0; j < packElements; ++j)
      v[j] = v[j] * scale * w[j];
    store8<Aligned>(y + i, width - i, v);
  }
}

} // namespace

cudaError_t rmsNorm(In x, In weight, float eps, int64_t width, int64_t rows, Out y, cudaStream_t stream) {
  if (y.type != x.type || rows > INT32_MAX)
    return cudaErrorInvalidValue;
  if (rows <= 0)
    return cudaSuccess;
  const bool aligned = aligned16(x.data, weight.data, y.data) && width % packElements == 0;
  return withType(x.type, [&](auto activation) {
    return withType(weight.type, [&](auto element) {
      return withBool(aligned, [&](auto vectors) {
        using A = decltype(activation);
        using W = decltype(element);
        return launchOverlapped(stream, rmsNormKernel<A, W, vectors.value>, dim3(unsigned(rows)), threads, 0, 1,
                                static_cast<const A *>(x.data), static_cast<const W *>(weight.data), eps, width,
                                static_cast<A *>(y.data));
      });
    });
  });
}

} // namespace distc::cuda
