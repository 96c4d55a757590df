#include "runtime/plan/RopeTables.h"

#include <algorithm>
#include <cmath>

namespace distc {

void findRopeRows(const plan::RopeTable &table, uint32_t maxSequence, const Batch &batch, int32_t *rows) {
  std::copy(batch.positions.begin(), batch.positions.end(), rows);
  if (!table.over())
    return;
  for (size_t s = 0; s + 1 < batch.sequenceStarts.size(); ++s) {
    const uint32_t length = batch.lengths.empty() ? maxSequence : static_cast<uint32_t>(batch.lengths[s]);
    const auto sets = std::lower_bound(table.over()->begin(), table.over()->end(), length) - table.over()->begin();
    for (int32_t t = batch.sequenceStarts[s]; t < batch.sequenceStarts[s + 1]; ++t)
      rows[t] += static_cast<int32_t>(sets) * static_cast<int32_t>(maxSequence);
  }
}

Result<RopeTables> RopeTables::create(const plan::Plan &plan, ThreadPool &pool) {
  const int64_t positions = plan.limits()->max_sequence();
  uint64_t floats = 0;
  for (const plan::RopeTable *table : *plan.rope_tables())
    floats += uint64_t(table->inv_freq()->size()) * positions * 2;
  RopeTables result;
  DISTC_ASSIGN(result.memory_, AnonymousMemory::reserve(floats * sizeof(float), "rope tables"));
  float *out = reinterpret_cast<float *>(result.memory_.data());
  for (const plan::RopeTable *table : *plan.rope_tables()) {
    const int64_t half = frequencies(*table), rows = table->inv_freq()->size() / half * positions;
    result.tables_.push_back(out);
    pool.parallelFor(rows, 16, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        for (int64_t i = 0; i < half; ++i) {
          const double frequency = table->inv_freq()->Get(static_cast<uint32_t>(row / positions * half + i));
          const double angle = static_cast<double>(row % positions) * frequency;
          out[(row * half + i) * 2] = static_cast<float>(std::cos(angle) * table->magnitude());
          out[(row * half + i) * 2 + 1] = static_cast<float>(std::sin(angle) * table->magnitude());
        }
    });
    out += rows * half * 2;
  }
  return result;
}

} // namespace distc
