// Which instructions of a prefill program a fused kernel can do together, found once from the plan. What a fused kernel
// does not write (gates, projections before their rotation, terms of a sum) is read by nobody else.
#pragma once

#include "runtime/backends/Backend.h"

#include <array>
#include <map>
#include <span>

namespace distc {

/// Successive instructions of a program, done when the first of them comes.
struct Fusion {
  enum class Kind : uint8_t {
    Projections,  // Linear q, Rope q, Linear k, Rope k, Linear v, KvAppend: the weights lie side by side
    Gated,        // Linear gate, Linear up, Glu: likewise
    GatedExperts, // ExpertLinear gate, ExpertLinear up, Glu
    Residual,     // Linear, Add of its output
    Combined,     // Combine, Add of its output
  };
  Kind kind = Kind::Residual;
  size_t count = 0;
  std::array<Instruction, 6> parts;

  std::span<const Instruction> all() const { return {parts.data(), count}; }
};

/// By the id of each instruction in it.
using Fusions = std::map<uint32_t, std::shared_ptr<const Fusion>>;

Fusions findFusions(const plan::Plan &plan);

} // namespace distc
