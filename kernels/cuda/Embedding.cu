#include "kernels/cuda/Device.cuh"

namespace distc::cuda {
namespace {

constexpr int threads = 256;

template <class W, class A, bool Aligned>
__global__ void embeddingKernel(const int32_t *tokens, const W *table, int64_t tableRows, int64_t cols,
                                int64_t rowStride, int64_t firstRow, float factor, const int32_t *positions,
                                const W *added, int64_t addedStride, A *y) {
  const int64_t row = tokens[blockIdx.x] - firstRow;
  if (positions)
    added += positions[blockIdx.x] * addedStride;
  y += blockIdx.x * cols;
  for (int64_t i = threadIdx.x * packElements; i < cols; i += threads * packElements) {
    float v[packElements] = {};
    if (row >= 0 && row < tableRows)
      load8<Aligned>(table + row * rowStride + i, cols - i, v);
#pragma unroll
    for (float &value : v)
      value *= factor;
    if (positions) {
      float w[packElements];
      load8<Aligned>(added + i, cols - i, w);
#pragma unroll
      for (int j = 0; j < packElements; ++j)
        v[j] += w[j];
    }
    store8<Aligned>(y + i, cols - i, v);
  }
}

template <class W, class A, bool Aligned>
__global__ void positionEmbeddingKernel(const A *x, const int32_t *positions, const W *table, int64_t cols,
                                        int64_t rowStride, A *y) {
  const W *row = table + positions[blockIdx.x] * rowStride;
  x += blockIdx.x * cols;
  y += blockIdx.x * cols;
  for (int64_t i = threadIdx.x * packElements; i < cols; i += threads * packElements) {
    float v[packElements], w[packElements];
    load8<Aligned>(x + i, cols - i, v);
    load8<Aligned>(row + i, cols - i, w);
#pragma unroll
    for (int j = 0; j < packElements; ++j)
      v[j] += w[j];
    store8<Aligned>(y + i, cols - i, v);
  }
}

} // namespace

cudaError_t positionEmbedding(In x, const int32_t *positions, int64_t rows, const Matrix &table, Out y,
                              cudaStream_t stream) {
  if (y.type != x.type)
    return cudaErrorInvalidValue;
  const bool aligned =
      aligned16(x.data, table.data, y.data) && table.cols % packElements == 0 && table.rowStride % packElements == 0;
  return withType(table.type, [&](auto element) {
    return withType(y.type, [&](auto activation) {
      return withBool(aligned, [&](auto vectors) {
        using W = decltype(element);
        using A = decltype(activation);
        return launch(stream, positionEmbeddingKernel<W, A, vectors.value>, rows, threads,
                      static_cast<const A *>(x.data), positions, static_cast<const W *>(table.data), table.cols,
                      table.rowStride, static_cast<A *>(y.data));
      });
    });
  });
}

cudaError_t embedding(const int32_t *tokens, int64_t rows, const Matrix &table, int64_t firstRow, Out y,
                      cudaStream_t stream, float factor, const int32_t *positions, const Matrix &added) {
  if (positions && added.type != table.type)
    return cudaErrorInvalidValue;
  const bool aligned = aligned16(table.data, added.data, y.data) && table.cols % packElements == 0 &&
                       table.rowStride % packElements == 0 && added.rowStride % packElements == 0;
  return withType(table.type, [&](auto element) {
    return withType(y.type, [&](auto activation) {
      return withBool(aligned, [&](auto vectors) {
        using W = decltype(element);
        using A = decltype(activation);
        return launch(stream, embeddingKernel<W, A, vectors.value>, rows, threads, tokens,
                      static_cast<const W *>(table.data), table.rows, table.cols, table.rowStride, firstRow, factor,
                      positions, static_cast<const W *>(added.data), added.rowStride, static_cast<A *>(y.data));
      });
    });
  });
}

} // namespace distc::cuda
