#include "runtime/base/AnonymousMemory.h"

#include "runtime/base/File.h"
#include "runtime/base/ThreadPool.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <sys/mman.h>
#include <utility>

namespace distc {

namespace {

constexpr uint64_t kHugePage = uint64_t(2) << 20;

Status failure(const std::string &what, uint64_t bytes, int error) {
  return resourceExhausted(what + ": cannot get " + formatBytes(bytes) + " of memory: " + std::strerror(error));
}

} // namespace

Result<AnonymousMemory> AnonymousMemory::reserve(uint64_t bytes, const std::string &what) {
  AnonymousMemory memory;
  if (bytes == 0)
    return memory;
  void *data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED)
    return failure(what, bytes, errno);
  memory.data_ = static_cast<std::byte *>(data);
  memory.size_ = bytes;
  if (bytes >= kHugePage)
    (void)::madvise(data, bytes, MADV_HUGEPAGE); // advice: fewer TLB misses where the system agrees
  return memory;
}

AnonymousMemory::AnonymousMemory(AnonymousMemory &&other) noexcept { *this = std::move(other); }

AnonymousMemory &AnonymousMemory::operator=(AnonymousMemory &&other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

AnonymousMemory::~AnonymousMemory() {
  if (data_)
    ::munmap(data_, size_);
}

Status AnonymousMemory::commit(ThreadPool &pool, const std::string &what) {
  std::atomic<int> error{0};
  pool.parallelFor(static_cast<int64_t>(size_), kHugePage, [&](int64_t begin, int64_t end) {
#ifdef MADV_POPULATE_WRITE
    if (::madvise(data_ + begin, static_cast<size_t>(end - begin), MADV_POPULATE_WRITE) == 0)
      return;
    if (errno != EINVAL) { // EINVAL: a kernel before 5.14
      error = errno;
      return;
    }
#endif
    for (int64_t at = begin; at < end; at += 4096)
      static_cast<volatile std::byte *>(data_)[at] = std::byte(0);
  });
  return error == 0 ? Status() : failure(what, size_, error);
}

} // namespace distc
