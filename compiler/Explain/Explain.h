// `distc explain`: a plan set in words. How and why each weight is split, what the ranks exchange, what memory each
// takes; or all about the weights and instructions of one name.
#pragma once

#include "compiler/Explain/PlanSet.h"

#include <optional>
#include <string>

namespace distc::explain {

struct ExplainOptions {
  std::string name;               // a weight, a tensor of the checkpoint, a label or id of instructions, or a glob
  std::optional<uint64_t> memory; // bytes of a device; the longest context that fits is told
  uint64_t batch = 1;             // sequences of it
};

/// The set must be whole. InvalidArgument, with near matches, where nothing has the name.
Result<std::string> explainText(const PlanSet &set, const ExplainOptions &options);
Result<std::string> explainJson(const PlanSet &set, const ExplainOptions &options);

} // namespace distc::explain
