// The cosines and sines of rotary position embeddings (Su et al., RoFormer, 2021), for every position a plan allows.
#pragma once

#include "distc/Status.h"
#include "runtime/base/AnonymousMemory.h"
#include "runtime/base/ThreadPool.h"
#include "runtime/schema/plan_generated.h"

#include <vector>

namespace distc {

class RopeTables {
public:
  /// Angles and their functions in double, rounded to f32 once.
  static Result<RopeTables> create(const plan::Plan &plan, ThreadPool &pool);

  /// [max_sequence, headDim / 2] pairs (cos, sin) of table `index`.
  const float *operator[](uint32_t index) const { return tables_[index]; }

private:
  AnonymousMemory memory_;
  std::vector<const float *> tables_;
};

} // namespace distc
