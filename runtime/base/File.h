// Files: read-only mappings, whole reads, outputs that appear atomically.
#pragma once

#include "distc/Status.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace distc {

/// A file mapped read-only and shared with the page cache. Movable; unmaps on destruction.
class MappedFile {
public:
  static Result<MappedFile> open(const std::string &path);

  MappedFile() = default;
  MappedFile(MappedFile &&other) noexcept;
  MappedFile &operator=(MappedFile &&other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  uint64_t size() const { return size_; }
  const std::string &path() const { return path_; }

  /// Copies a range (within the file) by reading it, which for what is used once is faster than the mapping. Fails
  /// where the system cannot read, or the file has become shorter.
  Status read(uint64_t offset, std::span<std::byte> out) const;
  /// Brings a range (within the file) into the page cache and this process, so that its first use does not wait for the
  /// disk.
  void prefault(uint64_t offset, uint64_t bytes) const;

private:
  std::string path_;
  const std::byte *data_ = nullptr;
  size_t size_ = 0;
  int descriptor_ = -1;
};

/// A whole file, at most 1 GiB: what is read like this is text and vocabularies, never weights.
Result<std::string> readFile(const std::string &path);

/// Writes to a temporary file beside `path` and renames it, so that `path` never holds a part. What is not a regular
/// file (a device, a pipe) is written to, not replaced.
Status writeFileAtomically(const std::string &path, std::span<const std::byte> bytes);

/// XXH3-64.
uint64_t hashBytes(std::span<const std::byte> bytes);
uint64_t hashBytes(std::string_view bytes);

/// "1.50 GiB", for people.
std::string formatBytes(uint64_t bytes);

} // namespace distc
