#pragma once

#include "distc/Runner.h"
#include "runtime/schema/plan_generated.h"

#include <span>

namespace distc {

/// Of the verified plans of all ranks, in rank order, in `directory`.
PlanSetInfo planSetInfo(std::span<const plan::Plan *const> plans, const std::string &directory);

} // namespace distc
