// What each instruction reads and writes: the one place that lists the operands of every op.
#pragma once

#include "runtime/schema/plan_generated.h"

#include <array>
#include <cstdint>
#include <span>

namespace distc {

struct BufferOperand {
  const char *name;
  uint32_t buffer;
  bool write;
};

/// The operands of an instruction. -1: it has none of that kind.
struct Operands {
  std::array<BufferOperand, 3> list;
  unsigned count = 0;
  int64_t weight = -1, bias = -1, cache = -1, group = -1, table = -1, peer = -1, sequence = -1;

  std::span<const BufferOperand> buffers() const & { return {list.data(), count}; }
  std::span<const BufferOperand> buffers() const && = delete; // of a temporary it would dangle
};

/// The instruction's op must be one of the union (isKnownOp).
Operands operandsOf(const plan::Instruction &instruction);

bool isKnownOp(plan::Op op);
/// May `out` lie where an input lies (docs/plan-format.md)?
bool isInPlaceOp(plan::Op op);
bool isCollective(plan::Op op);

} // namespace distc
