#include "runtime/backends/cuda/Device.h"

#include "distc/kernels/Cuda.h"
#include "runtime/base/File.h"

#include <cstdlib>
#include <string_view>

namespace distc::cuda {

namespace {

constexpr const char *kOrCpu = ", or compile with --target cpu to run on the processor";

std::string versionText(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string textOf(cudaError_t error) {
  return std::string(cudaGetErrorString(error)) + " (" + cudaGetErrorName(error) + ")";
}

// What a running kernel did; any later call may return it.
bool isFault(cudaError_t error) {
  switch (error) {
  case cudaErrorIllegalAddress:
  case cudaErrorMisalignedAddress:
  case cudaErrorIllegalInstruction:
  case cudaErrorInvalidAddressSpace:
  case cudaErrorInvalidPc:
  case cudaErrorHardwareStackError:
  case cudaErrorLaunchFailure:
  case cudaErrorLaunchTimeout:
  case cudaErrorAssert:
    return true;
  default:
    return false;
  }
}

} // namespace

Status check(cudaError_t error, const char *what) {
  if (error == cudaSuccess)
    return {};
  std::string text = std::string("cannot ") + what + ": " + textOf(error);
  if (isFault(error) && !synchronous())
    text += "; a kernel before it failed: run again with DISTC_CUDA_SYNC=1, which names the instruction";
  return error == cudaErrorMemoryAllocation ? resourceExhausted(text) : internal(text);
}

bool synchronous() {
  static const bool wanted = [] {
    const char *value = std::getenv("DISTC_CUDA_SYNC");
    return value && std::string_view(value) != "" && std::string_view(value) != "0";
  }();
  return wanted;
}

Result<Memory> Memory::allocate(Kind kind, size_t bytes, const std::string &what) {
  Memory memory;
  memory.kind_ = kind;
  if (bytes == 0)
    return memory;
  void *data = nullptr;
  const cudaError_t error = kind == Kind::Device ? cudaMalloc(&data, bytes) : cudaMallocHost(&data, bytes);
  if (error != cudaSuccess) {
    (void)cudaGetLastError(); // not sticky: what follows may succeed
    const std::string text = what + ": cannot allocate " + formatBytes(bytes) + " of ";
    if (kind == Kind::Pinned)
      return resourceExhausted(text + "pinned host memory: " + textOf(error) +
                               "; free memory, or raise the limit of locked memory");
    return resourceExhausted(text + "device memory, " + formatBytes(freeMemory()) + " are free: " + textOf(error) +
                             "; another process may hold the rest (nvidia-smi), else compile for a smaller batch or "
                             "shorter sequences");
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

bool isCaptured(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  return cudaStreamIsCapturing(stream, &status) == cudaSuccess && status == cudaStreamCaptureStatusActive;
}

Status noDevice(cudaError_t error, int driverVersion, const char *visibleDevices) {
  const std::string needed = "CUDA " + versionText(CUDART_VERSION);
  std::string text = "no usable GPU: ";
  if (error == cudaErrorInsufficientDriver && driverVersion == 0)
    text += "there is no NVIDIA driver; install one for " + needed + " or later" + kOrCpu;
  else if (error == cudaErrorInsufficientDriver)
    text += "the NVIDIA driver is for CUDA " + versionText(driverVersion) + " and this build needs " + needed +
            "; install a newer driver" + kOrCpu;
  else if ((error == cudaErrorNoDevice || error == cudaSuccess) && visibleDevices)
    text += "CUDA_VISIBLE_DEVICES is '" + std::string(visibleDevices) + "', which leaves none; unset it" + kOrCpu;
  else if (error == cudaErrorNoDevice || error == cudaSuccess)
    text += std::string("the driver finds none; see nvidia-smi") + kOrCpu;
  else
    text += textOf(error) + "; see nvidia-smi" + kOrCpu;
  return failedPrecondition(text);
}

uint32_t deviceCount() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess)
    (void)cudaGetLastError();
  return static_cast<uint32_t>(devices);
}

Status useDevice(uint32_t index) { return check(cudaSetDevice(static_cast<int>(index)), "use the GPU"); }

Result<std::string> openDevice(uint32_t index) {
  int devices = 0, driver = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess || devices == 0) {
    (void)cudaGetLastError();
    (void)cudaDriverGetVersion(&driver);
    return noDevice(error, driver, std::getenv("CUDA_VISIBLE_DEVICES"));
  }
  const int device = static_cast<int>(index);
  if (device >= devices)
    return failedPrecondition("GPU " + std::to_string(index) + " is needed, and this process sees " +
                              std::to_string(devices) + "; start no more processes on a host than it has GPUs");
  cudaDeviceProp properties;
  DISTC_TRY(useDevice(index));
  DISTC_TRY(check(cudaGetDeviceProperties(&properties, device), "read the GPU's properties"));
  const cudaError_t code = hasCode();
  const std::string name = "GPU " + std::to_string(device) + " (" + properties.name + ")";
  if (code == cudaErrorNoKernelImageForDevice || code == cudaErrorInvalidDeviceFunction) {
    (void)cudaGetLastError();
    return failedPrecondition(name + " is of architecture sm_" +
                              std::to_string(properties.major * 10 + properties.minor) +
                              " and this build has code for " DISTC_CUDA_ARCHITECTURES
                              " alone; use such a GPU (CUDA_VISIBLE_DEVICES chooses one)" +
                              kOrCpu);
  }
  DISTC_TRY(check(code, ("use " + name).c_str()));
  return name;
}

size_t freeMemory() {
  size_t free = 0, total = 0;
  return cudaMemGetInfo(&free, &total) == cudaSuccess ? free : 0;
}

} // namespace distc::cuda
