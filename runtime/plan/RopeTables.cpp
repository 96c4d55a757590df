#include "runtime/plan/RopeTables.h"

#include <cmath>

namespace distc {

Result<RopeTables> RopeTables::create(const plan::Plan &plan, ThreadPool &pool) {
  const int64_t positions = plan.limits()->max_sequence();
  uint64_t floats = 0;
  for (const plan::RopeTable *table : *plan.rope_tables())
    floats += uint64_t(table->inv_freq()->size()) * positions * 2;
  RopeTables result;
  DISTC_ASSIGN(result.memory_, AnonymousMemory::reserve(floats * sizeof(float), "rope tables"));
  float *out = reinterpret_cast<float *>(result.memory_.data());
  for (const plan::RopeTable *table : *plan.rope_tables()) {
    const int64_t half = table->inv_freq()->size();
    result.tables_.push_back(out);
    pool.parallelFor(positions, 16, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p)
        for (int64_t i = 0; i < half; ++i) {
          const double angle = static_cast<double>(p) * table->inv_freq()->Get(static_cast<uint32_t>(i));
          out[(p * half + i) * 2] = static_cast<float>(std::cos(angle) * table->magnitude());
          out[(p * half + i) * 2 + 1] = static_cast<float>(std::sin(angle) * table->magnitude());
        }
    });
    out += positions * half * 2;
  }
  return result;
}

} // namespace distc
