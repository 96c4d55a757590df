// A device, or a skip.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

namespace distc::test {

class DeviceTest : public ::testing::Test {
protected:
  void SetUp() override {
    int devices = 0;
    if (const cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess || devices == 0)
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(error);
  }
};

} // namespace distc::test
