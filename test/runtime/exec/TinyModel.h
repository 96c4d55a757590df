// A two-layer model: its plan set for any small mesh, and the same arithmetic in double over whole sequences.
#pragma once

#include "PlanBuilder.h"

#ifndef DISTC_TEST_TARGET
#define DISTC_TEST_TARGET "cpu"
#endif

namespace distc::test {

struct TinyOptions {
  uint32_t tp = 1, pp = 1;
  plan::DType weights = plan::DType::F32; // of the matrices in the file
  bool mapped = false;                    // use them there
  bool chunked = false;                   // everything that can be, in three chunks of rows
  bool scattered = false; // reduce-scatter and all-gather instead of all-reduce in the feed-forward network
  bool withoutFiles = false;
  bool bias = false;
  plan::RopeStyle style = plan::RopeStyle::Half;
  plan::Activation activation = plan::Activation::Silu;
  uint32_t window = 0;
  float softCap = 0;
  uint64_t kvBlocks = 24;
  std::string target = DISTC_TEST_TARGET; // for any but cpu, nothing is mapped
  uint16_t microBatches = 1;              // of each program, each as large as a step
};

class TinyModel {
public:
  static constexpr uint32_t kHidden = 32, kHeads = 4, kKvHeads = 2, kHeadDim = 8, kFfn = 64, kLayers = 2,
                            kVocabulary = 41, kBlockTokens = 4, kMaxSequence = 30, kBlocksPerSequence = 8,
                            kCandidates = 8, kMaxTokens = 16, kMaxBatch = 3;
  static constexpr float kEps = 1e-5f;

  TinyModel(uint32_t seed, const TinyOptions &options);

  const TinyOptions &options() const { return options_; }
  std::vector<plan::PlanT *> plans();
  /// Writes the checkpoint and the plan set.
  void write(const std::string &folder);
  const Checkpoint &checkpoint() const { return checkpoint_; }

  /// Logits [tokens.size(), vocabulary] of one whole sequence, in double.
  std::vector<std::vector<double>> reference(const std::vector<int32_t> &tokens) const;

private:
  struct Layer {
    uint32_t norm1, q, k, v, qBias, o, norm2, gate, up, down; // tensors
  };
  struct RankLayer {
    uint32_t norm1, q, k, v, o, norm2, gate, up, down; // weights
    int32_t qBias;
    uint32_t cache;
  };
  class RankPlan;

  TinyOptions options_;
  Checkpoint checkpoint_;
  uint32_t embed_, finalNorm_, head_;
  Layer layers_[kLayers];
  std::vector<std::unique_ptr<PlanBuilder>> ranks_;
};

} // namespace distc::test
