// Hopper's own instructions (PTX ISA 8.0, sm_90a): barriers of shared memory, copies by the tensor memory accelerator,
// products of a group of four warps, launches that overlap.
#pragma once

#include "kernels/cuda/Device.cuh"

#include <cuda.h>

namespace distc::cuda {

constexpr int warpGroup = 128; // threads

__device__ inline uint32_t sharedAddress(const void *p) { return uint32_t(__cvta_generic_to_shared(p)); }

/// Of the device that was in use at the first call: all that a process uses are alike.
inline int multiprocessors() {
  static const int count = [] {
    int device = 0, found = 0;
    return cudaGetDevice(&device) == cudaSuccess &&
                   cudaDeviceGetAttribute(&found, cudaDevAttrMultiProcessorCount, device) == cudaSuccess
               ? found
               : 2;
  }();
  return count;
}

/// What the launch gave to the block, at a multiple of 1024 bytes where the kernel has no other shared memory.
__device__ inline unsigned char *dynamicShared() {
  extern __shared__ __align__(1024) unsigned char memory[];
  return memory;
}

// ------------------------------------------------------------------------------------------- barriers of shared memory

__device__ inline void initBarrier(uint64_t *barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(sharedAddress(barrier)), "r"(arrivals));
}
/// Makes initialized barriers known to the cluster and to copies.
__device__ inline void fenceBarriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ inline void arrive(uint64_t *barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(sharedAddress(barrier)) : "memory");
}
/// At the barrier of the same place in another block of the cluster.
__device__ inline void arriveAt(uint64_t *barrier, unsigned rank) {
  asm volatile("{\n"
               ".reg .b32 remote;\n"
               "mapa.shared::cluster.u32 remote, %0, %1;\n"
               "mbarrier.arrive.shared::cluster.b64 _, [remote];\n"
               "}" ::"r"(sharedAddress(barrier)),
               "r"(rank)
               : "memory");
}
/// Arrives, and lets the phase wait for so many bytes of copies.
__device__ inline void arriveExpecting(uint64_t *barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(sharedAddress(barrier)), "r"(bytes)
               : "memory");
}
/// Returns when the phase of this parity is over.
__device__ inline void waitBarrier(uint64_t *barrier, uint32_t parity) {
  asm volatile("{\n"
               ".reg .pred done;\n"
               "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
               "@!done bra again;\n"
               "}" ::"r"(sharedAddress(barrier)),
               "r"(parity)
               : "memory");
}

/// Of this block in its cluster.
__device__ inline unsigned clusterRank() {
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline void syncCluster() {
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

/// A barrier among `threads` threads of the block; 0 is __syncthreads.
__device__ inline void syncThreads(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

/// Between ordinary stores to shared memory and tensor cores that read them: before the barrier in the thread that
/// stored, or behind it in the one that reads.
__device__ inline void fenceShared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

template <int Registers> __device__ inline void moreRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers> __device__ inline void fewerRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}

// -------------------------------------------------------------------------------------------------------------- copies

/// A box of the matrix from (row, column) on, into the same place of each block that the mask names, whose barriers
/// count the bytes.
__device__ inline void copyBox(void *to, const CUtensorMap *matrix, int column, int row, uint64_t *barrier,
                               uint16_t mask) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
               " [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(sharedAddress(to)),
               "l"(matrix), "r"(column), "r"(row), "r"(sharedAddress(barrier)), "h"(mask)
               : "memory");
}
__device__ inline void copyBox(uint32_t to, const CUtensorMap *matrix, int column, int row, uint64_t *barrier) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
               " [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
               "l"(matrix), "r"(column), "r"(row), "r"(sharedAddress(barrier))
               : "memory");
}
__device__ inline void prefetchMap(const CUtensorMap *matrix) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(matrix) : "memory");
}

/// 16 bytes, or zeros where not `wanted`.
__device__ inline void copyAsync16(uint32_t to, const void *from, bool wanted) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(wanted ? 16 : 0) : "memory");
}
/// Arrives once this thread's copies so far are there; tensor cores see them behind a wait and fenceShared.
__device__ inline void arriveAfterCopies(uint64_t *barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(sharedAddress(barrier)) : "memory");
}

/// Whose results near 0 are 0.
__device__ inline float exp2Of(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// ---------------------------------------------------------------------------------------------- overlapping launches

/// Lets the kernel behind this one in the stream start while this one runs.
__device__ inline void letNextStart() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
/// Returns when the kernel before this one has ended: before it, nothing may be read that a kernel writes, and nothing
/// written.
__device__ inline void waitForPrevious() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

/// As launch in Device.cuh, of a kernel that calls waitForPrevious: its blocks may start before the one before has
/// ended.
template <class... Parameters, class... Arguments>
cudaError_t launchOverlapped(cudaStream_t stream, void (*kernel)(Parameters...), dim3 blocks, int threads,
                             size_t sharedBytes, int clusterBlocks, Arguments &&...arguments) {
  LaunchConfig config(stream, blocks, threads, sharedBytes, clusterBlocks);
  config.add(cudaLaunchAttributeProgrammaticStreamSerialization).programmaticStreamSerializationAllowed = 1;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

/// How many clusters of such a launch run at once: multiprocessors of a cluster are neighbours, so some may be left.
template <class... Parameters>
int activeClusters(void (*kernel)(Parameters...), int threads, size_t sharedBytes, int clusterBlocks) {
  const LaunchConfig config(nullptr, dim3(unsigned(clusterBlocks)), threads, sharedBytes, clusterBlocks);
  int count = 0;
  return cudaOccupancyMaxActiveClusters(&count, kernel, &config) == cudaSuccess ? count : 0;
}

} // namespace distc::cuda
