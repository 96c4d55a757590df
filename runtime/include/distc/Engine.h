// Engine: generates text for a list of requests by batching their sequences into the steps of a plan set.
#pragma once

#include "distc/Runner.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace distc {

/// What the engine steps: a Runner, or a model made up by a test.
class StepModel {
public:
  virtual ~StepModel() = default;
  virtual const PlanSetInfo &info() const = 0;
  /// As Runner::step.
  virtual Result<std::vector<StepResult>> step(std::span<const Batch> microBatches) = 0;
};

class RunnerModel : public StepModel {
public:
  explicit RunnerModel(Runner &runner) : runner_(runner) {}
  const PlanSetInfo &info() const override { return runner_.info(); }
  Result<std::vector<StepResult>> step(std::span<const Batch> microBatches) override {
    return runner_.step(microBatches);
  }

private:
  Runner &runner_;
};

/// How ids become text. Without one there is no text: stop strings are then an error.
class TextDecoder {
public:
  virtual ~TextDecoder() = default;
  virtual Result<std::string> push(int32_t id) = 0;
  virtual std::string finish() = 0;
};

struct Request {
  std::vector<int32_t> tokens; // the prompt, at least one
  uint32_t maxNewTokens = 128; // at least one
  Sampling sampling;
  bool ignoreEos = false;
  std::vector<std::string> stops; // none of them empty
};

enum class Finish { None, EndOfGeneration, MaxTokens, ContextLimit, Stop };

/// One new token. `text` is what can be shown since the last event: what may yet become a stop string is held back, and
/// neither a stop string nor what follows it is ever part of it.
struct TokenEvent {
  size_t request = 0; // index into the requests
  int32_t id = -1;
  Finish finish = Finish::None;
  std::string text;
};

struct EngineHooks {
  std::function<bool(int32_t)> isEndOfGeneration;            // empty: no id is
  std::function<std::unique_ptr<TextDecoder>()> makeDecoder; // one for each request; empty: no text
};

/// Steps that hold any part of a prompt count as prefill, the others as decode.
struct EngineStats {
  uint64_t prefillTokens = 0, decodeTokens = 0, decodeSteps = 0;
  double prefillSeconds = 0, decodeSeconds = 0;
  double decodeBytes = 0; // weights once a micro-batch, and the cache of every sequence in it
};

class Engine {
public:
  explicit Engine(StepModel &model, EngineHooks hooks = {}) : model_(model), hooks_(std::move(hooks)) {}

  /// Runs all requests to their ends, in order of admission and as many together as blocks and the plan's limits allow.
  /// What a request yields does not depend on the others. InvalidArgument and ResourceExhausted name the request.
  Status generate(const std::vector<Request> &requests, const std::function<void(const TokenEvent &)> &onToken);

  /// The logits after each token: [tokens, vocabulary].
  Result<std::vector<float>> logits(const std::vector<int32_t> &tokens);

  const EngineStats &stats() const { return stats_; }

private:
  StepModel &model_;
  EngineHooks hooks_;
  EngineStats stats_;
};

} // namespace distc
