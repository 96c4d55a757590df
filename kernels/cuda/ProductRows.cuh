// What a warp has of a product (Wgmma.cuh), on its way to memory.
#pragma once

#include "kernels/cuda/Wgmma.cuh"

namespace distc::cuda {

constexpr int stagedColumns = 64;
constexpr int stagingBytes = 16 * stagedColumns * 2; // of a warp, in shared memory

/// Rounds the columns [8 First, 8 (First + Count)) of the 16 rows that a warp has of d and hands them on in pieces of
/// eight, f(row, column - 8 First, words): successive lanes have successive pieces of a row. Through shared memory,
/// since a lane's own are two by two.
template <class T, int First, int Count, int Size, class F>
__device__ inline void forPieces(const float (&d)[Size], char *staging, F f) {
  static_assert(Count * 8 <= stagedColumns);
  const int lane = int(threadIdx.x) % warpSize;
  const auto placeOf = [&](int row, int piece) { return staging + row * 128 + (piece ^ row % 8) * 16; };
#pragma unroll
  for (int j = 0; j < Count; j += 2) {
    uint32_t w[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) { // of an odd count the last piece is stored twice, once where none is
      const int at = 4 * (First + min(j + i / 2, Count - 1)) + 2 * (i % 2);
      w[i] = Pair<T>::fromFloats(d[at], d[at + 1]);
    }
    storeMatrices(sharedAddress(placeOf(lane % 16, j + lane / 16)), w);
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = i * 4 + lane / 8, piece = lane % 8;
    if (piece < Count)
      f(row, piece * 8, *reinterpret_cast<const uint4 *>(placeOf(row, piece)));
  }
  __syncwarp();
}
/// Of all columns [0, 8 Count).
template <class T, int Count, int First = 0, int Size, class F>
__device__ inline void forAllPieces(const float (&d)[Size], char *staging, F f) {
  constexpr int now = Count - First < 8 ? Count - First : 8;
  forPieces<T, First, now>(d, staging, [&](int row, int column, uint4 words) { f(row, First * 8 + column, words); });
  if constexpr (First + now < Count)
    forAllPieces<T, Count, First + now>(d, staging, f);
}

} // namespace distc::cuda
