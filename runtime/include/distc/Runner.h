// Runner: all ranks of one plan set in this process, ready to step.
#pragma once

#include "distc/Batch.h"
#include "distc/Status.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace distc {

struct RunnerOptions {
  std::string weights;                // folder or file that the checkpoint lies in now; empty: as the plan says
  std::optional<uint64_t> randomSeed; // random weights instead of the checkpoint's
  uint32_t threadsPerRank = 0;        // 0: cores / ranks, at least 1
  double timeoutSeconds = 60;         // how long a rank waits for its peers before the step fails
  std::string traceFile;              // Chrome trace of every step, written on destruction; empty: none
  const std::atomic<bool> *interrupted = nullptr; // polled; a step in flight then ends with Code::Cancelled
  std::function<void(uint64_t done, uint64_t total)> loadProgress; // bytes of weights
};

/// What a user of plans needs to know of them. Sizes in tokens unless said.
struct PlanSetInfo {
  std::string model;
  uint32_t tp = 1, pp = 1;
  uint32_t vocabulary = 0;
  uint32_t context = 0; // positions the model was made for
  uint32_t maxBatch = 0, maxTokens = 0, maxSequence = 0;
  uint32_t kvBlockTokens = 0, kvBlocks = 0, blocksPerSequence = 0;
  uint32_t maxOutputs = 0;                      // per prefill step
  std::string tokenizerPath;                    // empty: none
  uint64_t weightBytes = 0;                     // of all ranks, as they are read in one decode step
  std::map<uint32_t, uint64_t> kvBytesPerToken; // of all ranks, by the window of attention; 0: the whole context
};

class Runner {
public:
  /// Opens, checks and loads a plan set: everything that can fail for lack of memory or a wrong file fails here.
  static Result<std::unique_ptr<Runner>> open(const std::string &directory, const RunnerOptions &options);
  ~Runner();

  const PlanSetInfo &info() const;
  /// Bytes per second that plain reads reach on the ranks' device, measured now.
  double readBandwidth() const;

  /// Runs one batch through all ranks. A failure ends the runner: later steps return the same failure.
  Result<StepResult> step(const Batch &batch);

private:
  struct State;
  explicit Runner(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

} // namespace distc
