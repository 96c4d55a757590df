// What the CUDA runtime gives, as Status and as owners of memory, streams and events.
#pragma once

#include "distc/Status.h"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>
#include <utility>

namespace distc::cuda {

/// `what`, for people: "copy the batch".
inline Status check(cudaError_t error, const char *what) {
  if (error == cudaSuccess)
    return {};
  const std::string text = std::string("cannot ") + what + ": " + cudaGetErrorString(error);
  return error == cudaErrorMemoryAllocation ? resourceExhausted(text) : internal(text);
}

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

  std::byte *data() const { return data_; }

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

/// Devices that this process sees; 0 also where there is no driver.
uint32_t deviceCount();

/// Makes a device that of the calling thread; an error that says what is missing if this build has no code for it.
Status useDevice(uint32_t index);

/// Free bytes of the thread's device's memory; 0 where there is none.
size_t freeMemory();

} // namespace distc::cuda
