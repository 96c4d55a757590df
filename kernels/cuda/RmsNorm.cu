// A block for each row, two passes over it; the second finds the row in the first cache. Rows that a warp holds in its
// registers, heads, have a warp each.
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

constexpr int rowsOfBlock = threads / 32;

template <class A, class W, bool Aligned>
__global__ void __launch_bounds__(threads)
    narrowRmsNormKernel(const A *x, const W *weight, float eps, int64_t width, int64_t rows, A *y) {
  letNextStart();
  waitForPrevious();
  const int64_t row = int64_t(blockIdx.x) * rowsOfBlock + threadIdx.x / warpSize;
  const int64_t i = threadIdx.x % warpSize * packElements;
  if (row >= rows)
    return;
  float v[packElements] = {}, sum = 0.0f;
  if (i < width)
    load8<Aligned>(x + row * width + i, width - i, v);
  for (float value : v)
    sum = fmaf(value, value, sum);
  const float scale = 1.0f / sqrtf(reduceWarp(sum, Plus()) / float(width) + eps);
  if (i >= width)
    return;
  float w[packElements];
  load8<Aligned>(weight + i, width - i, w);
#pragma unroll
  for (int j = 0; j < packElements; ++j)
    v[j] = v[j] * scale * w[j];
  store8<Aligned>(y + row * width + i, width - i, v);
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
        const auto *in = static_cast<const A *>(x.data);
        const auto *scale = static_cast<const W *>(weight.data);
        auto *out = static_cast<A *>(y.data);
        if (width <= 32 * packElements)
          return launchOverlapped(stream, narrowRmsNormKernel<A, W, vectors.value>,
                                  dim3(unsigned(divideUp(rows, rowsOfBlock))), threads, 0, 1, in, scale, eps, width,
                                  rows, out);
        return launchOverlapped(stream, rmsNormKernel<A, W, vectors.value>, dim3(unsigned(rows)), threads, 0, 1, in,
                                scale, eps, width, out);
      });
    });
  });
}

} // namespace distc::cuda
