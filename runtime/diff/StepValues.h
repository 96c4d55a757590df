// The values of one step: recorded rank by rank as they are written, put together as in the unsharded model.
#pragma once

#include "distc/Runner.h"
#include "runtime/diff/LogicalProgram.h"

#include <memory>

namespace distc {

/// A value of the unsharded model, [rows, dims].
struct WholeValue {
  struct Copy {
    std::vector<uint32_t> ranks; // that hold it, each the same bits or, where it is split or a sum, its part
    std::vector<float> data;
  };
  uint64_t rows = 0, columns = 0; // columns: the product of dims
  std::vector<uint64_t> dims;
  std::vector<Copy> copies; // more than one: ranks that should hold the same do not
};

class StepValues {
public:
  const LogicalProgram &logical() const { return *logical_; }
  /// Puts a form of a value together from the shards of its stage's ranks. A failure says why it cannot be.
  Result<WholeValue> gather(size_t value, size_t form) const;
  /// Whether activations are of a type narrower than F32.
  bool narrow() const;

private:
  friend class StepRecorder;
  struct Part { // what one instruction of one rank has written
    uint32_t rank, buffer;
    std::vector<float> data;
  };

  std::vector<const plan::Plan *> ranks_;
  uint32_t program_ = 0;
  uint64_t tokens_ = 0, outputs_ = 0;
  std::shared_ptr<const LogicalProgram> logical_;
  std::vector<std::vector<std::vector<Part>>> parts_; // by value and form
};

/// Copies what each instruction writes, since memory is used again later. Of a step everything is kept: of each rank as
/// much as the sum of its buffers, as f32.
class StepRecorder : public StepObserver {
public:
  /// Before a step: of how many ranks.
  void begin(uint32_t ranks) { ranks_.assign(ranks, {}); }
  Status executed(const plan::Plan &plan, uint32_t program, uint32_t index, const Read &read) override;
  /// After it: what the ranks have computed.
  Result<StepValues> finish(uint64_t tokens, uint64_t outputs);

private:
  struct RankRecord {
    const plan::Plan *plan = nullptr;
    uint32_t program = 0;
    std::vector<std::pair<uint32_t, std::vector<float>>> written; // by instruction
  };
  std::vector<RankRecord> ranks_; // each written by its rank's thread alone
  std::vector<std::shared_ptr<const LogicalProgram>> programs_;
};

} // namespace distc
