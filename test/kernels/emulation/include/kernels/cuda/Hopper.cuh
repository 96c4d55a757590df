// kernels/cuda/Hopper.cuh for emulation: the same functions over Emulator.h.
#pragma once

#include "kernels/cuda/Builtins.h"

#include "kernels/cuda/Device.cuh"

namespace distc::cuda {

constexpr int warpGroup = 128; // threads

inline int multiprocessors() { return 8; }
template <class F> int activeClusters(F *, int, size_t, int clusterBlocks) { return multiprocessors() / clusterBlocks; }

inline uint32_t sharedAddress(const void *p) { return emulation::sharedAddress(p); }
inline unsigned char *dynamicShared() { return emulation::sharedMemory(); }

inline void initBarrier(uint64_t *barrier, int arrivals) { emulation::initBarrier(barrier, arrivals); }
inline void fenceBarriers() {}
inline void arrive(uint64_t *barrier) { emulation::arrive(barrier, 0); }
inline void arriveAt(uint64_t *barrier, unsigned rank) {
  emulation::arrive(static_cast<uint64_t *>(emulation::atBlock(barrier, int(rank))), 0);
}
inline void arriveExpecting(uint64_t *barrier, uint32_t bytes) { emulation::arrive(barrier, bytes); }
inline void waitBarrier(uint64_t *barrier, uint32_t parity) {
  emulation::waitUntil([=] { return emulation::hasEnded(barrier, parity); });
}
inline unsigned clusterRank() { return unsigned(emulation::clusterRank); }
inline void syncCluster() { emulation::waitCluster(emulation::arriveCluster()); }
inline void syncThreads(int barrier, int threads) { emulation::meetBlock(barrier, threads); }
inline void fenceShared() {}
template <int Registers> void moreRegisters() {}
template <int Registers> void fewerRegisters() {}

inline void copyBox(uint32_t to, const CUtensorMap *matrix, int column, int row, uint64_t *barrier) {
  emulation::copyBox(to, matrix, column, row, barrier);
}
inline void copyBox(void *to, const CUtensorMap *matrix, int column, int row, uint64_t *barrier, uint16_t mask) {
  for (int rank = 0; rank < emulation::clusterBlocks; ++rank)
    if (mask >> rank & 1)
      emulation::copyBox(emulation::sharedAddress(emulation::atBlock(to, rank)), matrix, column, row,
                         static_cast<uint64_t *>(emulation::atBlock(barrier, rank)));
}
inline void prefetchMap(const CUtensorMap *) {}
inline void copyAsync16(uint32_t to, const void *from, bool wanted) {
  emulation::needPrevious();
  emulation::queueCopy([=] {
    if (wanted)
      std::memcpy(emulation::sharedPointer(to, 16), from, 16);
    else
      std::memset(emulation::sharedPointer(to), 0, 16);
  });
}

inline void arriveAfterCopies(uint64_t *barrier) { emulation::arriveAfterCopies(barrier); }

inline float exp2Of(float x) { return std::exp2(x); }

inline void letNextStart() {}
inline void waitForPrevious() { emulation::waitForPrevious(); }

template <class... Parameters, class... Arguments>
cudaError_t launchOverlapped(cudaStream_t, void (*kernel)(Parameters...), dim3 blocks, int threads, size_t sharedBytes,
                             int clusterBlocks, Arguments &&...arguments) {
  return emulation::launch(blocks, threads, sharedBytes, clusterBlocks, [&] { kernel(arguments...); }, true);
}

} // namespace distc::cuda
