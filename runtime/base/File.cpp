#include "runtime/base/File.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace distc {

namespace {

constexpr size_t kMaxRead = size_t(1) << 30;

Status failure(const std::string &path, const char *what) {
  return failedPrecondition(path + ": cannot " + what + ": " + std::strerror(errno));
}

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0)
      ::close(fd);
  }
};

Status openRegular(const std::string &path, Descriptor &file, size_t &size) {
  file.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a pipe would wait for its other end
  if (file.fd < 0)
    return failure(path, "open");
  struct stat info;
  if (::fstat(file.fd, &info) != 0)
    return failure(path, "stat");
  if (S_ISDIR(info.st_mode))
    return failedPrecondition(path + ": is a folder, expected a file");
  if (!S_ISREG(info.st_mode))
    return failedPrecondition(path + ": not a regular file");
  size = static_cast<size_t>(info.st_size);
  return {};
}

} // namespace

Result<MappedFile> MappedFile::open(const std::string &path) {
  Descriptor file{-1};
  size_t size = 0;
  DISTC_TRY(openRegular(path, file, size));
  MappedFile mapped;
  mapped.path_ = path;
  mapped.size_ = size;
  if (size != 0) {
    void *data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.fd, 0);
    if (data == MAP_FAILED)
      return failure(path, "map");
    mapped.data_ = static_cast<const std::byte *>(data);
  }
  mapped.descriptor_ = std::exchange(file.fd, -1);
  return mapped;
}

MappedFile::MappedFile(MappedFile &&other) noexcept { *this = std::move(other); }

MappedFile &MappedFile::operator=(MappedFile &&other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_)
    ::munmap(const_cast<std::byte *>(data_), size_);
  if (descriptor_ >= 0)
    ::close(descriptor_);
}

Status MappedFile::read(uint64_t offset, std::span<std::byte> out) const {
  for (size_t done = 0; done < out.size();) {
    const ssize_t n = ::pread(descriptor_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return failure(path_, "read");
    if (n == 0)
      return dataLoss(path_ + ": ends after " + std::to_string(offset + done) + " of " + std::to_string(size_) +
                      " bytes; it has changed since it was opened");
    done += static_cast<size_t>(n);
  }
  return {};
}

void MappedFile::prefault(uint64_t offset, uint64_t bytes) const {
  const uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)), begin = offset / page * page;
  void *data = const_cast<std::byte *>(data_) + begin;
  const size_t length = static_cast<size_t>(offset + bytes - begin);
#ifdef MADV_POPULATE_READ
  if (::madvise(data, length, MADV_POPULATE_READ) == 0)
    return;
#endif
  (void)::madvise(data, length, MADV_WILLNEED); // a kernel before 5.14 reads ahead without mapping
}

Result<std::string> readFile(const std::string &path) {
  Descriptor file{-1};
  size_t size = 0;
  DISTC_TRY(openRegular(path, file, size));
  if (size > kMaxRead)
    return dataLoss(path + ": is " + formatBytes(size) + " long, expected at most " + formatBytes(kMaxRead));
  std::string bytes(size, '\0');
  for (size_t done = 0; done < size;) {
    ssize_t n = ::read(file.fd, bytes.data() + done, size - done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return failure(path, "read");
    if (n == 0)
      return dataLoss(path + ": ends after " + std::to_string(done) + " of " + std::to_string(size) + " bytes");
    done += static_cast<size_t>(n);
  }
  return bytes;
}

Status writeFileAtomically(const std::string &path, std::span<const std::byte> bytes) {
  struct stat info;
  const bool replace = ::stat(path.c_str(), &info) != 0 || S_ISREG(info.st_mode) || S_ISDIR(info.st_mode);
  const std::string written = replace ? path + ".tmp." + std::to_string(::getpid()) : path;
  Descriptor file{::open(written.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
  if (file.fd < 0)
    return failure(path, replace ? "create" : "open");
  auto fail = [&](const char *what) { // of the file that was asked for, not of the temporary one
    Status status = failure(path, what);
    if (replace)
      ::unlink(written.c_str());
    return status;
  };
  for (size_t done = 0; done < bytes.size();) {
    ssize_t n = ::write(file.fd, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail("write");
    done += static_cast<size_t>(n);
  }
  if (::close(std::exchange(file.fd, -1)) != 0) // some file systems find only now that they are full
    return fail("write");
  if (replace && ::rename(written.c_str(), path.c_str()) != 0)
    return fail("replace");
  return {};
}

uint64_t hashBytes(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }
uint64_t hashBytes(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

std::string formatBytes(uint64_t bytes) {
  static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 5) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.2f %s", value, units[unit]);
  return text;
}

} // namespace distc
