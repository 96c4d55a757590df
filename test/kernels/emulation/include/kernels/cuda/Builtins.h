// What the CUDA compiler knows by itself, for emulation.
#pragma once

#include "Emulator.h"

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Parameters...),
                               Arguments &&...arguments) {
  return distc::emulation::launch(config->gridDim, int(config->blockDim.x), config->dynamicSmemBytes, 1,
                                  [&] { kernel(arguments...); });
}

namespace distc::cuda {

using emulation::blockDim, emulation::blockIdx, emulation::gridDim, emulation::threadIdx;
using std::isnan, std::max, std::min;

template <class Kernel> cudaError_t cudaFuncSetAttribute(Kernel *, cudaFuncAttribute, int) { return cudaSuccess; }
template <class Kernel> cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *, Kernel *) { return cudaSuccess; }

inline void __syncthreads() { emulation::meetBlock(0, int(blockDim.x)); }
inline void __syncwarp() {
  emulation::meetWarp("syncwarp", nullptr, [](auto) {});
}
template <class T> T __shfl_sync(unsigned, T v, int from) {
  struct Both {
    T v;
    int from;
    T result;
  } both{v, from, {}};
  emulation::meetWarp("shfl", &both, [](std::span<void *const> lanes) {
    for (void *lane : lanes) {
      Both &b = *static_cast<Both *>(lane);
      b.result = static_cast<Both *>(lanes[size_t(b.from) % lanes.size()])->v;
    }
  });
  return both.result;
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int offset) {
  return __shfl_sync(mask, v, int(threadIdx.x) % emulation::lanes ^ offset);
}
inline unsigned __ballot_sync(unsigned, bool predicate) {
  struct Both {
    bool predicate;
    unsigned result;
  } both{predicate, 0};
  emulation::meetWarp("ballot", &both, [](std::span<void *const> lanes) {
    unsigned bits = 0;
    for (size_t i = 0; i < lanes.size(); ++i)
      bits |= unsigned(static_cast<Both *>(lanes[i])->predicate) << i;
    for (void *lane : lanes)
      static_cast<Both *>(lane)->result = bits;
  });
  return both.result;
}
template <class F> unsigned reduceLanes(unsigned v, F combine) {
  emulation::meetWarp("redux", &v, [&](std::span<void *const> lanes) {
    unsigned all = *static_cast<unsigned *>(lanes[0]);
    for (void *lane : lanes)
      all = combine(all, *static_cast<unsigned *>(lane));
    for (void *lane : lanes)
      *static_cast<unsigned *>(lane) = all;
  });
  return v;
}
inline unsigned __reduce_max_sync(unsigned, unsigned v) {
  return reduceLanes(v, [](unsigned a, unsigned b) { return std::max(a, b); });
}
inline unsigned __reduce_min_sync(unsigned, unsigned v) {
  return reduceLanes(v, [](unsigned a, unsigned b) { return std::min(a, b); });
}
template <class T> T __ldcs(const T *p) { return *p; }
inline int __popc(unsigned v) { return std::popcount(v); }
inline float __uint_as_float(uint32_t v) { return std::bit_cast<float>(v); }
inline uint32_t __float_as_uint(float v) { return std::bit_cast<uint32_t>(v); }
inline float rsqrtf(float v) { return 1.0f / std::sqrt(v); }
inline float __expf(float v) { return std::exp(v); }
inline float __fdividef(float a, float b) { return a / b; }
inline unsigned atomicAdd(unsigned *p, unsigned v) { return std::exchange(*p, *p + v); }
inline void __threadfence() {}
inline void atomicMax(unsigned long long *p, unsigned long long v) { *p = std::max(*p, v); }
inline void atomicAdd(int *p, int v) { *p += v; }

} // namespace distc::cuda
