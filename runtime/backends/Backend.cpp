#include "runtime/backends/Backend.h"

#include "runtime/backends/cpu/CpuBackend.h"
#include "runtime/base/File.h"
#include "runtime/base/Laps.h"
#include "runtime/base/Log.h"
#include "runtime/base/System.h"
#ifdef DISTC_HAVE_CUDA
#include "runtime/backends/cuda/CudaBackend.h"
#endif

namespace distc {

namespace {

constexpr std::string_view kCpu = "cpu", kCuda = "sm_90";

#ifdef DISTC_HAVE_CUDA
constexpr const char *kTargets = "'cpu' and 'sm_90'; compile with --target cpu or sm_90";
#else
constexpr const char *kTargets =
    "'cpu'; compile with --target cpu, or for a GPU build distrun with -DDISTC_CUDA=ON (cmake --preset cuda)";
#endif

} // namespace

Result<Device> openDevice(std::string_view target) {
  if (target == kCpu)
    return Device{availableMemory(), nullptr, cpuReadBandwidth, "memory"};
#ifdef DISTC_HAVE_CUDA
  if (target == kCuda) {
    Laps laps;
    DISTC_ASSIGN(const std::string name, cuda::openDevice());
    const uint64_t free = cuda::freeMemory();
    laps.lap("open");
    log(LogLevel::Info, name + ": " + formatBytes(free) + " free; " + laps.text());
    return Device{free, createDeviceMemory(), cudaReadBandwidth, "memory of " + name};
  }
#endif
  return failedPrecondition("the plan is for target '" + std::string(target) + "', this build runs " + kTargets);
}

std::unique_ptr<Backend> createBackend(const plan::Plan &plan, Communicator &communicator, ThreadPool &pool) {
#ifdef DISTC_HAVE_CUDA
  if (plan.target()->string_view() == kCuda)
    return std::make_unique<CudaBackend>(plan, communicator, pool);
#endif
  return std::make_unique<CpuBackend>(plan, communicator, pool);
}

} // namespace distc
