// What the CUDA kernel tests share: a device or a skip, operands on the device in every type, guarded outputs.
#pragma once

#include "distc/kernels/Cuda.h"
#include "test/kernels/Reference.h"

#include <bit>
#include <cstring>
#include <limits>
#include <memory>

namespace distc::cuda {

using reference::relativeError;

#define ASSERT_CUDA(call) ASSERT_EQ(call, cudaSuccess)
#define EXPECT_CUDA(call) EXPECT_EQ(call, cudaSuccess)

inline constexpr Type types[] = {Type::F32, Type::F16, Type::BF16};
inline size_t bytesOf(Type type) { return type == Type::F32 ? 4 : 2; }

/// The bound of ||out - reference|| / ||reference|| for outputs of a type: `f32`, that of the arithmetic, and the error
/// of rounding to the type, at most half a unit in the last place of each element.
inline double bound(Type type, double f32) {
  return f32 + (type == Type::F32 ? 0.0 : type == Type::F16 ? 0x1p-11 : 0x1p-8);
}

/// A value as it is stored, by arithmetic that is not the kernels'; and back.
inline uint32_t encode(float v, Type type) {
  const auto bits = std::bit_cast<uint32_t>(v);
  if (type == Type::F32)
    return bits;
  if (type == Type::F16)
    return std::bit_cast<uint16_t>(static_cast<_Float16>(v));
  return std::isnan(v) ? 0x7FFF : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}
inline float decode(uint32_t bits, Type type) {
  if (type == Type::F16)
    return static_cast<float>(std::bit_cast<_Float16>(static_cast<uint16_t>(bits)));
  return std::bit_cast<float>(type == Type::F32 ? bits : bits << 16);
}
inline std::vector<float> rounded(std::vector<float> values, Type type) {
  for (float &v : values)
    v = decode(encode(v, type), type);
  return values;
}

/// Bytes on the device, all 0xFF before a call (a NaN in every type, -1 as an integer), between canaries that must
/// outlive it. They start `shift` bytes behind a multiple of 256.
class DeviceBytes {
public:
  explicit DeviceBytes(size_t size, size_t shift = 0) : size(size), offset(margin + shift) {
    EXPECT_CUDA(cudaMalloc(&memory, offset + size + margin));
    EXPECT_CUDA(cudaMemset(memory, canary, offset + size + margin));
    EXPECT_CUDA(cudaMemset(data(), 0xFF, size));
  }
  ~DeviceBytes() {
    std::vector<unsigned char> all(offset + size + margin);
    EXPECT_CUDA(cudaMemcpy(all.data(), memory, all.size(), cudaMemcpyDefault));
    for (size_t i = 0; i < all.size(); ++i)
      if ((i < offset || i >= offset + size) && all[i] != canary) {
        ADD_FAILURE() << "written outside, at byte " << int64_t(i) - int64_t(offset) << " of " << size;
        break;
      }
    EXPECT_CUDA(cudaFree(memory));
  }
  DeviceBytes(const DeviceBytes &) = delete;

  unsigned char *data() const { return static_cast<unsigned char *>(memory) + offset; }
  std::vector<unsigned char> bytes() const {
    std::vector<unsigned char> result(size);
    EXPECT_CUDA(cudaMemcpy(result.data(), data(), size, cudaMemcpyDefault)); // waits for the default stream
    return result;
  }
  void set(const void *values) { EXPECT_CUDA(cudaMemcpy(data(), values, size, cudaMemcpyDefault)); }

private:
  static constexpr size_t margin = 256;
  static constexpr unsigned char canary = 0xA5;
  size_t size, offset;
  void *memory = nullptr;
};

/// Values of a type on the device, where `shifted` aligned to the element only. Without content: poisoned.
class DeviceValues {
public:
  DeviceValues(size_t n, Type type, bool shifted = false)
      : n(n), type(type), memory(n * bytesOf(type), shifted ? bytesOf(type) : 0) {}
  DeviceValues(const std::vector<float> &values, Type type, bool shifted = false)
      : DeviceValues(values.size(), type, shifted) {
    std::vector<unsigned char> stored(n * bytesOf(type));
    for (size_t i = 0; i < n; ++i) {
      const uint32_t bits = encode(values[i], type);
      std::memcpy(&stored[i * bytesOf(type)], &bits, bytesOf(type));
    }
    memory.set(stored.data());
  }

  void *data() const { return memory.data(); }
  float *floats() const { return reinterpret_cast<float *>(memory.data()); }
  operator In() const { return {memory.data(), type}; }
  operator Out() const { return {memory.data(), type}; }
  std::vector<unsigned char> bytes() const { return memory.bytes(); }
  std::vector<float> values() const {
    const std::vector<unsigned char> stored = bytes();
    std::vector<float> result(n);
    for (size_t i = 0; i < n; ++i) {
      uint32_t bits = 0;
      std::memcpy(&bits, &stored[i * bytesOf(type)], bytesOf(type));
      result[i] = decode(bits, type);
    }
    return result;
  }

private:
  size_t n;
  Type type;
  DeviceBytes memory;
};

/// Anything else on the device.
template <class T> class DeviceArray {
public:
  explicit DeviceArray(const std::vector<T> &values) : memory(values.size() * sizeof(T)) { memory.set(values.data()); }
  T *data() const { return reinterpret_cast<T *>(memory.data()); }
  std::vector<T> values() const {
    const std::vector<unsigned char> stored = memory.bytes();
    std::vector<T> result(stored.size() / sizeof(T));
    std::memcpy(result.data(), stored.data(), stored.size());
    return result;
  }

private:
  DeviceBytes memory;
};

class DeviceTest : public testing::Test {
protected:
  void SetUp() override {
    int devices = 0;
    if (const cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess || devices == 0)
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(error);
  }
  void TearDown() override {
    if (!IsSkipped()) {
      EXPECT_CUDA(cudaDeviceSynchronize());
      EXPECT_CUDA(cudaGetLastError());
    }
  }

  std::vector<float> normal(size_t n, float deviation = 1.0f) { return random.normal(n, deviation); }
  int64_t uniform(int64_t low, int64_t high) { return random.uniform(low, high); }

  reference::Random random;
};

} // namespace distc::cuda
