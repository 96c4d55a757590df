// The batch descriptor: the only thing that the host hands to a step. docs/plan-format.md states every field.
#pragma once

#include <cstdint>
#include <vector>

namespace distc {

/// How one output is sampled. temperature 0: greedy. top_k 0, top_p 1: no limit.
struct Sampling {
  float temperature = 0;
  float topP = 1;
  int32_t topK = 0;
  uint64_t seed = 0;
};

/// One step: T tokens of S sequences, R outputs.
struct Batch {
  bool decode = false;                 // every sequence brings one token and gets one; else prefill
  bool wantLogits = false;             // hand out the logits of the outputs too
  std::vector<int32_t> tokens;         // [T]
  std::vector<int32_t> positions;      // [T]
  std::vector<int32_t> sequenceStarts; // [S+1]
  std::vector<int32_t> blockTable;     // [S, blocks_per_sequence]; entries of unused blocks are -1
  std::vector<int32_t> lengths;        // [S]; tokens that each may grow to; empty: as many as the plan holds
  std::vector<int32_t> outputs;        // [R], increasing indices into tokens
  std::vector<Sampling> sampling;      // [R]
};

struct StepResult {
  std::vector<int32_t> ids;  // [R]
  std::vector<float> logits; // [R, vocabulary] if wanted
};

} // namespace distc
