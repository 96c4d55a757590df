// A checkpoint of made-up tensors in one file, with the values as a reference sees them.
#pragma once

#include "runtime/base/File.h"
#include "runtime/plan/Convert.h"
#include "runtime/plan/RandomWeights.h"
#include "runtime/schema/PlanFile.h"
#include "test/kernels/Blocks.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <unistd.h>

namespace distc::test {

/// A seed that differs from run to run, printed so that a failure can be repeated.
inline uint32_t freshSeed() {
  const uint32_t seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  return seed;
}

/// A folder that goes away with the object.
class TemporaryFolder {
public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::path(::testing::TempDir()) / "distc-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder &) = delete;
  std::string operator/(const std::string &name) const { return (std::filesystem::path(path_) / name).string(); }
  const std::string &path() const { return path_; }

private:
  std::string path_;
};

class Checkpoint {
public:
  explicit Checkpoint(uint32_t seed) : random_(seed), bytes_(kHeader, 'h') {}

  /// Adds a tensor of random values of magnitude `scale` around `mean`; returns its index.
  uint32_t add(const std::string &name, plan::DType dtype, std::vector<uint64_t> shape, float scale = 1,
               float mean = 0) {
    uint64_t elements = 1;
    for (uint64_t d : shape)
      elements *= d;
    bytes_.resize((bytes_.size() + 63) / 64 * 64, 'p');
    plan::SourceTensorT tensor;
    tensor.name = name;
    tensor.file = 0;
    tensor.dtype = dtype;
    tensor.shape = std::move(shape);
    tensor.offset = bytes_.size();
    std::vector<float> &values = values_.emplace_back();
    for (uint64_t i = 0; i < elements; i += dtypeBlock(dtype))
      append(dtype, scale, mean, values);
    tensor.bytes = bytes_.size() - tensor.offset;
    tensors_.push_back(tensor);
    return static_cast<uint32_t>(tensors_.size()) - 1;
  }

  const std::vector<float> &values(uint32_t tensor) const { return values_[tensor]; }
  const std::vector<plan::SourceTensorT> &tensors() const { return tensors_; }
  const std::string &bytes() const { return bytes_; }

  /// The file as a plan records it, under `path`.
  plan::SourceFileT file(const std::string &path) const {
    plan::SourceFileT file;
    file.path = path;
    file.size = bytes_.size();
    file.header_bytes = kHeader;
    file.header_hash = hashBytes(std::string_view(bytes_).substr(0, kHeader));
    return file;
  }

  void write(const std::string &path) const { std::ofstream(path, std::ios::binary) << bytes_; }

private:
  static constexpr size_t kHeader = 64;

  template <typename T> void put(T value) { bytes_.append(reinterpret_cast<const char *>(&value), sizeof value); }

  void append(plan::DType dtype, float scale, float mean, std::vector<float> &values) {
    std::normal_distribution<float> normal(mean, scale);
    if (dtype == plan::DType::F32) {
      put(values.emplace_back(normal(random_)));
    } else if (dtype == plan::DType::F16) {
      const auto half = static_cast<_Float16>(normal(random_));
      put(half);
      values.push_back(static_cast<float>(half));
    } else if (dtype == plan::DType::BF16) {
      const float value = normal(random_);
      uint32_t bits;
      std::memcpy(&bits, &value, 4);
      bits &= 0xffff0000; // any bf16 value will do
      put(static_cast<uint16_t>(bits >> 16));
      std::memcpy(&values.emplace_back(), &bits, 4);
    } else {
      std::vector<uint8_t> block(dtypeBytes(dtype));
      fillRandom(block.data(), dtype, plan::Init::Uniform, scale, random_(), 0, dtypeBlock(dtype));
      bytes_.append(reinterpret_cast<const char *>(block.data()), block.size());
      const std::vector<float> exact = reference::dequantized(weightType(dtype), block);
      values.insert(values.end(), exact.begin(), exact.end());
    }
  }

  std::mt19937 random_;
  std::string bytes_;
  std::vector<plan::SourceTensorT> tensors_;
  std::vector<std::vector<float>> values_;
};

} // namespace distc::test
