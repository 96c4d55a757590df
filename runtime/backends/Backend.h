// Backend: what runs the instructions of one rank on one kind of device. Chosen by Plan.target.
#pragma once

#include "distc/Batch.h"
#include "distc/Status.h"
#include "distc/kernels/Sampling.h"
#include "runtime/base/ThreadPool.h"
#include "runtime/comm/CommMemory.h"
#include "runtime/comm/Communicator.h"
#include "runtime/comm/World.h"
#include "runtime/plan/WeightLoader.h"

#include <memory>
#include <string_view>

namespace distc {

/// One instruction, its cold fields looked up once.
struct Instruction {
  plan::Op op = plan::Op::NONE;
  uint8_t queue = 0;
  uint32_t id = 0;
  uint32_t index = 0; // in its program
  const plan::Instruction *record = nullptr;
  const void *operands = nullptr; // the table of `op`
  std::string_view label;

  template <typename Operands> const Operands &as() const { return *static_cast<const Operands *>(operands); }
};

/// One micro-batch of a step as all ranks see it; nothing here changes while it runs.
struct StepInput {
  uint64_t step = 0; // numbers the steps of a runner
  const Batch *batch = nullptr;
  std::vector<int32_t> sequenceOf; // [T]: the sequence of each token
};

/// What output r of a batch asks of sampling; its random numbers count from the position of the token to be sampled.
inline SamplingRow samplingOf(const Batch &batch, size_t r) {
  const Sampling &s = batch.sampling[r];
  return {s.temperature, s.topP, s.topK, s.seed, uint64_t(batch.positions[size_t(batch.outputs[r])]) + 1};
}

/// Where the host wants the results. Ranks write disjoint parts, at the same time.
struct StepOutput {
  int32_t *ids = nullptr;  // [R]; written by rank 0
  float *logits = nullptr; // [R, vocabulary], or null where the host did not ask
  uint32_t vocabulary = 0;
};

class Backend {
public:
  virtual ~Backend() = default;

  /// Refuses a plan that this backend cannot run; allocates its memory and loads its weights. On the rank's thread.
  virtual Status load(const SourceFiles &files, const LoadOptions &options) = 0;

  /// A micro-batch of a step, in arena slot `slot`: begin, then every instruction of the program in an order that the
  /// plan allows, then end. `program` is an index into Plan.programs; `input` and `output` live until end.
  virtual Status begin(uint32_t slot, uint32_t program, const StepInput &input, StepOutput &output) = 0;
  virtual Status execute(uint32_t slot, const Instruction &instruction) = 0;
  /// Returns when the results are written. By the thread that has called for the slot's communication.
  virtual Status end(uint32_t slot) = 0;

  /// Whether threads may execute instructions beside each other: one of the queue 0 of any slot, and one of each
  /// slot's queue 1. Else all is done by the rank's thread, and an instruction may be under way when execute has
  /// returned: a device does what it was given in that order.
  virtual bool isConcurrent() const { return false; }

  /// The rows that a buffer has in slot 0, as f32, when what was executed before has been done.
  virtual Result<std::vector<float>> read(uint32_t buffer) = 0;

  /// On a device, if the load was told that a trace is made: when the instructions of a step were under way, in seconds
  /// since its first begin() returned; after the last end().
  struct Time {
    const Instruction *instruction;
    uint32_t slot;
    double begin, end;
  };
  virtual Result<std::vector<Time>> times() { return std::vector<Time>(); }

  /// Bytes of the weights and activations that an instruction of the step touches; for the trace.
  virtual uint64_t bytesOf(uint32_t slot, const Instruction &instruction) const = 0;
};

/// `count` elements of a buffer, a float type or I32, as f32.
std::vector<float> toF32(const void *data, plan::DType dtype, size_t count);

/// What ranks of one process share of a target.
struct Device {
  uint32_t index = 0;                           // among those of the target
  uint64_t availableMemory = 0;                 // bytes, for the ledgers of all its ranks
  std::shared_ptr<CommMemory> memory = nullptr; // what ranks exchange through; null: host memory
  double (*readBandwidth)() = nullptr;          // measures: bytes per second of plain reads, to hold figures against
  std::string memoryName = "memory";            // of what availableMemory is, for people
};

/// The targets of this build beside "cpu"; empty: none.
std::string_view deviceTargets();

/// How many devices of a target there are; none, where ranks need none of their own: on the CPU.
uint32_t deviceCount(std::string_view target);

/// A device of a plan's target; an error that names the targets of this build if there is none, or says why the device
/// cannot be used.
Result<Device> openDevice(std::string_view target, uint32_t index = 0);

/// Where ranks have a device each: what all of them must be given to connect, made by one process.
Result<std::vector<std::byte>> openDeviceNetwork(std::span<const plan::Plan *const> plans);
/// The communicator of plans[rank]. `world`: the first failure of all ranks, and the time limit.
std::unique_ptr<Communicator> joinDeviceNetwork(std::span<const plan::Plan *const> plans, uint32_t rank,
                                                uint32_t device, std::vector<std::byte> network,
                                                std::shared_ptr<World> world);

/// A communicator for each micro-batch in flight.
using Communicators = std::vector<std::unique_ptr<Communicator>>;

/// The backend for plan.target(), on the device `index`, which openDevice has accepted. All references outlive it.
std::unique_ptr<Backend> createBackend(const plan::Plan &plan, uint32_t index, const Communicators &communicators,
                                       ThreadPool &pool);

} // namespace distc
