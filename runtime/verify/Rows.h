// The rows of a buffer, as a formula in the size of the batch: comparing formulas compares all batches at once.
#pragma once

#include "runtime/schema/plan_generated.h"

#include <cstdint>

namespace distc::verify {

struct Rows {
  plan::RowUnit unit = plan::RowUnit::Tokens;
  uint32_t times = 1, shards = 1, chunk = 0, chunks = 1;

  bool operator==(const Rows &) const = default;
  /// One row for each token, or for each token of a chunk.
  bool perToken() const { return unit == plan::RowUnit::Tokens && times == 1 && shards == 1; }
};

/// In a decode program there are as many outputs as tokens, so the two units are one.
inline Rows rowsOf(const plan::Program &program, const plan::Buffer &buffer) {
  Rows rows{buffer.rows(), buffer.times(), buffer.shards(), buffer.chunk(), buffer.chunks()};
  if (program.regime() == plan::Regime::Decode && rows.unit == plan::RowUnit::Outputs)
    rows.unit = plan::RowUnit::Tokens;
  return rows;
}

/// How many rows there may be in any batch. The last chunk may have more in a smaller batch than in the largest, so
/// each is as large as the first.
inline uint64_t maxRows(const plan::Program &program, const Rows &rows) {
  uint64_t n = rows.unit == plan::RowUnit::Tokens    ? program.max_tokens()
               : rows.unit == plan::RowUnit::Outputs ? program.max_outputs()
                                                     : 1;
  n = n * rows.times;
  n = (n + rows.shards - 1) / rows.shards;
  return (n + rows.chunks - 1) / rows.chunks;
}

} // namespace distc::verify
