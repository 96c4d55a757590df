// The rows of a buffer, as a formula in the size of the batch: comparing formulas compares all batches at once.
#pragma once

#include "runtime/schema/plan_generated.h"

#include <algorithm>
#include <cstdint>

namespace distc::verify {

struct Rows {
  plan::RowUnit unit = plan::RowUnit::Tokens;
  uint32_t times = 1, shards = 1, chunk = 0, chunks = 1;

  bool operator==(const Rows &) const = default;
  /// Rows first .. first + n of the whole buffer that are consecutive tokens from some token on.
  bool perToken() const { return unit == plan::RowUnit::Tokens && times == 1 && shards == 1; }
  bool perOutput() const { return unit == plan::RowUnit::Outputs && shards == 1 && chunks == 1; }
};

/// In a decode program there are as many outputs as tokens, so the two units are one.
inline Rows rowsOf(const plan::Program &program, const plan::Buffer &buffer) {
  Rows rows{buffer.rows(), buffer.times(), buffer.shards(), buffer.chunk(), buffer.chunks()};
  if (program.regime() == plan::Regime::Decode && rows.unit == plan::RowUnit::Outputs)
    rows.unit = plan::RowUnit::Tokens;
  return rows;
}

/// How many rows there are in the largest batch.
inline uint64_t maxRows(const plan::Program &program, const Rows &rows) {
  uint64_t n = rows.unit == plan::RowUnit::Tokens    ? program.max_tokens()
               : rows.unit == plan::RowUnit::Outputs ? program.max_outputs()
                                                     : 1;
  n = n * rows.times;
  n = (n + rows.shards - 1) / rows.shards;
  uint64_t chunk = (n + rows.chunks - 1) / rows.chunks;
  return std::min(n, (rows.chunk + 1) * chunk) - std::min(n, rows.chunk * chunk);
}

} // namespace distc::verify
