// A plan in words: readable, the same for the same plan, and such that `diff` of two shows what differs.
#pragma once

#include "runtime/schema/PlanFile.h"

#include <optional>
#include <string>

namespace distc {

struct InspectOptions {
  bool weights = false;                // the weights and their slices alone
  std::optional<plan::Regime> program; // programs of this regime alone
  std::string grep;                    // only the lines that hold this text, after the header; empty: all
};

/// The plan must have passed verifyPlan: indices are followed.
std::string inspectText(const plan::Plan &plan, const InspectOptions &options = {});

/// The same as one JSON object, by the names of plan.fbs; enums by name. `grep` does not apply.
std::string inspectJson(const plan::Plan &plan, const InspectOptions &options = {});

} // namespace distc
