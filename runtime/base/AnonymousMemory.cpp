#include "runtime/base/AnonymousMemory.h"

#include "runtime/base/File.h"
#include "runtime/base/ThreadPool.h"

#include <algorithm>
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

Status AnonymousMemory::commit(ThreadPool &pool, const std::string &what, const std::atomic<bool> *interrupted) {
  constexpr int64_t kPiece = 16 * kHugePage; // how often an interrupt is seen
  std::atomic<int> error{0};
  auto stopped = [&] { return interrupted && interrupted->load(std::memory_order_relaxed); };
  pool.parallelFor(static_cast<int64_t>(size_), kHugePage, [&](int64_t begin, int64_t end) {
    for (; begin < end && error == 0 && !stopped(); begin += kPiece) {
      const int64_t bytes = std::min(kPiece, end - begin);
#ifdef MADV_POPULATE_WRITE
      if (::madvise(data_ + begin, static_cast<size_t>(bytes), MADV_POPULATE_WRITE) == 0)
        continue;
      if (errno != EINVAL) { // EINVAL: a kernel before 5.14
        error = errno;
        return;
      }
#endif
      for (int64_t at = begin; at < begin + bytes; at += 4096)
        static_cast<volatile std::byte *>(data_)[at] = std::byte(0);
    }
  });
  if (error != 0)
    return failure(what, size_, error);
  return stopped() ? cancelled("interrupted") : Status();
}

} // namespace distc
