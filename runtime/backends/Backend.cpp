#include "runtime/backends/Backend.h"

#include "runtime/backends/cpu/CpuBackend.h"
#include "runtime/base/File.h"
#include "runtime/base/Laps.h"
#include "runtime/base/Log.h"
#include "runtime/base/System.h"
#include "runtime/plan/Convert.h"
#ifdef DISTC_HAVE_CUDA
#include "runtime/backends/cuda/CudaBackend.h"
#include "runtime/backends/cuda/Nccl.h"
#endif

#include <algorithm>

namespace distc {

namespace {

constexpr std::string_view kCpu = "cpu";
[[maybe_unused]] constexpr std::string_view kCuda = "sm_90";

#ifdef DISTC_HAVE_CUDA
constexpr const char *kTargets = "'cpu' and 'sm_90'; compile with --target cpu or sm_90";
#else
constexpr const char *kTargets =
    "'cpu'; compile with --target cpu, or for a GPU build distrun with -DDISTC_CUDA=ON (cmake --preset cuda)";
#endif

} // namespace

std::vector<float> toF32(const void *data, plan::DType dtype, size_t count) {
  std::vector<float> out(count);
  if (dtype == plan::DType::I32)
    std::copy_n(static_cast<const int32_t *>(data), count, out.begin());
  else if (count > 0) // an empty vector has no address
    convert(data, dtype, 0, count, out.data(), plan::DType::F32);
  return out;
}

std::string_view deviceTargets() {
#ifdef DISTC_HAVE_CUDA
  return kCuda;
#else
  return "";
#endif
}

uint32_t deviceCount(std::string_view target) {
#ifdef DISTC_HAVE_CUDA
  if (target == kCuda)
    return cuda::deviceCount();
#endif
  return 0;
}

Result<Device> openDevice(std::string_view target, uint32_t index) {
  if (target == kCpu)
    return Device{0, availableMemory(), nullptr, cpuReadBandwidth, "memory"};
#ifdef DISTC_HAVE_CUDA
  if (target == kCuda) {
    Laps laps;
    DISTC_ASSIGN(const std::string name, cuda::openDevice(index));
    const uint64_t free = cuda::freeMemory();
    laps.lap("open");
    log(LogLevel::Info, name + ": " + formatBytes(free) + " free; " + laps.text());
    return Device{index, free, createDeviceMemory(), cudaReadBandwidth, "memory of " + name};
  }
#endif
  return failedPrecondition("the plan is for target '" + std::string(target) + "', this build runs " + kTargets);
}

#ifdef DISTC_HAVE_CUDA
Result<std::vector<std::byte>> openDeviceNetwork(std::span<const plan::Plan *const> plans) { return openNccl(plans); }

std::unique_ptr<Communicator> joinDeviceNetwork(std::span<const plan::Plan *const> plans, uint32_t rank,
                                                uint32_t device, std::vector<std::byte> network,
                                                std::shared_ptr<World> world) {
  return joinNccl(plans, rank, device, std::move(network), std::move(world));
}
#else // there are no devices, so nobody calls these
Result<std::vector<std::byte>> openDeviceNetwork(std::span<const plan::Plan *const>) {
  return internal("this build has no devices");
}
std::unique_ptr<Communicator> joinDeviceNetwork(std::span<const plan::Plan *const>, uint32_t, uint32_t,
                                                std::vector<std::byte>, std::shared_ptr<World>) {
  return nullptr;
}
#endif

std::unique_ptr<Backend> createBackend(const plan::Plan &plan, [[maybe_unused]] uint32_t index,
                                       const Communicators &communicators, ThreadPool &pool) {
#ifdef DISTC_HAVE_CUDA
  if (plan.target()->string_view() == kCuda)
    return std::make_unique<CudaBackend>(plan, index, *communicators[0], pool);
#endif
  return std::make_unique<CpuBackend>(plan, communicators, pool);
}

} // namespace distc
