// What the CUDA kernels share: element types, loads and stores of eight elements, sums over a warp and a block,
// launches.
#pragma once

#include "distc/kernels/Cuda.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <atomic>
#include <cstring>
#include <initializer_list>
#include <type_traits>
#include <utility>

namespace distc::cuda {

constexpr int warpSize = 32;
constexpr unsigned allLanes = 0xFFFFFFFFu;
constexpr int blockSharedBytes = 227 * 1024; // what a multiprocessor has for one block

__device__ inline float toFloat(float v) { return v; }
__device__ inline float toFloat(__half v) { return __half2float(v); }
__device__ inline float toFloat(__nv_bfloat16 v) { return __bfloat162float(v); }

template <class T> __device__ inline T fromFloat(float v) {
  if constexpr (std::is_same_v<T, float>)
    return v;
  else if constexpr (std::is_same_v<T, __half>)
    return __float2half_rn(v);
  else
    return __float2bfloat16_rn(v);
}

/// Two elements in a word, the first in the low half.
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

/// Eight elements as they are stored: one 16-byte access, or two.
constexpr int packElements = 8;
template <class T> struct alignas(16) Pack {
  T e[packElements];
};

/// What is read once stays out of the first cache.
__device__ inline uint4 loadStreamed16(const uint4 *p) {
#ifdef __CUDA_ARCH__
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
#else
  return *p; // where the kernel is emulated
#endif
}

/// Elements [0, n) of p, zeros behind them. Aligned: p is a multiple of 16 bytes and all eight are loaded, whatever n
/// says; a choice at run time would make the thread wait for each load before it issues the next. Streamed elements are
/// read once, by this kernel alone.
template <bool Aligned, bool Streamed = false, class T> __device__ inline Pack<T> loadPack(const T *p, int64_t n) {
  Pack<T> pack;
  if constexpr (Aligned) {
    uint4 raw[sizeof(pack) / sizeof(uint4)];
#pragma unroll
    for (int i = 0; i < int(sizeof(pack) / sizeof(uint4)); ++i)
      raw[i] =
          Streamed ? loadStreamed16(reinterpret_cast<const uint4 *>(p) + i) : reinterpret_cast<const uint4 *>(p)[i];
    memcpy(&pack, raw, sizeof(pack));
  } else {
#pragma unroll
    for (int i = 0; i < packElements; ++i)
      pack.e[i] = i < n ? p[i] : fromFloat<T>(0.0f);
  }
  return pack;
}

template <class T> __device__ inline void toFloats(const Pack<T> &pack, float (&v)[packElements]) {
#pragma unroll
  for (int i = 0; i < packElements; ++i)
    v[i] = toFloat(pack.e[i]);
}

template <bool Aligned, class T> __device__ inline void load8(const T *p, int64_t n, float (&v)[packElements]) {
  toFloats(loadPack<Aligned>(p, n), v);
}

/// Stores elements [0, n) of v at p; Aligned: all eight.
template <bool Aligned, class T> __device__ inline void store8(T *p, int64_t n, const float (&v)[packElements]) {
  Pack<T> pack;
#pragma unroll
  for (int i = 0; i < packElements; ++i)
    pack.e[i] = fromFloat<T>(v[i]);
  if constexpr (Aligned) {
    uint4 raw[sizeof(pack) / sizeof(uint4)];
    memcpy(raw, &pack, sizeof(pack));
#pragma unroll
    for (int i = 0; i < int(sizeof(pack) / sizeof(uint4)); ++i)
      reinterpret_cast<uint4 *>(p)[i] = raw[i];
  } else {
#pragma unroll
    for (int i = 0; i < packElements; ++i)
      if (i < n)
        p[i] = pack.e[i];
  }
}

/// One element of a type known at run time: for what is read or written once.
__device__ inline float loadElement(In a, int64_t i) {
  switch (a.type) {
  case Type::F16:
    return toFloat(static_cast<const __half *>(a.data)[i]);
  case Type::BF16:
    return toFloat(static_cast<const __nv_bfloat16 *>(a.data)[i]);
  default:
    return static_cast<const float *>(a.data)[i];
  }
}
__device__ inline void storeElement(Out a, int64_t i, float v) {
  switch (a.type) {
  case Type::F16:
    static_cast<__half *>(a.data)[i] = fromFloat<__half>(v);
    break;
  case Type::BF16:
    static_cast<__nv_bfloat16 *>(a.data)[i] = fromFloat<__nv_bfloat16>(v);
    break;
  default:
    static_cast<float *>(a.data)[i] = v;
  }
}

/// combine(a, b) of all lanes, the same bits in every lane where combine is commutative.
template <class T, class F> __device__ inline T reduceWarp(T v, F combine) {
  for (int offset = warpSize / 2; offset > 0; offset /= 2)
    v = combine(v, __shfl_xor_sync(allLanes, v, offset));
  return v;
}

/// The same over a block of whole warps; `shared` has an element for each warp and may be used again after the call.
template <class T, class F> __device__ inline T reduceBlock(T v, T *shared, F combine) {
  v = reduceWarp(v, combine);
  if (threadIdx.x % warpSize == 0)
    shared[threadIdx.x / warpSize] = v;
  __syncthreads();
  v = shared[0];
  for (unsigned warp = 1; warp < blockDim.x / warpSize; ++warp)
    v = combine(v, shared[warp]);
  __syncthreads();
  return v;
}

struct Plus {
  template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};

// ------------------------------------------------------------------------------------------------------------- host

/// f with an element of the type, f(float()) for F32.
template <class F> cudaError_t withType(Type type, F f) {
  switch (type) {
  case Type::F32:
    return f(float());
  case Type::F16:
    return f(__half());
  case Type::BF16:
    return f(__nv_bfloat16());
  }
  return cudaErrorInvalidValue;
}

/// f with std::true_type or std::false_type.
template <class F> cudaError_t withBool(bool value, F f) { return value ? f(std::true_type()) : f(std::false_type()); }

inline int64_t elementBytes(Type type) { return type == Type::F32 ? 4 : 2; }

/// True if all of them are multiples of 16 bytes.
template <class... P> bool aligned16(P... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

/// True if all are arrays of n elements that packs cover without a rest.
template <class... P> bool wholePacks(int64_t n, P... pointers) {
  return n % packElements == 0 && aligned16(pointers...);
}

constexpr int64_t divideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// What a kernel asks for before its first launch, on each device once: of a kernel there is one call.
template <auto Kernel> cudaError_t setOnce(std::initializer_list<std::pair<cudaFuncAttribute, int>> attributes) {
  static std::atomic<uint64_t> devices; // a bit for each that has been told
  int device = 0;
  cudaError_t error = cudaGetDevice(&device);
  const uint64_t bit = uint64_t(1) << (device % 64);
  if (error != cudaSuccess || (devices.load(std::memory_order_acquire) & bit))
    return error;
  for (const auto &[attribute, value] : attributes)
    if (error == cudaSuccess)
      error = cudaFuncSetAttribute(Kernel, attribute, value);
  if (error == cudaSuccess)
    devices.fetch_or(bit, std::memory_order_release);
  return error;
}

/// More shared memory than every kernel may use.
template <auto Kernel> cudaError_t allowShared(size_t bytes) {
  return setOnce<Kernel>({{cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)}});
}

/// What is said of a launch beside its kernel and arguments; it points into itself.
struct LaunchConfig : cudaLaunchConfig_t {
  LaunchConfig(cudaStream_t on, dim3 blocks, int threads, size_t sharedBytes, int clusterBlocks)
      : cudaLaunchConfig_t{blocks, dim3(unsigned(threads)), sharedBytes, on, attributes, 0} {
    if (clusterBlocks > 1)
      add(cudaLaunchAttributeClusterDimension).clusterDim = {unsigned(clusterBlocks), 1, 1};
  }
  LaunchConfig(const LaunchConfig &) = delete;

  cudaLaunchAttributeValue &add(cudaLaunchAttributeID id) {
    cudaLaunchAttribute &attribute = attributes[numAttrs++];
    attribute.id = id;
    return attribute.val;
  }

private:
  cudaLaunchAttribute attributes[2] = {};
};

/// Launches `blocks` blocks in clusters of `clusterBlocks`; no blocks, no launch.
template <class... Parameters, class... Arguments>
cudaError_t launch(cudaStream_t stream, void (*kernel)(Parameters...), int64_t blocks, int threads, size_t sharedBytes,
                   int clusterBlocks, Arguments &&...arguments) {
  if (blocks <= 0)
    return cudaSuccess;
  if (blocks > INT32_MAX)
    return cudaErrorInvalidValue;
  const LaunchConfig config(stream, dim3(unsigned(blocks)), threads, sharedBytes, clusterBlocks);
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

template <class... Parameters, class... Arguments>
cudaError_t launch(cudaStream_t stream, void (*kernel)(Parameters...), int64_t blocks, int threads,
                   Arguments &&...arguments) {
  return launch(stream, kernel, blocks, threads, size_t(0), 1, std::forward<Arguments>(arguments)...);
}

} // namespace distc::cuda
