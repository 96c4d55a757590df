#include "runtime/plan/BufferRows.h"

#include <gtest/gtest.h>

namespace distc {
namespace {

plan::Buffer buffer(plan::RowUnit rows, uint16_t times, uint16_t shards, uint16_t chunk, uint16_t chunks) {
  return {0, 0, 8, -1, times, shards, chunk, chunks, rows, plan::DType::F32};
}

TEST(BufferRows, Units) {
  auto count = [](plan::RowUnit unit) { return rowsOf(buffer(unit, 1, 1, 0, 1), 7, 3).count; };
  EXPECT_EQ(count(plan::RowUnit::Tokens), 7u);
  EXPECT_EQ(count(plan::RowUnit::Outputs), 3u);
  EXPECT_EQ(count(plan::RowUnit::One), 1u);
  EXPECT_EQ(rowsOf(buffer(plan::RowUnit::Outputs, 4, 1, 0, 1), 7, 3).count, 12u);
  EXPECT_EQ(rowsOf(buffer(plan::RowUnit::Tokens, 1, 4, 0, 1), 7, 3).count, 2u);
  EXPECT_EQ(rowsOf(buffer(plan::RowUnit::Tokens, 3, 4, 0, 1), 7, 3).count, 6u);
}

TEST(BufferRows, ChunksCoverTheRowsInOrderAndTheLastMayBeShortOrEmpty) {
  for (uint16_t chunks : {1, 2, 3, 5})
    for (uint64_t tokens = 0; tokens < 20; ++tokens) {
      uint64_t next = 0;
      for (uint16_t c = 0; c < chunks; ++c) {
        const RowRange rows = rowsOf(buffer(plan::RowUnit::Tokens, 1, 1, c, chunks), tokens, 0);
        EXPECT_EQ(rows.first, next);
        next += rows.count;
      }
      EXPECT_EQ(next, tokens);
    }
  const RowRange last = rowsOf(buffer(plan::RowUnit::Tokens, 1, 2, 2, 3), 9, 0); // 5 rows in chunks of 2, 2, 1
  EXPECT_EQ(last.first, 4u);
  EXPECT_EQ(last.count, 1u);
}

} // namespace
} // namespace distc
