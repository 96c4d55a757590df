// y = x w^T + bias. A block computes a group of weight rows for a tile of up to eight tokens, in the order
// of sums of RowTile.cuh. The weights are read once for every eight tokens.
#include "kernels/cuda/RowTile.cuh"

#include <algorithm>

namespace distc::cuda {
namespace {

template <class A, class W> struct LinearArguments {
  const A *x;
  int64_t tokens;
  const W *w;
  int64_t rows;
  int64_t cols;
  int64_t rowStride;
  In bias;
  Out y;
  int64_t yStride;
};

template <class A, class W, int Tile, bool Aligned>
__global__ void __launch_bounds__(tileWarps *warpSize) linearKernel(const LinearArguments<A, W> a) {
  const int64_t tiles = (a.tokens + Tile - 1) / Tile;
  const int64_t row = blockIdx.x / tiles * groupRows; // the tiles of one group run side by side, the weights in L2
  const int64_t token = blockIdx.x % tiles * Tile;
  // Behind the end, the last row or token again: computed, not stored.
  const W *w[groupRows];
  const A *x[Tile];
#pragma unroll
  for (int r = 0; r < groupRows; ++r)
    w[r] = a.w + min(row + r, a.rows - 1) * a.rowStride;
#pragma unroll
  for (int t = 0; t < Tile; ++t)
    x[t] = a.x + min(token + t, a.tokens - 1) * a.cols;

  float y = rowTile<Tile, Aligned>(x, w, a.cols);
  const int t = threadIdx.x / groupRows, r = threadIdx.x % groupRows;
  if (t >= Tile || token + t >= a.tokens || row + r >= a.rows)
    return;
  if (a.bias.data)
    y += loadElement(a.bias, row + r);
  storeElement(a.y, (token + t) * a.yStride + row + r, y);
}

template <class A, class W, int Tile> cudaError_t launchTile(const LinearArguments<A, W> &a, cudaStream_t stream) {
  const bool aligned = aligned16(a.x, a.w) && a.cols % packElements == 0 && a.rowStride % packElements == 0;
  const int64_t blocks = divideUp(a.rows, groupRows) * divideUp(a.tokens, Tile);
  return withBool(aligned, [&](auto vectors) {
    return launch(stream, linearKernel<A, W, Tile, vectors.value>, blocks, tileWarps * warpSize, a);
  });
}

} // namespace

cudaError_t linear(In x, int64_t tokens, const Matrix &w, In bias, Out y, int64_t yStride, cudaStream_t stream) {
  if (tokens <= 0 || w.rows <= 0)
    return cudaSuccess;
  return withType(x.type, [&](auto activation) {
    return withType(w.type, [&](auto element) {
      using A = decltype(activation);
      using W = decltype(element);
      const LinearArguments<A, W> a{static_cast<const A *>(x.data),
                                    tokens,
                                    static_cast<const W *>(w.data),
                                    w.rows,
                                    w.cols,
                                    w.rowStride,
                                    bias,
                                    y,
                                    yStride};
      if (tokens == 1)
        return launchTile<A, W, 1>(a, stream);
      if (tokens == 2)
        return launchTile<A, W, 2>(a, stream);
      if (tokens <= 4)
        return launchTile<A, W, 4>(a, stream);
      return launchTile<A, W, maxTile>(a, stream);
    });
  });
}

} // namespace distc::cuda
