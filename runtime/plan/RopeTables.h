// The cosines and sines of rotary position embeddings (Su et al., RoFormer, 2021), for every position a plan allows.
#pragma once

#include "distc/Batch.h"
#include "distc/Status.h"
#include "runtime/base/AnonymousMemory.h"
#include "runtime/base/ThreadPool.h"
#include "runtime/schema/plan_generated.h"

#include <vector>

namespace distc {

/// How many pairs of elements a table's angles are for: the frequencies of one of its sets.
inline int64_t frequencies(const plan::RopeTable &table) {
  return table.inv_freq()->size() / (1 + (table.over() ? table.over()->size() : 0));
}

/// The row of a table's angles for each token of a batch: its position, behind the sets before its sequence's.
void findRopeRows(const plan::RopeTable &table, uint32_t maxSequence, const Batch &batch, int32_t *rows);

class RopeTables {
public:
  /// Angles and their functions in double, rounded to f32 once.
  static Result<RopeTables> create(const plan::Plan &plan, ThreadPool &pool);

  /// [sets, max_sequence, frequencies] pairs (cos, sin) of table `index`.
  const float *operator[](uint32_t index) const { return tables_[index]; }

private:
  AnonymousMemory memory_;
  std::vector<const float *> tables_;
};

} // namespace distc
