// What the CUDA runtime gives, as Status and as owners of memory, streams and events.
#pragma once

#include "distc/Status.h"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>
#include <utility>

namespace distc::cuda {

/// `what`, for people: "copy the batch". Where the error is a kernel's fault, it may be one that ran before, and the
/// message says how to find it.
Status check(cudaError_t error, const char *what);

/// DISTC_CUDA_SYNC=1: every instruction is run to its end before the next, so that a fault is reported where it is.
bool synchronous();

/// Of something in a memory that others lie behind: each begins as aligned as the memory does.
constexpr size_t alignedBytes(size_t bytes) { return (bytes + 255) / 256 * 256; }

/// Memory of the device, or pinned memory of the host; freed with its owner.
class Memory {
public:
  enum class Kind { Device, Pinned };

  Memory() = default;
  /// Fails naming `what` ("rank 1: KV cache") and the size.
  static Result<Memory> allocate(Kind kind, size_t bytes, const std::string &what);
  Memory(Memory &&other) noexcept { *this = std::move(other); }
  Memory &operator=(Memory &&other) noexcept {
    std::swap(kind_, other.kind_);
    std::swap(data_, other.data_);
    return *this;
  }
  ~Memory();

  /// What cudaFree is to free.
  static Memory adopt(void *data) {
    Memory memory;
    memory.data_ = static_cast<std::byte *>(data);
    return memory;
  }
  std::byte *data() const { return data_; }
  /// No longer owned: it stays until the process ends.
  void release() { data_ = nullptr; }

private:
  Kind kind_ = Kind::Device;
  std::byte *data_ = nullptr;
};

class Stream {
public:
  Stream() = default;
  Status create();
  Stream(const Stream &) = delete;
  ~Stream();

  operator cudaStream_t() const { return stream_; }

private:
  cudaStream_t stream_ = nullptr;
};

/// Whether what is queued on the stream now goes into a graph.
bool isCaptured(cudaStream_t stream);

/// Devices that this process sees; 0 also where there is no driver.
uint32_t deviceCount();

/// Makes a device, which was opened, that of the calling thread.
Status useDevice(uint32_t index);

/// The same, and its name, if this build has code for it; else an error that says what is missing and what to do.
Result<std::string> openDevice(uint32_t index);

/// Why there is no device to use: what cudaGetDeviceCount returned, the CUDA version of the driver (13000; 0: there is
/// no driver) and the environment's CUDA_VISIBLE_DEVICES, or null.
Status noDevice(cudaError_t error, int driverVersion, const char *visibleDevices);

/// Free bytes of the thread's device's memory; 0 where there is none.
size_t freeMemory();

} // namespace distc::cuda
