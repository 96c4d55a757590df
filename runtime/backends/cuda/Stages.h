// The stages of a decode program's tile schedule as kernels on the device. A step of few tokens runs them in place of
// their instructions; any other runs the instructions.
#pragma once

#include "distc/Status.h"
#include "distc/kernels/CudaStage.h"
#include "runtime/backends/cuda/Device.h"
#include "runtime/verify/Stages.h"

#include <functional>
#include <vector>

namespace distc {

/// Where a program's operands are in device memory; all of it is there for good.
struct StageOperands {
  std::function<std::byte *(uint32_t buffer)> buffer;
  std::function<std::byte *(uint32_t weight)> weight;
  std::function<cuda::KvView(uint32_t cache)> cache;
  std::function<const float *(uint32_t table)> ropeTable;
  /// The row of each token's angles in a table.
  std::function<const int32_t *(uint32_t table)> ropeRows;
};

class CudaStages {
public:
  /// The program has a schedule.
  static Result<CudaStages> create(const plan::Plan &plan, const plan::Program &program, const StageOperands &operands);

  /// False: the instruction is in no stage, or in one that takes fewer tokens.
  bool covers(uint32_t index, int64_t tokens) const {
    return stageOf_[index] >= 0 &&
           (!kernels_[static_cast<size_t>(stageOf_[index])].stage.isOfExperts() || tokens <= cuda::expertTokens);
  }
  /// Launches the stage that begins at instruction `index` of the program. Nothing happens at its other instructions.
  Status launch(uint32_t index, int64_t tokens, const cuda::BatchView &batch, cudaStream_t stream) const;

  /// The largest logits, for TopCandidates of the buffer that the last products went to; null: of another one.
  const uint64_t *best(uint32_t logits) const { return logits == bestOf_ ? bestKeys() : nullptr; }
  int64_t sms() const { return sms_; }
  /// Steps of more run without stages.
  size_t maxTokens() const { return maxTokens_; }

private:
  struct Kernel {
    TileStage stage;
    cuda::MatrixStage matrix;
    const std::byte *x = nullptr, *addend = nullptr;
    std::byte *sum = nullptr;
    // attention, append, post-norm
    cuda::AttentionParams params{};
    cuda::HeadNorm norm;
    const std::byte *residual = nullptr;
    cuda::RopeAppend append;
    cuda::KvView cache{};
    std::byte *out = nullptr;
    cuda::RouterStage router;

    bool isMatrix() const {
      return !stage.attention && !stage.route && stage.kind != plan::StageKind::Append &&
             stage.kind != plan::StageKind::PostNorm;
    }
  };

  /// What is in the device's memory of all matrix stages, one after the other.
  struct StageTables {
    std::vector<cuda::TileMaps> maps; // of each weight
    std::vector<cuda::StageTile> tiles;
  };
  static void addAppend(const plan::Plan &plan, const plan::Program &program, const StageOperands &operands,
                        Kernel &kernel);
  Status addMatrix(const plan::Plan &plan, const plan::Program &program, const StageOperands &operands,
                   const plan::StageTiles &tiles, Kernel &kernel, StageTables &tables);
  static void addRouter(const plan::Plan &plan, const plan::Program &program, const StageOperands &operands,
                        Kernel &kernel);
  Status copyTables(const StageTables &tables, const plan::Plan &plan, const plan::TopCandidates *top);
  const uint64_t *bestKeys() const;
  /// More tokens than a stage with a layer norm takes: the norm is a kernel of its own in front of it.
  static bool normsFirst(const Kernel &kernel, int64_t tokens) {
    return kernel.stage.layerNorm && tokens > cuda::layerNormTokens;
  }
  cudaError_t normFirst(const Kernel &kernel, int64_t tokens, cudaStream_t stream) const;
  std::pair<cuda::MatrixStage, cuda::StageInput> matrixOf(const Kernel &kernel, int64_t tokens,
                                                          const cuda::BatchView &batch) const;

  std::vector<int64_t> stageOf_; // by instruction
  std::vector<Kernel> kernels_;
  /// StageTables, the stages, the routers' counter, the largest logits of each block and token, rows behind a norm.
  cuda::Memory memory_;
  std::byte *normed_ = nullptr;
  size_t maxTokens_ = 0, normedBytes_ = 0;
  int64_t sms_ = 0, bestOffset_ = 0, bestOf_ = -1;
};

} // namespace distc
