// The shape of a step: which sequences bring how many tokens, from which position on. What the cost model needs of a
// batch descriptor, and the schedule by which the engine makes steps of prompts (runtime/engine/Engine.cpp).
#pragma once

#include <cstdint>
#include <vector>

namespace distc {

/// `sequences` sequences of the same kind, one after the other: each brings `tokens` tokens from `position` on, and
/// `outputs` (0 or 1) says whether its last token is sampled from.
struct SequenceRun {
  uint64_t sequences = 1, tokens = 1, position = 0, outputs = 0;
  bool operator==(const SequenceRun &) const = default;
};
using Runs = std::vector<SequenceRun>;

uint64_t tokensOf(const Runs &runs);
uint64_t outputsOf(const Runs &runs);
/// Tokens [first, first + count); a sequence may be cut, then only the last part has its output.
Runs slice(const Runs &runs, uint64_t first, uint64_t count);
/// The tokens of a step, dealt out evenly over at most `count` micro-batches; none is empty.
std::vector<Runs> microBatches(const Runs &runs, uint64_t count);

struct StepLimits {
  uint64_t sequences = 1;           // of a step
  uint64_t tokens = 1, outputs = 1; // of a prefill step
};

/// Prompts of `promptTokens` tokens each that are continued until each has `newTokens` tokens, step by step as the
/// engine schedules them.
class Schedule {
public:
  Schedule(uint64_t batch, uint64_t promptTokens, uint64_t newTokens, const StepLimits &limits);

  bool done() const { return active_.empty(); }
  /// The next step takes a token of each sequence.
  bool decodes() const;
  /// How many decode steps follow each other with the same sequences; each context grows by one token a step.
  uint64_t decodeSteps() const;
  /// The next step, or, of decode steps, that `ahead` steps from now.
  Runs next(uint64_t ahead = 0) const;
  /// After the next step, or so many decode steps. Returns how many sequences have got their first token.
  uint64_t advance(uint64_t steps = 1);

private:
  struct Sequence {
    uint64_t cached = 0, length = 0, produced = 0; // tokens in the cache, tokens known, tokens generated
    uint64_t pending() const { return length - cached; }
  };
  struct Share {
    uint64_t tokens = 0;
    bool samples = false;
  };
  std::vector<Share> shares() const;

  std::vector<Sequence> active_;
  uint64_t newTokens_;
  StepLimits limits_;
};

} // namespace distc
