// What stages are made of beside Hopper.cuh: copies of tiles, fresh loads, tensor-core products of one warp.
#pragma once

#include "kernels/cuda/Hopper.cuh"

namespace distc::cuda {

/// Weights are read once in a step: they should not push out of the cache what is read by all.
__device__ inline uint64_t evictFirst() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

/// Copies a box at (0, row, block) of a three-dimensional map.
__device__ inline void copyBox(uint32_t to, const void *map, int row, int block, uint64_t *barrier, uint64_t policy) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
               "[%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(to),
               "l"(map), "r"(0), "r"(row), "r"(block), "r"(sharedAddress(barrier)), "l"(policy)
               : "memory");
}
/// The same into the second cache alone.
__device__ inline void prefetchBox(const void *map, int row, int block) {
  asm volatile("cp.async.bulk.prefetch.tensor.3d.L2.global [%0, {%1, %2, %3}];" ::"l"(map), "r"(0), "r"(row), "r"(block)
               : "memory");
}
/// Bytes in a row; all multiples of 16.
__device__ inline void copyBytes(uint32_t to, const void *from, uint32_t bytes, uint64_t *barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(sharedAddress(barrier))
               : "memory");
}
__device__ inline void prefetchBytes(const void *from, uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}
__device__ inline uint4 loadShared16(uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address));
  return v;
}

__device__ inline void storeShared16(uint32_t address, uint4 v) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}

/// This thread's copies so far (copyAsync16) are a group; returns when all groups but the last `Left` are there.
__device__ inline void endCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int Left> __device__ inline void waitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
}

/// Four 8 x 8 matrices of 16-bit elements, transposed; lane i gives the address of row i % 8 of matrix i / 8.
__device__ inline uint4 loadTransposed(uint32_t address) {
  uint4 v;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
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

template <class T> __device__ inline T loadFresh(const T *p) {
  static_assert(sizeof(T) == 2);
  unsigned short bits;
  asm volatile("ld.global.cg.u16 %0, [%1];" : "=h"(bits) : "l"(p) : "memory");
  T v;
  memcpy(&v, &bits, sizeof(v));
  return v;
}

__device__ inline float loadFresh(const float *p) {
  float v;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(p) : "memory");
  return v;
}

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

/// Before a stage's launches. All stages ask for the same division of a multiprocessor's memory, all of it shared: to
/// divide it anew the multiprocessor would have to run empty between them.
template <auto Kernel> cudaError_t prepareStage(int sharedBytes) {
  return setOnce<Kernel>({{cudaFuncAttributeMaxDynamicSharedMemorySize, sharedBytes},
                          {cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared}});
}

} // namespace distc::cuda
