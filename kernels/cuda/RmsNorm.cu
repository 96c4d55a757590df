// A block for each row, two passes over it; the second finds the row in the first cache. Rows that a warp holds in its
// registers, heads, have a warp each. Of parts of rows the sums of squares are made by one kernel, and used by another.
#include "kernels/cuda/Hopper.cuh"

namespace distc::cuda {
namespace {

constexpr int threads = 256; // fixed: the order of the sum depends on it
constexpr int rowsOfBlock = threads / 32;

template <bool Aligned, class A> __device__ float sumOfSquares(const A *x, int64_t width, float *shared) {
  float sum = 0.0f, v[packElements];
  for (int64_t i = threadIdx.x * packElements; i < width; i += threads * packElements) {
    load8<Aligned>(x + i, width - i, v);
    for (float value : v)
      sum = fmaf(value, value, sum);
  }
  return reduceBlock(sum, shared, Plus());
}

/// What all kernels here are given of a norm.
template <class A, class W> struct Norm {
  const W *weight;
  float eps, weightOffset;
  int64_t width;
  const A *residual; // or null
  A *y;

  /// Eight elements of a row, of which n are wanted.
  template <bool Aligned> __device__ void store(int64_t row, int64_t i, float (&v)[packElements], float scale) const {
    float w[packElements];
    load8<Aligned>(weight + i, width - i, w);
#pragma unroll
    for (int j = 0; j < packElements; ++j)
      v[j] = v[j] * scale * (w[j] + weightOffset);
    if (residual) {
      load8<Aligned>(residual + row * width + i, width - i, w);
#pragma unroll
      for (int j = 0; j < packElements; ++j)
        v[j] += w[j];
    }
    store8<Aligned>(y + row * width + i, width - i, v);
  }
};

/// With `squares` their sums are known already.
template <class A, class W, bool Aligned>
__global__ void __launch_bounds__(threads) rmsNormKernel(const A *x, const Squares squares, const Norm<A, W> norm) {
  __shared__ float shared[threads / warpSize];
  letNextStart();
  waitForPrevious();
  const int64_t row = blockIdx.x;
  x += row * norm.width;
  const float mean = squares.data ? squares.data[row * squares.stride] / float(squares.elements)
                                  : sumOfSquares<Aligned>(x, norm.width, shared) / float(norm.width);
  const float scale = 1.0f / sqrtf(mean + norm.eps);
  for (int64_t i = threadIdx.x * packElements; i < norm.width; i += threads * packElements) {
    float v[packElements];
    load8<Aligned>(x + i, norm.width - i, v);
    norm.template store<Aligned>(row, i, v, scale);
  }
}

template <class A, class W, bool Aligned>
__global__ void __launch_bounds__(threads) narrowRmsNormKernel(const A *x, int64_t rows, const Norm<A, W> norm) {
  letNextStart();
  waitForPrevious();
  const int64_t row = int64_t(blockIdx.x) * rowsOfBlock + threadIdx.x / warpSize;
  const int64_t i = threadIdx.x % warpSize * packElements;
  if (row >= rows)
    return;
  float v[packElements] = {}, sum = 0.0f;
  if (i < norm.width)
    load8<Aligned>(x + row * norm.width + i, norm.width - i, v);
  for (float value : v)
    sum = fmaf(value, value, sum);
  const float scale = 1.0f / sqrtf(reduceWarp(sum, Plus()) / float(norm.width) + norm.eps);
  if (i < norm.width)
    norm.template store<Aligned>(row, i, v, scale);
}

template <class A, bool Aligned>
__global__ void __launch_bounds__(threads) squareSumKernel(const A *x, int64_t width, float *out, int64_t outStride) {
  __shared__ float shared[threads / warpSize];
  letNextStart();
  waitForPrevious();
  const float sum = sumOfSquares<Aligned>(x + blockIdx.x * width, width, shared);
  if (threadIdx.x == 0)
    out[blockIdx.x * outStride] = sum;
}

cudaError_t launchNorm(In x, const Squares &squares, In weight, float eps, float weightOffset, int64_t width,
                       int64_t rows, Out y, cudaStream_t stream, In residual = {}) {
  if (y.type != x.type || (residual.data && residual.type != x.type) || rows > INT32_MAX)
    return cudaErrorInvalidValue;
  if (rows <= 0)
    return cudaSuccess;
  const bool aligned = aligned16(x.data, weight.data, residual.data, y.data) && width % packElements == 0;
  return withType(x.type, [&](auto activation) {
    return withType(weight.type, [&](auto element) {
      return withBool(aligned, [&](auto vectors) {
        using A = decltype(activation);
        using W = decltype(element);
        const auto *in = static_cast<const A *>(x.data);
        const Norm<A, W> norm{static_cast<const W *>(weight.data),
                              eps,
                              weightOffset,
                              width,
                              static_cast<const A *>(residual.data),
                              static_cast<A *>(y.data)};
        if (!squares.data && width <= 32 * packElements)
          return launchOverlapped(stream, narrowRmsNormKernel<A, W, vectors.value>,
                                  dim3(unsigned(divideUp(rows, rowsOfBlock))), threads, 0, 1, in, rows, norm);
        return launchOverlapped(stream, rmsNormKernel<A, W, vectors.value>, dim3(unsigned(rows)), threads, 0, 1, in,
                                squares, norm);
      });
    });
  });
}

} // namespace

cudaError_t rmsNorm(In x, In weight, float eps, int64_t width, int64_t rows, Out y, cudaStream_t stream,
                    float weightOffset, In residual) {
  return launchNorm(x, {}, weight, eps, weightOffset, width, rows, y, stream, residual);
}

cudaError_t rmsNormOfParts(In x, const Squares &squares, In weight, float eps, int64_t width, int64_t rows, Out y,
                           cudaStream_t stream, float weightOffset) {
  return squares.data ? launchNorm(x, squares, weight, eps, weightOffset, width, rows, y, stream)
                      : cudaErrorInvalidValue;
}

cudaError_t squareSum(In x, int64_t width, int64_t rows, float *out, int64_t outStride, cudaStream_t stream) {
  if (rows > INT32_MAX)
    return cudaErrorInvalidValue;
  if (rows <= 0)
    return cudaSuccess;
  return withType(x.type, [&](auto element) {
    return withBool(aligned16(x.data) && width % packElements == 0, [&](auto vectors) {
      using A = decltype(element);
      return launchOverlapped(stream, squareSumKernel<A, vectors.value>, dim3(unsigned(rows)), threads, 0, 1,
                              static_cast<const A *>(x.data), width, out, outStride);
    });
  });
}

} // namespace distc::cuda
