// Runner: a plan set, ready to step: all of its ranks in this process, or one, with the others in processes of their
// own.
#pragma once

#include "distc/Batch.h"
#include "distc/Status.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace distc {

class Processes;

namespace plan {
struct Plan;
}

/// Sees every instruction of the ranks of this process, with what it has computed.
class StepObserver {
public:
  virtual ~StepObserver() = default;
  /// The rows that a buffer of the rank has in this step, as f32; only valid during the call.
  using Read = std::function<Result<std::vector<float>>(uint32_t buffer)>;
  /// On the rank's thread, after instruction `index` of a program: ranks call it at the same time. A failure ends the
  /// step.
  virtual Status executed(const plan::Plan &plan, uint32_t program, uint32_t index, const Read &read) = 0;
};

/// What the ranks of one process run on.
enum class RankKind {
  Automatic, // the CPU as Threads; GPUs as Gpus where there is one for each of several ranks, else as Device
  Threads,   // threads of the CPU
  Device,    // all on one GPU
  Gpus,      // a GPU for each
};

struct LinkSpeed {
  double latencySeconds = 0, bytesPerSecond = 1e15; // a second of each member's, in each direction
};

struct RunnerOptions {
  RankKind ranks = RankKind::Automatic;
  Processes *processes = nullptr;     // one for each rank; they outlive the runner. Null: all ranks are in this process
  std::string weights;                // folder or file that the checkpoint lies in now; empty: as the plan says
  std::optional<uint64_t> randomSeed; // random weights instead of the checkpoint's
  uint32_t threadsPerRank = 0;        // 0: cores / ranks, at least 1
  /// Collectives of ranks that are threads take at least as long as over such a link: to try schedules. none: they do
  /// not.
  std::optional<LinkSpeed> link;
  double timeoutSeconds = 60; // how long a rank waits for its peers before the step fails
  std::string traceFile; // Chrome trace of every step, written on destruction; of processes FILE.rankN; empty: none
  const std::atomic<bool> *interrupted = nullptr; // polled; a step in flight then ends with Code::Cancelled
  std::function<void(uint64_t done, uint64_t total)> loadProgress; // bytes of weights
  StepObserver *observer = nullptr; // outlives the runner; on a GPU, instructions are then run one by one
};

/// What a user of plans needs to know of them. Sizes in tokens unless said.
struct PlanSetInfo {
  std::string model;
  uint32_t tp = 1, pp = 1;
  uint32_t vocabulary = 0;
  uint32_t context = 0;                                  // positions the model was made for
  uint32_t maxBatch = 0, maxTokens = 0, maxSequence = 0; // of a step, over all its micro-batches
  uint32_t kvBlockTokens = 0, kvBlocks = 0, blocksPerSequence = 0;
  struct Limits {
    uint32_t microBatches = 1;                                // of a step
    uint32_t maxTokens = 0, maxSequences = 0, maxOutputs = 0; // of a micro-batch
  };
  Limits decode, prefill;
  std::string tokenizerPath; // empty: none
  uint64_t weightBytes = 0;  // of all ranks, as they are read in one decode step, but for experts'
  struct Experts {
    uint32_t experts = 0, count = 0; // a token goes to `count` of them
    bool operator<(const Experts &other) const {
      return experts != other.experts ? experts < other.experts : count < other.count;
    }
  };
  std::map<Experts, uint64_t> expertBytes;      // of all ranks, all weights of all experts
  std::map<uint32_t, uint64_t> kvBytesPerToken; // of all ranks, by the window of attention; 0: the whole context
};

class Runner {
public:
  /// Opens, checks and loads a plan set: everything that can fail for lack of memory or a wrong file fails here. Of
  /// several processes, each loads its rank alone, and returns when all have.
  static Result<std::unique_ptr<Runner>> open(const std::string &directory, const RunnerOptions &options);
  ~Runner();

  const PlanSetInfo &info() const;
  /// Bytes per second that plain reads reach on the ranks' devices together, measured now on one.
  double readBandwidth() const;

  /// Runs a step through all ranks: micro-batches of one regime, at most info().microBatches of it; the stages of a
  /// pipeline work on several at a time. A sequence may go on in a later micro-batch. A failure ends the runner: later
  /// steps return the same failure. Of several processes it is the first that steps; the results are whole there.
  Result<std::vector<StepResult>> step(std::span<const Batch> microBatches);
  Result<StepResult> step(const Batch &batch);
  /// The other processes: takes part in the steps of the first until that has finished.
  Status serve();

private:
  struct State;
  explicit Runner(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

} // namespace distc
