// The CPU backend: one rank's memory, and the state of the step that its handlers work on.
#pragma once

#include "distc/kernels/Cpu.h"
#include "runtime/backends/Backend.h"
#include "runtime/kv/KvMemory.h"
#include "runtime/plan/RopeTables.h"

namespace distc {

/// The rows of a buffer in this step.
struct BufferView {
  std::byte *data;
  int64_t rows;
  int64_t width; // row_elements
  int64_t first; // of a chunk: where it starts in the rows of its unit (tokens, outputs)
  plan::DType dtype;

  float *f32() const { return reinterpret_cast<float *>(data); }
  int32_t *i32() const { return reinterpret_cast<int32_t *>(data); }
  int64_t elements() const { return rows * width; }
};

/// What a handler sees: the memory of the rank, and one micro-batch of one program in its arena slot.
struct CpuRun {
  const plan::Plan &plan;
  Communicator &communicator;
  ThreadPool &pool;
  const RankWeights &weights;
  const RopeTables &ropeTables;
  const KvMemory &kv;

  const plan::Program *program = nullptr;
  std::byte *slot = nullptr; // where the program's arena offsets count from
  const StepInput *input = nullptr;
  StepOutput *output = nullptr;
  std::vector<cpu::SamplingRow> sampling;     // [R]
  std::vector<std::vector<int32_t>> ropeRows; // by rope table [T]: the row of each token's angles

  BufferView buffer(uint32_t index) const;
  /// A weight as a matrix of `columns`; docs/plan-format.md, Linear.
  cpu::Matrix matrix(uint32_t weight, int64_t columns) const;
  /// Of a weight [experts, rows, columns] the matrix of one expert.
  cpu::Matrix expert(uint32_t weight, int64_t expert, int64_t columns) const;
  const float *vector(uint32_t weight) const { return static_cast<const float *>(weights[weight].data); }
  cpu::KvView cache(uint32_t index) const;

  const int32_t *tokens() const { return input->batch->tokens.data(); }
  const int32_t *positions() const { return input->batch->positions.data(); }
  const int32_t *sequenceOf() const { return input->sequenceOf.data(); }
  const int32_t *blockTables() const { return input->batch->blockTable.data(); }
};

class CpuBackend : public Backend {
public:
  CpuBackend(const plan::Plan &plan, const Communicators &communicators, ThreadPool &pool);

  Status load(const SourceFiles &files, const LoadOptions &options) override;
  Status begin(uint32_t slot, uint32_t program, const StepInput &input, StepOutput &output) override;
  Status execute(uint32_t slot, const Instruction &instruction) override;
  Status end(uint32_t slot) override; // handlers leave nothing outstanding but messages
  bool isConcurrent() const override { return true; }
  Result<std::vector<float>> read(uint32_t buffer) override;
  uint64_t bytesOf(uint32_t slot, const Instruction &instruction) const override;

private:
  const plan::Plan &plan_;
  ThreadPool &pool_;
  RankWeights weights_;
  RopeTables ropeTables_;
  KvMemory kv_;
  AnonymousMemory arena_;
  std::vector<CpuRun> runs_; // by slot
};

/// Bytes per second of all cores reading a buffer far larger than the caches: the best of a few passes.
double cpuReadBandwidth();

/// Refuses what the CPU kernels cannot do: element types, head sizes, mapped rows that are no matrix rows.
Status checkCpuSupport(const plan::Plan &plan);

} // namespace distc
