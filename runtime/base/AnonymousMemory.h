// AnonymousMemory: zeroed memory straight from the system, for what is large and lives long.
#pragma once

#include "distc/Status.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace distc {

class ThreadPool;

/// Movable; returned to the system on destruction. Page-aligned.
class AnonymousMemory {
public:
  /// `what` names the memory in errors. 0 bytes are fine: data() is null. Pages come with the first touch.
  static Result<AnonymousMemory> reserve(uint64_t bytes, const std::string &what);

  AnonymousMemory() = default;
  AnonymousMemory(AnonymousMemory &&other) noexcept;
  AnonymousMemory &operator=(AnonymousMemory &&other) noexcept;
  ~AnonymousMemory();

  /// Has every page brought in now, by the threads of `pool`, so that it lies near them and nothing fails later.
  /// `interrupted` is polled; Cancelled then.
  Status commit(ThreadPool &pool, const std::string &what, const std::atomic<bool> *interrupted = nullptr);

  std::byte *data() const { return data_; }
  uint64_t size() const { return size_; }

private:
  std::byte *data_ = nullptr;
  uint64_t size_ = 0;
};

} // namespace distc
