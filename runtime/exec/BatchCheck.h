// Host-side checks of a batch: what kernels then rely on.
#pragma once

#include "distc/Batch.h"
#include "distc/Status.h"
#include "runtime/schema/plan_generated.h"

#include <cstdint>

namespace distc {

/// The program of `plan` for the batch: of its regime, the smallest that fits. InvalidArgument if none does.
Result<uint32_t> chooseProgram(const plan::Plan &plan, const Batch &batch);

/// Shapes, ids, positions, blocks, outputs and sampling, against docs/plan-format.md. InvalidArgument.
Status checkBatch(const plan::Plan &plan, const Batch &batch);

} // namespace distc
