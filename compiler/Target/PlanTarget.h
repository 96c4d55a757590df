// Between the plan dialect and plan files, in both directions; nothing is lost.
#pragma once

#include "dialects/Plan/PlanDialect.h"
#include "distc/Status.h"
#include "runtime/schema/PlanFile.h"

namespace distc {

/// The plan that a plan.rank stands for; failures are diagnostics on the op that cannot be written.
mlir::FailureOr<plan::PlanT> toPlan(planir::RankOp rank);

/// Appends the plan as a plan.rank named @rankN to `module`.
void fromPlan(const plan::Plan &plan, mlir::ModuleOp module);

/// The files of all ranks of `module`, in rank order, framed with their common set hash.
mlir::FailureOr<std::vector<std::vector<uint8_t>>> writePlanSet(mlir::ModuleOp module);

} // namespace distc
