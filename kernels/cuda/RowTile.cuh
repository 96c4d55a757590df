// A tile of a product with a matrix: the rows of x times a group of its rows, by a block of four warps. The warps split
// K, each lane keeps one sum for each (token, row), and the lanes' and warps' sums are added in one fixed tree. What a
// lane adds up, in which order, depends on K alone, so the bits depend neither on the number of tokens nor on the
// tile's size.
#pragma once

#include "kernels/cuda/Device.cuh"

namespace distc::cuda {

constexpr int tileWarps = 4;
constexpr int groupRows = 4;
constexpr int maxTile = 8;

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

/// The sums of x[t] . w[r], K = cols: thread t * groupRows + r of the first Tile * groupRows returns them. All threads
/// of the block call it; between two calls the block synchronizes.
template <int Tile, bool Aligned, class A, class W>
__device__ inline float rowTile(const A *const (&x)[Tile], const W *const (&w)[groupRows], int64_t cols) {
  const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
  float sum[Tile * groupRows] = {};
#pragma unroll(Tile == 1 ? 4 : 2)
  for (int64_t k = int64_t(threadIdx.x) * packElements; k < cols; k += tileWarps * warpSize * packElements) {
    const int64_t n = cols - k;
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
  __shared__ float partial[tileWarps][sums];
  const float total = sumValuesOverLanes<sums>(sum);
  if (lane % lanesPerSum == 0)
    partial[warp][lane / lanesPerSum] = total;
  __syncthreads();
  if (threadIdx.x >= sums)
    return 0;
  float y = partial[0][threadIdx.x];
#pragma unroll
  for (int i = 1; i < tileWarps; ++i)
    y += partial[i][threadIdx.x];
  return y;
}

} // namespace distc::cuda
