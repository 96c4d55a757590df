// y = x w^T + bias + residual. A block of four warps computes a group of weight rows for a tile of up to eight tokens:
// the warps split K, each lane keeps one sum for each (token, row), and the lanes' and warps' sums are added in one
// fixed tree. What a lane adds up, in which order, depends on K alone, so the bits depend neither on the number of
// tokens nor on the tile's size. The weights are read once for every eight tokens.
#include "kernels/cuda/Device.cuh"

#include <algorithm>

namespace distc::cuda {
namespace {

constexpr int warps = 4;
constexpr int groupRows = 4;
constexpr int maxTile = 8;

template <class A, class W> struct LinearArguments {
  const A *x;
  int64_t tokens;
  const W *w;
  int64_t rows;
  int64_t cols;
  int64_t rowStride;
  In bias;
  In residual;
  Out y;
  int64_t yStride;
};

/// Sums the first N values (a power of two up to 32) over the lanes; lane l returns value l / (32 / N). At each step
/// half of the values go to the other half of the lanes, until one is left. The tree is the same for every N.
template <int N, int Offset = warpSize / 2> __device__ inline float sumValuesOverLanes(float *v) {
  if constexpr (Offset == 0) {
    return v[0];
  } else if constexpr (N == 1) {
    v[0] += __shfl_xor_sync(allLanes, v[0], Offset);
    return sumValuesOverLanes<1, Offset / 2>(v);
  } else {
    const bool upper = (threadIdx.x & Offset) != 0;
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      const float sent = upper ? v[i] : v[i + N / 2];
      const float kept = upper ? v[i + N / 2] : v[i];
      v[i] = kept + __shfl_xor_sync(allLanes, sent, Offset);
    }
    return sumValuesOverLanes<N / 2, Offset / 2>(v);
  }
}

template <class A, class W, int Tile, bool Aligned>
__global__ void __launch_bounds__(warps *warpSize) linearKernel(const LinearArguments<A, W> a) {
  const int64_t tiles = (a.tokens + Tile - 1) / Tile;
  const int64_t row = blockIdx.x / tiles * groupRows; // the tiles of one group run side by side, the weights in L2
  const int64_t token = blockIdx.x % tiles * Tile;
  const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
  // Behind the end, the last row or token again: computed, not stored.
  const W *w[groupRows];
  const A *x[Tile];
#pragma unroll
  for (int r = 0; r < groupRows; ++r)
    w[r] = a.w + min(row + r, a.rows - 1) * a.rowStride;
#pragma unroll
  for (int t = 0; t < Tile; ++t)
    x[t] = a.x + min(token + t, a.tokens - 1) * a.cols;

  float sum[Tile * groupRows] = {};
#pragma unroll(Tile == 1 ? 4 : 2)
  for (int64_t k = int64_t(threadIdx.x) * packElements; k < a.cols; k += warps * warpSize * packElements) {
    const int64_t n = a.cols - k;
    Pack<W> weight[groupRows];
#pragma unroll
    for (int r = 0; r < groupRows; ++r)
      weight[r] = loadPack<Aligned, true>(w[r] + k, n);
#pragma unroll
    for (int t = 0; t < Tile; ++t) {
      float value[packElements];
      load8<Aligned>(x[t] + k, n, value);
#pragma unroll
      for (int r = 0; r < groupRows; ++r)
#pragma unroll
        for (int i = 0; i < packElements; ++i)
          sum[t * groupRows + r] = fmaf(value[i], toFloat(weight[r].e[i]), sum[t * groupRows + r]);
    }
  }

  constexpr int sums = Tile * groupRows, lanesPerSum = warpSize / sums;
  __shared__ float partial[warps][sums];
  const float total = sumValuesOverLanes<sums>(sum);
  if (lane % lanesPerSum == 0)
    partial[warp][lane / lanesPerSum] = total;
  __syncthreads();
  const int t = threadIdx.x / groupRows, r = threadIdx.x % groupRows;
  if (threadIdx.x >= sums || token + t >= a.tokens || row + r >= a.rows)
    return;
  float y = partial[0][threadIdx.x];
#pragma unroll
  for (int i = 1; i < warps; ++i)
    y += partial[i][threadIdx.x];
  const int64_t at = (token + t) * a.yStride + row + r;
  if (a.bias.data)
    y += loadElement(a.bias, row + r);
  if (a.residual.data)
    y += loadElement(a.residual, at);
  storeElement(a.y, at, y);
}

template <class A, class W, int Tile> cudaError_t launchTile(const LinearArguments<A, W> &a, cudaStream_t stream) {
  const bool aligned = aligned16(a.x, a.w) && a.cols % packElements == 0 && a.rowStride % packElements == 0;
  const int64_t blocks = divideUp(a.rows, groupRows) * divideUp(a.tokens, Tile);
  return withBool(aligned, [&](auto vectors) {
    return launch(stream, linearKernel<A, W, Tile, vectors.value>, blocks, warps * warpSize, a);
  });
}

} // namespace

cudaError_t linear(In x, int64_t tokens, const Matrix &w, In bias, In residual, Out y, int64_t yStride,
                   cudaStream_t stream) {
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
                                    residual,
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
