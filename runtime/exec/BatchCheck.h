// Host-side checks of a batch: what kernels then rely on.
#pragma once

#include "distc/Batch.h"
#include "distc/Status.h"
#include "runtime/schema/plan_generated.h"

#include <cstdint>
#include <span>

namespace distc {

/// The program of `plan` for a step's micro-batches: of their regime, the smallest that fits. InvalidArgument if none
/// does.
Result<uint32_t> chooseProgram(const plan::Plan &plan, std::span<const Batch> microBatches);

/// Both checks of a whole step; the program.
Result<uint32_t> checkStep(const plan::Plan &plan, std::span<const Batch> microBatches);

/// Shapes, ids, positions, blocks, outputs and sampling, against docs/plan-format.md. InvalidArgument.
Status checkBatch(const plan::Plan &plan, const Batch &batch);

} // namespace distc
