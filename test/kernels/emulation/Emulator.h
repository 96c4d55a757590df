// Runs CUDA kernels of this project on the CPU, for tests where there is no GPU: kernels that reach the hardware
// through kernels/cuda/Hopper.cuh and Stage.cuh alone, whose place the headers in include/ take. Each thread of a
// cluster is a fiber; a fiber runs until it waits. What hardware does in its own time (tensor copies, cp.async) is done
// as late as it may be, or after a random while, so that a missing wait shows. A state in which all wait is an error,
// not a hang. So is a copy that nobody waits for,
// and what is written behind the shared memory of a launch. Not seen: fences between ordinary and asynchronous
// accesses.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace distc::emulation {

constexpr int lanes = 32;

/// Of the fiber that runs.
extern dim3 threadIdx, blockIdx, blockDim, gridDim;
extern int clusterRank, clusterBlocks; // its block's, in the cluster

/// Returns when `ready`; others run meanwhile.
void waitUntil(const std::function<bool()> &ready);

/// All lanes of the warp meet; each gives `mine`, and `act` is called once with all of them, in lane order. `what` must
/// be the same for all.
void meetWarp(const char *what, void *mine, const std::function<void(std::span<void *const>)> &act);
/// As many threads of the block meet at a barrier; of the cluster.
void meetBlock(int barrier, int threads);
uint64_t arriveCluster();
void waitCluster(uint64_t ticket);

/// Shared memory has addresses of 32 bits.
unsigned char *sharedMemory();
uint32_t sharedAddress(const void *p);
unsigned char *sharedPointer(uint32_t address, uint32_t alignment = 1);
/// The same place in another block of the cluster.
void *atBlock(void *p, int rank);

/// griddepcontrol.wait; what may be read and written only behind it says so.
void waitForPrevious();
void needPrevious();

/// mbarrier of 64 bits.
void initBarrier(uint64_t *barrier, int arrivals);
void arrive(uint64_t *barrier, uint32_t expectedBytes);
bool hasEnded(const uint64_t *barrier, uint32_t parity);

/// After a while `copy` is called, and so many bytes are told to the barrier.
void copyLater(std::function<void()> copy, uint64_t *barrier, uint32_t bytes);
/// cp.async: what the thread has queued is in a group after `endCopies`.
void queueCopy(std::function<void()> copy);
void endCopies();
void waitCopies(size_t left);
/// cp.async.mbarrier.arrive: what the thread has queued is done after a while, and it arrives.
void arriveAfterCopies(uint64_t *barrier);

/// wgmma: likewise, in groups after `commitProducts`, for all threads of a warp group when the first of them waits.
void queueProduct(std::function<void()> product);
void commitProducts();
void waitProducts(size_t left);

/// A descriptor as the copy engine reads it: boxes of 64 elements of 2 bytes, rows, blocks of 64 columns.
struct Map {
  const unsigned char *data;
  int64_t rows, cols, rowBytes;
  int boxRows, boxBlocks;
  bool inside; // no box reaches behind the last row but by half a unit
};
/// Copies the box to shared memory, each 128 bytes swizzled; what is outside is zero.
void copyBox(uint32_t to, const void *map, int column, int row, uint64_t *barrier);
void checkBox(const void *map, int column, int row);

/// Runs all blocks, cluster after cluster. What goes wrong is printed, and an error.
cudaError_t launch(dim3 grid, int threads, size_t sharedBytes, int clusterBlocks, const std::function<void()> &kernel,
                   bool overlapped = false);

/// An error of the kernel under test: ends the run.
[[noreturn]] void fail(const char *what);

} // namespace distc::emulation
