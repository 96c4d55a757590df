// What a stage of a tile schedule is made of (docs/plan-format.md, "Stages"): its instructions by the part that they
// play. The verifier checks stages with it, a backend runs them by it.
#pragma once

#include "runtime/schema/plan_generated.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace distc {

struct TileStage {
  plan::StageKind kind = plan::StageKind::Rows;
  uint32_t first = 0, count = 0; // instructions of the program
  // The parts; null where the stage has none.
  const plan::Add *addend = nullptr; // x + addend, before the norm
  const plan::RmsNorm *norm = nullptr;
  const plan::LayerNorm *layerNorm = nullptr; // Rows: in place of the norm
  std::vector<const plan::Linear *> linears;  // in the order of the units
  // Of one linear's output: at most one of these, then, of a scale alone, the residual.
  const plan::Scale *scale = nullptr;
  const plan::Activate *activate = nullptr;
  const plan::SoftCap *softCap = nullptr;
  const plan::Add *residual = nullptr;
  const plan::Glu *glu = nullptr;
  const plan::RmsNorm *headNorms[2] = {}; // of q, k: of each head, or of all together
  const plan::Rope *ropes[2] = {};        // of q, k
  const plan::KvAppend *append = nullptr;
  const plan::Attention *attention = nullptr;
  std::vector<const plan::ExpertLinear *> experts; // in place of linears; their rows and columns are of one expert
  const plan::Combine *combine = nullptr;
  const plan::Route *route = nullptr;

  /// Its kernel takes kExpertTokens tokens at most.
  bool isOfExperts() const { return !experts.empty() || route; }

  /// The buffer that its products, or its attention, come from; where there is an addend, what is added to that. Of
  /// Append q, where it has one, before its norm and rotation; its outputs have one then.
  uint32_t input = 0;
  /// The buffers that it writes; all others of its instructions are never in memory.
  std::vector<uint32_t> outputs;
  uint32_t columns = 0; // of its weights
  uint32_t units = 0;   // all together
  uint32_t k = 0;       // Append: the keys before their norm and rotation
};

/// The stage of these instructions of the program, whose indices are in range; or, in `why`, what is wrong with it.
std::optional<TileStage> stageOf(const plan::Plan &plan, const plan::Program &program, const plan::StageTiles &tiles,
                                 std::string &why);

/// How many bytes of weights more than the mean the largest shares of a program's stages stream, as a part of the mean:
/// what a device loses that runs stage after stage. The program has a schedule that was proven.
double scheduleImbalance(const plan::Plan &plan, const plan::Program &program);

} // namespace distc
