// What stages are made of: barriers of asynchronous copies, the copy engine, tensor-core products, dependent launches.
#pragma once

#include "kernels/cuda/Device.cuh"

#include <atomic>

namespace distc::cuda {

__device__ inline uint32_t sharedAddress(const void *p) { return uint32_t(__cvta_generic_to_shared(p)); }

/// An mbarrier in shared memory. Phases alternate; wait(parity) returns when the phase of that parity has ended.
struct Barrier {
  uint64_t state;

  __device__ void init(uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(sharedAddress(this)), "r"(arrivals) : "memory");
  }
  __device__ void arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(sharedAddress(this)) : "memory");
  }
  /// One arrival, and the phase also waits for so many bytes.
  __device__ void expect(uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(sharedAddress(this)), "r"(bytes)
                 : "memory");
  }
  __device__ void wait(uint32_t parity) {
    uint32_t done = 0;
    while (!done)
      asm volatile("{\n\t.reg .pred p;\n\t"
                   "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\t"
                   "selp.u32 %0, 1, 0, p;\n\t}"
                   : "=r"(done)
                   : "r"(sharedAddress(this)), "r"(parity)
                   : "memory");
  }
};

/// Barrier objects that have just been initialized, for the copy engine to see; before a __syncthreads.
__device__ inline void publishBarriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

/// Lets the next kernel of the stream start where there is room; it waits for this one's results by itself.
__device__ inline void letDependentsLaunch() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
/// Waits until the kernels before this one have ended and their results are visible.
__device__ inline void waitForPrevious() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

/// Weights are read once in a step: they should not push out of the cache what is read by all.
__device__ inline uint64_t evictFirst() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

/// Copies a box at (0, row, block) of a three-dimensional map.
__device__ inline void copyBox(uint32_t to, const void *map, int row, int block, Barrier &barrier, uint64_t policy) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
               "[%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(to),
               "l"(map), "r"(0), "r"(row), "r"(block), "r"(sharedAddress(&barrier)), "l"(policy)
               : "memory");
}
__device__ inline void prefetchMap(const void *map) { asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"); }

__device__ inline uint4 loadShared16(uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address));
  return v;
}

/// 16 bytes from the second cache: the first may hold what was there before another kernel wrote.
__device__ inline uint4 loadFresh16(const void *p) {
  uint4 v;
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p)
               : "memory");
  return v;
}

template <class T> struct Pair;
template <> struct Pair<__half> {
  static __device__ float2 toFloats(uint32_t v) {
    __half2 h;
    memcpy(&h, &v, sizeof(h));
    return __half22float2(h);
  }
  static __device__ uint32_t fromFloats(float a, float b) {
    const __half2 h = __floats2half2_rn(a, b);
    uint32_t v;
    memcpy(&v, &h, sizeof(v));
    return v;
  }
};
template <> struct Pair<__nv_bfloat16> {
  static __device__ float2 toFloats(uint32_t v) { return {__uint_as_float(v << 16), __uint_as_float(v & 0xFFFF0000u)}; }
  static __device__ uint32_t fromFloats(float a, float b) {
    const __nv_bfloat162 h = __floats2bfloat162_rn(a, b);
    uint32_t v;
    memcpy(&v, &h, sizeof(v));
    return v;
  }
};

/// c += a b with a of 16 rows, b of 8 columns, 16 in between.
template <class T>
__device__ inline void multiply(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                uint32_t b1) {
  if constexpr (std::is_same_v<T, __half>)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/// Before a kernel's launches, on each device once. All stages ask for the same division of a multiprocessor's memory,
/// all of it shared: to divide it anew the multiprocessor would have to run empty between them.
template <auto Kernel> cudaError_t prepareStage(int sharedBytes) {
  static std::atomic<uint64_t> prepared; // a bit for each device
  int device = 0;
  cudaError_t error = cudaGetDevice(&device);
  const uint64_t bit = uint64_t(1) << (device % 64);
  if (error != cudaSuccess || (prepared.load(std::memory_order_acquire) & bit))
    return error;
  error = cudaFuncSetAttribute(Kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sharedBytes);
  if (error == cudaSuccess)
    error =
        cudaFuncSetAttribute(Kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
  if (error == cudaSuccess)
    prepared.fetch_or(bit, std::memory_order_release);
  return error;
}

/// As launch(), and the kernel may start before the one before it on the stream has ended.
template <class... Parameters, class... Arguments>
cudaError_t launchDependent(cudaStream_t stream, void (*kernel)(Parameters...), int64_t blocks, int threads,
                            size_t sharedBytes, int clusterBlocks, Arguments &&...arguments) {
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {unsigned(clusterBlocks), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(unsigned(blocks));
  config.blockDim = dim3(unsigned(threads));
  config.dynamicSmemBytes = sharedBytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = clusterBlocks > 1 ? 2 : 1;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

} // namespace distc::cuda
