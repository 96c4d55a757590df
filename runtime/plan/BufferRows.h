// The row arithmetic of runtime/schema/plan.fbs, Buffer.
#pragma once

#include "runtime/schema/plan_generated.h"

#include <algorithm>
#include <cstdint>

namespace distc {

/// Rows [first, first + count) of what the buffer is a chunk of; all its rows where it is no chunk.
struct RowRange {
  uint64_t first = 0, count = 0;
};

inline RowRange rowsOf(const plan::Buffer &buffer, uint64_t tokens, uint64_t outputs) {
  uint64_t n = buffer.rows() == plan::RowUnit::Tokens ? tokens : buffer.rows() == plan::RowUnit::Outputs ? outputs : 1;
  const uint64_t shards = std::max<uint64_t>(1, buffer.shards()), chunks = std::max<uint64_t>(1, buffer.chunks());
  n *= std::max<uint64_t>(1, buffer.times());
  n = (n + shards - 1) / shards;
  const uint64_t q = (n + chunks - 1) / chunks, first = std::min(n, buffer.chunk() * q);
  return {first, std::min(n, first + q) - first};
}

} // namespace distc
