// Bytes as a file in a folder, for readers that take one.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace distc::fuzz {

/// A folder with one file in it, in memory.
class Folder {
public:
  explicit Folder(const char *file) : file_(file) {
    char name[] = "/dev/shm/distc-fuzz-XXXXXX";
    if (!::mkdtemp(name))
      std::abort(); // the machine's failure, not the reader's
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder &) = delete;

  std::string with(const uint8_t *data, size_t size) const {
    std::ofstream out(std::filesystem::path(path_) / file_, std::ios::binary);
    out.write(reinterpret_cast<const char *>(data), static_cast<std::streamsize>(size));
    return path_;
  }

private:
  std::string file_, path_;
};

} // namespace distc::fuzz
