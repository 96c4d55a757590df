// The limit of what streams from memory: reads and nothing else, by plain loads or by the copy engine. Their sum is
// given to who wants it; that nobody does, the compiler cannot know.
#include "kernels/cuda/Stage.cuh"

#include <cstdint>

namespace distc::cuda {
namespace {

constexpr int plainThreads = 512, copyThreads = 256;
constexpr int copySlots = 12, copyBytesEach = 16 << 10; // in flight, of each multiprocessor

__device__ inline uint32_t sumOf(uint4 v) { return v.x ^ v.y ^ v.z ^ v.w; }

__global__ void __launch_bounds__(plainThreads) readKernel(const uint4 *data, size_t n, uint32_t *sum) {
  uint32_t mine = 0;
  const size_t step = size_t(gridDim.x) * blockDim.x;
  size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; i + 7 * step < n; i += 8 * step) {
    uint4 v[8];
#pragma unroll
    for (int j = 0; j < 8; ++j)
      v[j] = __ldcs(data + i + j * step);
#pragma unroll
    for (int j = 0; j < 8; ++j)
      mine += sumOf(v[j]);
  }
  for (; i < n; i += step)
    mine += sumOf(__ldcs(data + i));
  if (sum)
    atomicAdd(sum, mine);
}

/// A block for each multiprocessor: one thread keeps all slots of a ring under way, all add up what has come.
__global__ void __launch_bounds__(copyThreads, 1) copyKernel(const unsigned char *data, size_t bytes, uint32_t *sum) {
  unsigned char *dynamic = dynamicShared(); // the ring, a barrier for each slot
  const uint32_t ring = sharedAddress(dynamic);
  auto *full = reinterpret_cast<uint64_t *>(dynamic + copySlots * copyBytesEach);
  const size_t step = size_t(gridDim.x) * copyBytesEach;
  const auto bytesAt = [&](size_t at) { return uint32_t(min(size_t(copyBytesEach), bytes - at)); };
  const auto fetch = [&](int slot, size_t at) {
    if (at >= bytes)
      return;
    arriveExpecting(&full[slot], bytesAt(at));
    copyBytes(ring + slot * copyBytesEach, data + at, bytesAt(at), &full[slot]);
  };
  size_t at = size_t(blockIdx.x) * copyBytesEach;
  if (threadIdx.x == 0) {
    for (int slot = 0; slot < copySlots; ++slot)
      initBarrier(&full[slot], 1);
    fenceBarriers();
    for (int slot = 0; slot < copySlots; ++slot)
      fetch(slot, at + slot * step);
  }
  __syncthreads();
  uint32_t mine = 0;
  int slot = 0;
  for (uint32_t parity = 0; at < bytes; at += step) {
    waitBarrier(&full[slot], parity);
    for (uint32_t i = threadIdx.x * 16; i < bytesAt(at); i += copyThreads * 16)
      mine += sumOf(loadShared16(ring + slot * copyBytesEach + i));
    __syncthreads(); // all have read the slot
    if (threadIdx.x == 0)
      fetch(slot, at + copySlots * step);
    if (++slot == copySlots) {
      slot = 0;
      parity ^= 1;
    }
  }
  if (sum)
    atomicAdd(sum, mine);
}

} // namespace

cudaError_t readAll(const void *data, size_t bytes, cudaStream_t stream, uint32_t *sum) {
  return launch(stream, readKernel, multiprocessors() * 4, plainThreads, static_cast<const uint4 *>(data), bytes / 16,
                sum);
}

cudaError_t readAllByCopies(const void *data, size_t bytes, cudaStream_t stream, uint32_t *sum) {
  constexpr size_t shared = copySlots * (copyBytesEach + sizeof(uint64_t));
  static_assert(shared <= blockSharedBytes);
  const cudaError_t error = allowShared<copyKernel>(shared);
  if (error != cudaSuccess)
    return error;
  return launch(stream, copyKernel, multiprocessors(), copyThreads, shared, 1, static_cast<const unsigned char *>(data),
                bytes, sum);
}

cudaError_t hasCode() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, readKernel);
}

} // namespace distc::cuda
