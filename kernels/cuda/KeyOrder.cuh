// Order among the unique keys of Candidate.cuh, by a block of Threads threads: the largest, the one of a rank, all.
#pragma once

#include "kernels/cuda/Candidate.cuh"

namespace distc::cuda {

/// In every lane.
__device__ inline uint64_t largestOfWarp(uint64_t key) {
  const uint32_t high = __reduce_max_sync(allLanes, uint32_t(key >> 32));
  return uint64_t(high) << 32 | __reduce_max_sync(allLanes, uint32_t(key >> 32) == high ? uint32_t(key) : 0);
}

constexpr int keyDigitBits = 8;
constexpr int keyDigits = 1 << keyDigitBits;

/// What a selection needs of shared memory.
struct KeySelection {
  unsigned histogram[keyDigits];
  uint64_t chosen;
  int left, surplus;
};

/// A key that at least `wanted` and at most `wanted` + `slack` of the keys reach, 0 < wanted <= their number: digit by
/// digit from the top. forEachKey(f) is f(key) for this thread's share.
template <int Threads, class F>
__device__ uint64_t selectKey(F forEachKey, int wanted, int slack, KeySelection &shared) {
  uint64_t prefix = 0; // of the keys that are left, of which the `wanted` largest are sought
  int shift = valueBits + columnBits;
  do {
    shift -= keyDigitBits;
    for (int i = threadIdx.x; i < keyDigits; i += Threads)
      shared.histogram[i] = 0;
    __syncthreads();
    forEachKey([&](uint64_t key) {
      if (key >> (shift + keyDigitBits) == prefix)
        atomicAdd(&shared.histogram[(key >> shift) & (keyDigits - 1)], 1u);
    });
    __syncthreads();
    if (threadIdx.x < warpSize) { // a lane for some digits, the first for the largest
      constexpr int perLane = keyDigits / warpSize;
      const int largest = keyDigits - 1 - int(threadIdx.x) * perLane;
      int own = 0;
      for (int i = 0; i < perLane; ++i)
        own += int(shared.histogram[largest - i]);
      int before = own;
      for (int offset = 1; offset < warpSize; offset *= 2)
        if (const int other = __shfl_up_sync(allLanes, before, offset); int(threadIdx.x) >= offset)
          before += other;
      before -= own;
      if (before < wanted && wanted <= before + own) {
        int digit = largest, count = int(shared.histogram[digit]);
        for (; before + count < wanted; count = int(shared.histogram[digit])) {
          before += count;
          --digit;
        }
        shared.chosen = prefix << keyDigitBits | unsigned(digit);
        shared.left = wanted - before;
        shared.surplus = before + count - wanted;
      }
    }
    __syncthreads();
    prefix = shared.chosen;
    wanted = shared.left;
  } while (shared.surplus > slack);
  return prefix << shift;
}

/// Of the key at `index`, one for each lane, and the one `stride` further in the warp, that which belongs here.
__device__ inline uint64_t exchanged(uint64_t key, int index, int stride, int size) {
  const uint64_t other = __shfl_xor_sync(allLanes, key, stride);
  return ((index & stride) == 0) == ((index & size) == 0) ? max(key, other) : min(key, other);
}

constexpr int leastSorted = 2 * warpSize;

/// Sorts n keys in shared memory, largest first; n is a power of 2, at least leastSorted ("bitonic": K. Batcher,
/// "Sorting networks and their applications", 1968). What stays within 64 keys is done in the registers of a warp.
template <int Threads> __device__ void sortKeys(uint64_t *keys, int n) {
  constexpr int chunk = leastSorted;
  const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
  auto sortChunks = [&](int from, int to) {
    for (int a = warp * chunk + lane; a < n; a += Threads / warpSize * chunk) {
      const int b = a + warpSize;
      uint64_t x = keys[a], y = keys[b];
      for (int size = from; size <= to; size *= 2) {
        if (size >= chunk && (x < y) == ((a & size) == 0)) {
          const uint64_t z = x;
          x = y, y = z;
        }
        for (int stride = min(size, warpSize) / 2; stride > 0; stride /= 2) {
          x = exchanged(x, a, stride, size);
          y = exchanged(y, b, stride, size);
        }
      }
      keys[a] = x;
      keys[b] = y;
    }
    __syncthreads();
  };
  sortChunks(2, chunk);
  for (int size = 2 * chunk; size <= n; size *= 2) {
    for (int stride = size / 2; stride > warpSize; stride /= 2) {
      for (int i = threadIdx.x; i < n / 2; i += Threads) {
        const int a = 2 * i - (i & (stride - 1)), b = a + stride;
        const uint64_t x = keys[a], y = keys[b];
        if ((x < y) == ((a & size) == 0)) {
          keys[a] = y;
          keys[b] = x;
        }
      }
      __syncthreads();
    }
    sortChunks(size, size);
  }
}

} // namespace distc::cuda
