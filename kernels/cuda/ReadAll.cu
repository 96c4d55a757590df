// The limit of what streams from memory: reads and nothing else.
#include "distc/kernels/Cuda.h"

#include <cstdint>

namespace distc::cuda {
namespace {

__device__ unsigned sink;

__global__ void __launch_bounds__(512) readKernel(const uint4 *data, size_t n) {
  unsigned sum = 0;
  const size_t step = size_t(gridDim.x) * blockDim.x;
  size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; i + 7 * step < n; i += 8 * step) {
    uint4 v[8];
#pragma unroll
    for (int j = 0; j < 8; ++j)
      v[j] = __ldcs(data + i + j * step);
#pragma unroll
    for (int j = 0; j < 8; ++j)
      sum += v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  for (; i < n; i += step) {
    const uint4 v = __ldcs(data + i);
    sum += v.x ^ v.y ^ v.z ^ v.w;
  }
  if (sum == 0x12345678u) // never known before: the loads are needed
    sink = sum;
}

} // namespace

cudaError_t readAll(const void *data, size_t bytes, cudaStream_t stream) {
  int device, multiprocessors;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess)
    return error;
  if (const cudaError_t error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
      error != cudaSuccess)
    return error;
  readKernel<<<unsigned(multiprocessors) * 4, 512, 0, stream>>>(static_cast<const uint4 *>(data), bytes / 16);
  return cudaGetLastError();
}

cudaError_t hasCode() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, readKernel);
}

} // namespace distc::cuda
