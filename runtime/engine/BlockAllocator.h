// The free KV blocks of a pool.
#pragma once

#include <cstdint>
#include <vector>

namespace distc {

class BlockAllocator {
public:
  explicit BlockAllocator(uint32_t blocks) {
    for (uint32_t b = blocks; b > 0; --b)
      free_.push_back(static_cast<int32_t>(b - 1));
  }
  size_t available() const { return free_.size(); }
  /// `count` must be available.
  std::vector<int32_t> take(size_t count) {
    std::vector<int32_t> taken(free_.rbegin(), free_.rbegin() + static_cast<std::ptrdiff_t>(count));
    free_.resize(free_.size() - count);
    return taken;
  }
  void give(const std::vector<int32_t> &blocks) { free_.insert(free_.end(), blocks.rbegin(), blocks.rend()); }

private:
  std::vector<int32_t> free_;
};

} // namespace distc
