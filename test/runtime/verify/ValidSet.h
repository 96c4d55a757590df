// A small plan set that has what makes proofs hard: three query heads over two ranks (the fourth is padding), one KV
// head that is repeated, query heads with a norm each, and norms over all heads of queries and of keys, keys and values
// from one fused tensor, a padded feed-forward network and vocabulary, a tied head, a bias that only one rank may add,
// values that share memory, two stages. Activations, matrices and KV caches are of one type; if it is not F32, the set
// is for a GPU.
#pragma once

#include "PlanBuilder.h"

#include "runtime/verify/Operands.h"

namespace distc::test {

class ValidSet {
public:
  static constexpr uint32_t kTp = 2, kPp = 2, kHidden = 16, kHeadDim = 4, kHeads = 3, kFfn = 10, kVocabulary = 13,
                            kCandidates = 2, kMaxTokens = 8, kMaxBatch = 2, kChosen = 2;

  /// `experts` > 0: so many, of which each token goes to kChosen, in the place of the feed-forward network.
  explicit ValidSet(uint32_t seed, plan::DType type = plan::DType::F32, uint32_t experts = 0);

  plan::PlanT &rank(uint32_t r) { return ranks_[r]->plan; }
  /// The plans as a verifier sees them; valid until the next call.
  std::vector<const plan::Plan *> pack();

  plan::WeightT &weight(uint32_t rank, const std::string &name);
  /// The instruction with this label in program `program`: 0 prefill, 1 decode.
  plan::InstructionT &instruction(uint32_t rank, uint32_t program, const std::string &label);
  size_t place(uint32_t rank, uint32_t program, const std::string &label);
  template <typename Op> Op &op(uint32_t rank, uint32_t program, const std::string &label) {
    return *static_cast<Op *>(instruction(rank, program, label).op.value);
  }

private:
  class RankPlan;

  Checkpoint checkpoint_;
  plan::DType type_;
  uint32_t experts_;
  uint32_t embed_, norm_[kPp][2], q_[kPp], qNorm_[kPp], qAll_[kPp], kAll_[kPp], kv_[kPp], o_[kPp], oBias_[kPp],
      router_[kPp], final_;
  std::vector<uint32_t> gate_[kPp], up_[kPp], down_[kPp]; // by expert
  std::vector<std::unique_ptr<PlanBuilder>> ranks_;
  std::vector<std::vector<uint8_t>> payloads_;
};

} // namespace distc::test
