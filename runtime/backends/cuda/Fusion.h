// Which instructions of a prefill program a fused kernel can do together, and of a decode program those that are of no
// stage, found once from the plan. What a fused kernel does not write (gates, projections before their rotation, terms
// of a sum) is read by nobody else.
#pragma once

#include "runtime/backends/Backend.h"

#include <array>
#include <map>
#include <span>

namespace distc {

/// What projections of q, k and v are followed by, where a fusion has them: norms and rotations of q and k.
struct ProjectionParts {
  const plan::Linear *linears[3] = {}; // q, k, v
  const plan::RmsNorm *norms[2] = {};
  const plan::Rope *ropes[2] = {};
  const plan::KvAppend *append = nullptr;

  /// Of q: what attention reads.
  uint32_t out() const { return ropes[0] ? ropes[0]->out() : norms[0] ? norms[0]->out() : linears[0]->out(); }
};

/// Successive instructions of a program, done when the first of them comes.
struct Fusion {
  enum class Kind : uint8_t {
    Projections,  // Linears q, k, v, whose weights lie side by side; RmsNorm, Rope of q and of k, or not; KvAppend
    Gated,        // Linear gate, Linear up, Glu: likewise
    GatedExperts, // ExpertLinear gate, ExpertLinear up, Glu
    Residual,     // Linear, Scale of its output or not, Add of that
    Combined,     // Combine, Add of its output
    PostNorm,     // RmsNorm of rows, Add of its output
    Embedded,     // Embedding, Scale of its output or PositionEmbedding; in decode too
  };
  Kind kind = Kind::Residual;
  size_t count = 0;
  std::array<Instruction, 8> parts;
  ProjectionParts projections;

  std::span<const Instruction> all() const { return {parts.data(), count}; }
};

/// By the id of each instruction in it.
using Fusions = std::map<uint32_t, std::shared_ptr<const Fusion>>;

Fusions findFusions(const plan::Plan &plan);

} // namespace distc
