// What is said where no GPU can be used: needs none.
#include "runtime/backends/Backend.h"
#include "runtime/backends/cuda/Device.h"

#include <gmock/gmock.h>

namespace distc::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(CudaErrors, NoDriver) {
  const Status status = cuda::noDevice(cudaErrorInsufficientDriver, 0, nullptr);
  EXPECT_EQ(status.code(), Code::FailedPrecondition);
  EXPECT_EQ(status.message(), "no usable GPU: there is no NVIDIA driver; install one for CUDA " +
                                  std::to_string(CUDART_VERSION / 1000) + "." +
                                  std::to_string(CUDART_VERSION % 1000 / 10) +
                                  " or later, or compile with --target cpu to run on the processor");
}

TEST(CudaErrors, TheDriverIsTooOld) {
  EXPECT_THAT(cuda::noDevice(cudaErrorInsufficientDriver, 12040, nullptr).message(),
              AllOf(HasSubstr("the NVIDIA driver is for CUDA 12.4 and this build needs"), HasSubstr("newer driver")));
}

TEST(CudaErrors, NoDeviceIsVisible) {
  EXPECT_THAT(cuda::noDevice(cudaErrorNoDevice, 13000, "").message(),
              HasSubstr("CUDA_VISIBLE_DEVICES is '', which leaves none; unset it"));
  EXPECT_THAT(cuda::noDevice(cudaSuccess, 13000, nullptr).message(), HasSubstr("the driver finds none"));
}

TEST(CudaErrors, AnyOtherReasonIsTheSystems) {
  EXPECT_THAT(cuda::noDevice(cudaErrorSystemDriverMismatch, 13000, nullptr).message(),
              HasSubstr("(cudaErrorSystemDriverMismatch)"));
}

// Of this machine, whatever it has: a device, or a reason and what to do.
TEST(CudaErrors, OpeningSaysWhatToDo) {
  const auto device = openDevice("sm_90");
  if (device.ok()) {
    EXPECT_GT(device->availableMemory, 0u);
    EXPECT_THAT(device->memoryName, HasSubstr("memory of GPU 0 ("));
  } else {
    EXPECT_THAT(device.status().message(), HasSubstr("or compile with --target cpu"));
  }
}

TEST(CudaErrors, AFaultNamesTheVariable) {
  EXPECT_TRUE(cuda::check(cudaSuccess, "run the step").ok());
  EXPECT_THAT(cuda::check(cudaErrorIllegalAddress, "run the step").message(),
              AllOf(HasSubstr("cannot run the step: "), HasSubstr("(cudaErrorIllegalAddress)"),
                    HasSubstr("DISTC_CUDA_SYNC=1")));
  EXPECT_THAT(cuda::check(cudaErrorInvalidValue, "x").message(), Not(HasSubstr("DISTC_CUDA_SYNC")));
  EXPECT_EQ(cuda::check(cudaErrorMemoryAllocation, "x").code(), Code::ResourceExhausted);
}

} // namespace
} // namespace distc::test
