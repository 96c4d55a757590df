// The CUDA backend: one rank's memory on a device, and the instructions of a step as kernels on streams: one, in the
// order of the program, or where communication is to run beside computation, one for each queue, with the plan's events
// between them (QueueStreams.h). A decode step of few tokens runs its
// program's stages (Stages.h) in place of their instructions; in prefill some successive instructions are done together
// (Fusion.h). A step of decode, or of as many tokens as the prefill program takes, is captured into a CUDA graph when
// its kind of batch comes for the second time, and replayed from then on, as far as the device can do the communication
// alone (Communicator::isReplayable): everything that changes from step to step is in device memory.
#pragma once

#include "distc/kernels/Cuda.h"
#include "runtime/backends/Backend.h"
#include "runtime/backends/cuda/Device.h"
#include "runtime/backends/cuda/Fusion.h"
#include "runtime/backends/cuda/MatrixProduct.h"
#include "runtime/backends/cuda/QueueStreams.h"
#include "runtime/backends/cuda/Stages.h"

#include <map>
#include <optional>
#include <tuple>

namespace distc {

/// A float type of the plan as the kernels name it.
inline cuda::Type typeOf(plan::DType dtype) {
  return dtype == plan::DType::F32 ? cuda::Type::F32 : dtype == plan::DType::F16 ? cuda::Type::F16 : cuda::Type::BF16;
}

inline cuda::Activation activationOf(plan::Activation activation) {
  switch (activation) {
  case plan::Activation::Silu:
    return cuda::Activation::Silu;
  case plan::Activation::Gelu:
    return cuda::Activation::Gelu;
  case plan::Activation::GeluTanh:
    return cuda::Activation::GeluTanh;
  case plan::Activation::Relu:
    break;
  }
  return cuda::Activation::Relu;
}

inline cuda::RopeStyle ropeStyleOf(plan::RopeStyle style) {
  return style == plan::RopeStyle::Half ? cuda::RopeStyle::Half : cuda::RopeStyle::Interleaved;
}

/// Of heads; `weight` says where a weight is. Null: there is none.
template <typename Weights>
cuda::HeadNorm headNormOf(const plan::Plan &plan, const plan::RmsNorm *norm, const Weights &weight) {
  if (!norm)
    return {};
  return {reinterpret_cast<const float *>(weight(norm->weight())), norm->eps(), norm->weight_offset(),
          static_cast<int64_t>(plan.weights()->Get(norm->weight())->bytes() / sizeof(float))};
}

class CudaBackend : public Backend {
public:
  /// `device`: of the GPUs that this process sees.
  CudaBackend(const plan::Plan &plan, uint32_t device, Communicator &communicator, ThreadPool &pool);
  ~CudaBackend() override;

  Status load(const SourceFiles &files, const LoadOptions &options) override;
  Status begin(uint32_t slot, uint32_t program, const StepInput &input, StepOutput &output) override;
  Status execute(uint32_t slot, const Instruction &instruction) override;
  Status end(uint32_t slot) override;
  Result<std::vector<float>> read(uint32_t buffer) override;
  uint64_t bytesOf(uint32_t slot, const Instruction &instruction) const override;
  Result<std::vector<Time>> times() override { return queues_.times(); }

private:
  /// The rows of a buffer in this step.
  struct View {
    std::byte *data;
    int64_t rows, width, first; // first: where a chunk starts in the rows of its unit (tokens, outputs)
    plan::DType dtype;
    int64_t elements() const { return rows * width; }
    operator cuda::In() const { return {data, typeOf(dtype)}; }
    operator cuda::Out() const { return {data, typeOf(dtype)}; }
  };
  /// The batch of a step, as it lies in the device's memory and in the host's.
  struct BatchArrays {
    int32_t *tokens, *positions, *sequenceOf, *ropeRows, *blockTables, *outputs;
    SamplingRow *sampling;
    size_t bytes; // of all
  };

  struct MicroBatch;
  View buffer(uint32_t index) const { return buffer(*now_, index); }
  View buffer(const MicroBatch &of, uint32_t index) const;
  cuda::Matrix matrix(uint32_t weight, int64_t columns) const;
  cuda::KvView cache(uint32_t index) const;
  cuda::BatchView batch(const View &rows) const;
  std::byte *weight(uint32_t index) const;
  /// Null where there is none.
  const float *bias(int32_t index) const;
  const float *ropeTable(uint32_t index) const;
  /// The row of each token's angles in a table.
  const int32_t *ropeRows(uint32_t table) const;
  /// Whether the product is one for cuda::product: it is possible, and the rows are so many that it is faster than what
  /// else there is: cuBLAS, or with a bias, which that does not add, `linear`.
  static bool suitsProduct(const View &x, const cuda::Matrix &weight, bool hasBias);

  cuda::ExpertMatrices experts(uint32_t weight) const;
  /// What an instruction multiplies: place i of the routes has row i / repeat of its input.
  struct Places {
    const float *routes;
    int64_t count, repeat;
  };
  /// What expertLists_ is of.
  struct Listed {
    const float *routes = nullptr;
    int64_t count = 0, experts = 0;
    bool operator==(const Listed &) const = default;
  };
  Places places(const plan::ExpertLinear &linear) const;
  /// Whether the product is a grouped one.
  bool suitsGroups(const plan::ExpertLinear &linear) const;

  Status loadTables();
  /// Memory for the longest list of experts' places.
  Status createExpertLists();
  /// Divides memory among the arrays of the program's largest batch.
  BatchArrays layBatch(const plan::Program &program, std::byte *base) const;
  Status copySmall(const void *from, void *to, size_t bytes, const char *what) const;
  /// Until all that is queued on the stream has ended; a failure of a peer, or the time limit, ends the wait. Whatever
  /// blocks the host on the stream comes behind it.
  Status finish(const char *what);

  Status createStages();
  /// Queues an instruction, or captures it.
  Status queue(const Instruction &instruction);
  Status run(const Instruction &instruction);
  /// An instruction that is no communication: with others of its stage or fusion, or alone.
  Status dispatch(const Instruction &instruction);
  Status dispatchNow(const Instruction &instruction);
  Status compute(const Instruction &instruction);
  Status multiplyExperts(const plan::ExpertLinear &linear);
  /// Makes the list of the routes that the instruction reads, unless it is there.
  Status listExperts(const plan::ExpertLinear &linear);
  Status communicate(const Instruction &instruction);
  /// All instructions of a fusion, in fused kernels where these suit, else one by one.
  Status execute(const Fusion &fusion);
  Result<bool> runProjections(const Fusion &fusion);
  Result<bool> runGated(const Fusion &fusion);
  Result<bool> runGatedExperts(const Fusion &fusion);
  Result<bool> runCombined(const Fusion &fusion);
  Result<bool> runResidual(const Fusion &fusion);
  Result<bool> runPostNorm(const Fusion &fusion);
  Result<bool> runEmbedded(const Fusion &fusion);
  /// How the instructions of this step reach the device: one by one, into a graph, or not at all, the graph being
  /// there.
  enum class Mode { Launch, Capture, Replay };
  struct Graph {
    int steps = 0;             // of this kind
    size_t first = 0, end = 0; // the instructions [first, end) are in the graph; from the first on, the batch too
    cudaGraphExec_t executable = nullptr;
    std::vector<QueueStreams::Timed> timed;
  };
  /// A micro-batch of the step under way.
  struct MicroBatch {
    uint32_t slot = 0;
    const plan::Program *program = nullptr;
    const StepInput *input = nullptr;
    StepOutput *output = nullptr;
    BatchArrays device{};
    const CudaStages *stages = nullptr; // null: instruction by instruction
    Graph *graph = nullptr;
    Mode mode = Mode::Launch;
    bool inGraph(uint32_t instruction) const {
      return mode != Mode::Launch && instruction >= graph->first && instruction < graph->end;
    }
  };

  void chooseMode(MicroBatch &mine, uint32_t program);
  void destroyGraphs();
  /// The longest run of instructions that can be captured, if it is most of the step: all, or a pipeline stage's
  /// between what it receives and what it sends.
  std::pair<size_t, size_t> replayableRun() const;
  bool isReplayable(const plan::Instruction &instruction) const;
  Status openGraph();
  Status closeGraph();

  Status emitIds(const Instruction &instruction);
  Status emitLogits(const Instruction &instruction);
  template <typename Operands> CommCall call(const Instruction &instruction) const;

  const plan::Plan &plan_;
  const uint32_t deviceIndex_;
  Communicator &communicator_;
  ThreadPool &pool_;
  cuda::Stream stream_; // all but the communication of an overlapped program
  QueueStreams queues_{plan_, stream_};
  cuda::MatrixProduct product_;
  cuda::Memory weights_, kv_, arena_, tables_, batch_, batchHost_, ids_, expertLists_;
  Listed listed_; // the routes that expertLists_ is of, as far as what was queued since the last begin,
                  // openGraph or closeGraph says: what replays is not known here
  std::vector<size_t> tableOffsets_;
  size_t batchBytes_ = 0, maxOutputs_ = 0; // of a micro-batch

  std::vector<std::vector<std::optional<CudaStages>>> stages_; // by program and slot
  int sms_ = 0;
  Fusions fusions_;
  std::map<std::tuple<uint32_t, uint32_t, size_t, size_t>, Graph> graphs_; // by program, slot, tokens, outputs
  bool traced_ = false;
  bool observed_ = false;                // no stages, fusions and graphs, which keep values to themselves
  std::vector<MicroBatch> microBatches_; // by slot
  const MicroBatch *now_ = nullptr;      // whose instructions are queued
};

/// Bytes per second of plain reads of device memory: the best of a few passes. 0: there is no memory to try it on.
double cudaReadBandwidth();

/// Refuses what the kernels cannot do.
Status checkCudaSupport(const plan::Plan &plan);

/// The memory that ranks of one process share on the device, for connectInProcess.
std::shared_ptr<CommMemory> createDeviceMemory();

} // namespace distc
