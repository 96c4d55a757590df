// What processes tell each other of a step: rank 0 the batch, the others their columns of the logits.
#pragma once

#include "distc/Batch.h"
#include "distc/Status.h"
#include "runtime/schema/plan_generated.h"

#include <cstddef>
#include <span>
#include <vector>

namespace distc {

struct StepMessage {
  uint64_t step = 0;
  uint32_t program = 0; // index into Plan.programs
  std::vector<Batch> batches;
};

std::vector<std::byte> packStep(uint64_t step, uint32_t program, std::span<const Batch> batches);
/// Internal if it cannot be read. The batches are not checked (BatchCheck.h).
Result<StepMessage> unpackStep(std::span<const std::byte> bytes);

/// The columns that EmitLogits of a program hands out on this rank, from the results' logits [rows, vocabulary]; empty
/// if none.
std::vector<std::byte> packLogits(const plan::Program &program, const std::vector<StepResult> &results,
                                  uint32_t vocabulary);
/// Puts them into the results. Internal if they do not fit.
Status unpackLogits(std::span<const std::byte> bytes, std::vector<StepResult> &results, uint32_t vocabulary);

} // namespace distc
