// Files made at run time for the tests of the readers.
#pragma once

#include "distc/Status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <unistd.h>
#include <vector>

namespace distc::import::test {

/// A folder of its own for each object, removed with it.
class TemporaryFolder {
public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "distc-import-XXXXXX").string();
    if (::mkdtemp(pattern.data()))
      path_ = pattern;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder &) = delete;

  const std::string &path() const { return path_; }

  /// Writes a file and returns its path.
  std::string write(const std::string &name, std::string_view bytes) const {
    std::string path = path_ + "/" + name;
    std::ofstream(path, std::ios::binary | std::ios::trunc).write(bytes.data(), std::streamsize(bytes.size()));
    return path;
  }

private:
  std::string path_;
};

template <typename T> void append(std::string &bytes, T value) {
  bytes.append(reinterpret_cast<const char *>(&value), sizeof value);
}

/// Header length, header, `dataBytes` bytes of data.
inline std::string safetensors(std::string_view header, size_t dataBytes) {
  std::string bytes;
  append<uint64_t>(bytes, header.size());
  bytes += header;
  bytes.append(dataBytes, '\1');
  return bytes;
}

/// Writes GGUF piece by piece, right or wrong.
class GgufBuilder {
public:
  explicit GgufBuilder(uint64_t tensors = 0, uint64_t pairs = 0, uint32_t version = 3) {
    bytes_ = "GGUF";
    u32(version).u64(tensors).u64(pairs);
  }

  GgufBuilder &u8(uint8_t v) { return append(bytes_, v), *this; }
  GgufBuilder &u32(uint32_t v) { return append(bytes_, v), *this; }
  GgufBuilder &u64(uint64_t v) { return append(bytes_, v), *this; }
  GgufBuilder &f32(float v) { return append(bytes_, v), *this; }
  GgufBuilder &f64(double v) { return append(bytes_, v), *this; }
  GgufBuilder &text(std::string_view v) {
    u64(v.size());
    bytes_ += v;
    return *this;
  }
  GgufBuilder &key(std::string_view name, uint32_t type) { return text(name).u32(type); }
  GgufBuilder &tensor(std::string_view name, const std::vector<uint64_t> &innermostFirst, uint32_t type,
                      uint64_t offset) {
    text(name).u32(uint32_t(innermostFirst.size()));
    for (uint64_t dim : innermostFirst)
      u64(dim);
    return u32(type).u64(offset);
  }
  /// Pads to the alignment and adds data.
  GgufBuilder &data(size_t bytes, size_t alignment = 32) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
    bytes_.append(bytes, '\1');
    return *this;
  }
  const std::string &bytes() const { return bytes_; }

private:
  std::string bytes_;
};

/// The status is a failure whose message has all the parts.
inline void expectFailure(const Status &status, const std::vector<std::string> &parts) {
  ASSERT_FALSE(status.ok());
  for (const std::string &part : parts)
    EXPECT_THAT(status.message(), ::testing::HasSubstr(part));
}

inline std::string dataPath(const std::string &name) { return std::string(DISTC_SOURCE_DIR "/test/data/") + name; }

} // namespace distc::import::test
