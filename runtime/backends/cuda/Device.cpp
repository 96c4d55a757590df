#include "runtime/backends/cuda/Device.h"

#include "runtime/base/File.h"

namespace distc::cuda {

Result<Memory> Memory::allocate(Kind kind, size_t bytes, const std::string &what) {
  Memory memory;
  memory.kind_ = kind;
  if (bytes == 0)
    return memory;
  void *data = nullptr;
  const cudaError_t error = kind == Kind::Device ? cudaMalloc(&data, bytes) : cudaMallocHost(&data, bytes);
  if (error != cudaSuccess) {
    (void)cudaGetLastError(); // not sticky: what follows may succeed
    return resourceExhausted(what + ": cannot allocate " + formatBytes(bytes) + " of " +
                             (kind == Kind::Device ? "device" : "pinned") + " memory, " + formatBytes(freeMemory()) +
                             " of the device are free: " + cudaGetErrorString(error));
  }
  memory.data_ = static_cast<std::byte *>(data);
  return memory;
}

Memory::~Memory() {
  if (data_)
    (void)(kind_ == Kind::Device ? cudaFree(data_) : cudaFreeHost(data_));
}

Status Stream::create() { return check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "create a stream"); }

Stream::~Stream() {
  if (stream_)
    (void)cudaStreamDestroy(stream_);
}

uint32_t deviceCount() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess)
    (void)cudaGetLastError();
  return static_cast<uint32_t>(devices);
}

Status useDevice(uint32_t index) {
  int devices = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess || devices == 0) {
    (void)cudaGetLastError();
    return failedPrecondition(std::string("no usable GPU: ") +
                              (error == cudaSuccess ? "there is none" : cudaGetErrorString(error)) +
                              "; compile with --target cpu to run on the processor");
  }
  const int device = static_cast<int>(index);
  if (device >= devices)
    return failedPrecondition("GPU " + std::to_string(index) + " is needed, and this process sees " +
                              std::to_string(devices) + "; start no more processes on a host than it has GPUs");
  cudaDeviceProp properties;
  DISTC_TRY(check(cudaGetDeviceProperties(&properties, device), "read the GPU's properties"));
  if (properties.major != 9)
    return failedPrecondition(std::string(properties.name) + " is of architecture sm_" +
                              std::to_string(properties.major * 10 + properties.minor) +
                              ", and this build has code for sm_90");
  return check(cudaSetDevice(device), "use the GPU");
}

size_t freeMemory() {
  size_t free = 0, total = 0;
  return cudaMemGetInfo(&free, &total) == cudaSuccess ? free : 0;
}

} // namespace distc::cuda
