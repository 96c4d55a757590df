// What a program of a plan set computes, apart from its mesh: the values of the unsharded model, and which instructions
// of which ranks write them.
#pragma once

#include "distc/Status.h"
#include "runtime/schema/plan_generated.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace distc {

/// How query heads and KV heads lie in dimensions that are padded: `repeats` copies of each KV head, `perCopy` query
/// heads for each copy, padding behind the copies that are (the compiler's pad-tensor-parallel). Zeros: not known.
struct HeadLayout {
  uint64_t heads = 0, kvHeads = 0, repeats = 0, perCopy = 0;
  bool known() const { return heads > 0 && kvHeads > 0 && repeats > 0 && perCopy > 0; }
};

/// What the first of a value's dimensions counts.
enum class HeadKind { None, Query, KeyValue };

/// One way in which a value is held: as it was computed, or what a collective or recv made of it. A stage's ranks write
/// it in one or, by chunks of its rows, more instructions.
struct ValueForm {
  uint32_t stage = 0;
  plan::Op op = plan::Op::NONE;
  uint32_t buffer = 0; // of the first instruction; the others' differ in their rows alone
  const plan::ValueInfo *info = nullptr;
  std::vector<uint32_t> chunks; // that are written
  std::vector<uint32_t> ids;    // of the instructions, on the stage's first rank
};

struct LogicalValue {
  std::string name;
  uint32_t occurrence = 0; // a name may be computed more than once: from 0
  HeadKind heads = HeadKind::None;
  std::vector<ValueForm> forms; // the first is where it is computed
};

class LogicalProgram {
public:
  /// Program `program` of a verified plan set. A failure if its values have no names, or the ranks of one stage do
  /// not have the same instructions.
  static Result<LogicalProgram> create(std::span<const plan::Plan *const> ranks, uint32_t program);

  /// In program order: by stage, then by the instruction that writes them first.
  const std::vector<LogicalValue> &values() const { return values_; }
  const HeadLayout &headLayout() const { return headLayout_; }

  /// What instruction `index` of a stage's ranks writes.
  struct Write {
    int32_t value = -1, form = -1; // -1: nothing
    uint32_t buffer = 0;
  };
  const Write &write(uint32_t stage, uint32_t index) const { return writes_[stage][index]; }

private:
  class Builder;

  std::vector<LogicalValue> values_;
  std::vector<std::vector<Write>> writes_; // by stage and index
  HeadLayout headLayout_;
};

/// The buffer that a buffer is a chunk of, or itself.
uint32_t rootOf(const plan::Program &program, uint32_t buffer);

} // namespace distc
