// Messages between processes as bytes: numbers, texts and arrays, one after the other. All processes of a run are of
// one kind of machine, so values travel as they are in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace distc {

class ByteWriter {
public:
  template <typename T> ByteWriter &put(const T &value) {
    static_assert(std::is_trivially_copyable_v<T> && !std::is_pointer_v<T>);
    return raw(&value, sizeof(value));
  }
  template <typename T> ByteWriter &put(const std::vector<T> &values) {
    static_assert(std::is_trivially_copyable_v<T>);
    return put<uint64_t>(values.size()).raw(values.data(), values.size() * sizeof(T));
  }
  ByteWriter &put(const std::string &text) { return put<uint64_t>(text.size()).raw(text.data(), text.size()); }

  ByteWriter &raw(const void *data, size_t bytes);
  const std::vector<std::byte> &bytes() const { return bytes_; }
  std::vector<std::byte> take() { return std::move(bytes_); }

private:
  std::vector<std::byte> bytes_;
};

/// Reads what a ByteWriter wrote; values stay as they are where the bytes end too early, and ok() is false from then
/// on.
class ByteReader {
public:
  explicit ByteReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <typename T> ByteReader &get(T &value) {
    static_assert(std::is_trivially_copyable_v<T> && !std::is_pointer_v<T>);
    if (const std::byte *data = raw(sizeof(T)))
      std::memcpy(&value, data, sizeof(T));
    return *this;
  }
  template <typename T> ByteReader &get(std::vector<T> &values) {
    static_assert(std::is_trivially_copyable_v<T>);
    uint64_t count = 0;
    get(count);
    if (count > rest_.size() / sizeof(T))
      ok_ = false;
    else if (const std::byte *data = raw(count * sizeof(T)); data && count != 0) {
      values.resize(count);
      std::memcpy(values.data(), data, count * sizeof(T));
    }
    return *this;
  }
  ByteReader &get(std::string &text) {
    uint64_t size = 0;
    get(size);
    if (const std::byte *data = raw(size))
      text.assign(reinterpret_cast<const char *>(data), size);
    return *this;
  }

  /// The next `bytes`, or null.
  const std::byte *raw(size_t bytes) {
    if (!ok_ || bytes > rest_.size()) {
      ok_ = false;
      return nullptr;
    }
    const std::byte *data = rest_.data();
    rest_ = rest_.subspan(bytes);
    return data;
  }
  bool ok() const { return ok_; }
  bool atEnd() const { return ok_ && rest_.empty(); }

private:
  std::span<const std::byte> rest_;
  bool ok_ = true;
};

} // namespace distc
