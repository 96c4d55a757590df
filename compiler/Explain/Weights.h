// How the ranks of a stage share each weight, and by which rule.
#pragma once

#include "compiler/Explain/PlanSet.h"

#include <cstdint>
#include <string>
#include <vector>

namespace distc::explain {

enum class SplitRule {
  Replicated, // whole on every rank
  Column,     // by outputs
  Row,        // by inputs: leaves partial sums
  Vocabulary, // by ids
  Other,      // split by an op that is none of these
  Unknown,    // one plan of several alone
};
const char *ruleName(SplitRule rule);
/// One sentence: why a weight is split so.
const char *ruleReason(SplitRule rule);

/// What a rank holds of a weight.
struct WeightPart {
  uint32_t rank = 0;
  const plan::Weight *weight = nullptr;
  const plan::Plan *plan = nullptr;
  // Along the split axis: indices that are there, of these the different ones, and zeros that no file holds.
  uint64_t held = 0, distinct = 0, padding = 0;
  /// "10", "10 of 2 different", "8 + 2 padding".
  std::string share() const;
};

struct WeightFact {
  std::string name;
  uint32_t stage = 0;
  plan::DType dtype = plan::DType::F32;
  std::vector<uint64_t> shape;      // over all ranks, without padding and copies
  std::vector<std::string> tensors; // of the checkpoint, that it is made of
  SplitRule rule = SplitRule::Unknown;
  int axis = -1;    // of `shape`, that is split
  std::string unit; // what the axis counts: "heads", "KV heads", "vocabulary", "outputs", "inputs"
  uint32_t degree = 1, copies = 1;
  bool padded = false;
  std::vector<WeightPart> parts; // by rank

  /// "column-parallel: heads over tp 8".
  std::string ruleText() const;
  /// "8 each", "2 x 10, 8 + 2 padding".
  std::string sharesText() const;
  /// "BF16 [64, 128, 8192]".
  std::string shapeText() const;
  /// The same for all weights that are alike but for the numbers in their names, and their stages.
  std::string likeness() const;
};

/// Weights that are alike, as one.
struct WeightGroup {
  std::string name, tensors; // "layers.0-79.q"
  std::vector<const WeightFact *> members;
  std::vector<uint32_t> stages;
};

std::vector<WeightFact> weightFacts(const PlanSet &set);
std::vector<WeightGroup> groupWeights(const std::vector<const WeightFact *> &facts);
std::vector<WeightGroup> groupWeights(const std::vector<WeightFact> &facts);

/// The indices of a dimension that a source takes: "1024:2048", "1:2 x3, 3 zeros".
std::string segmentsText(const plan::DimSlice &slice);

} // namespace distc::explain
