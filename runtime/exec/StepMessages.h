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
  Batch batch;
};

std::vector<std::byte> packStep(uint64_t step, uint32_t program, const Batch &batch);
/// Internal if it cannot be read. The batch is not checked (BatchCheck.h).
Result<StepMessage> unpackStep(std::span<const std::byte> bytes);

/// The columns that EmitLogits of a program hands out on this rank, from `logits` [rows, vocabulary]; empty if none.
std::vector<std::byte> packLogits(const plan::Program &program, const std::vector<float> &logits, uint32_t vocabulary);
/// Puts them into `logits`. Internal if they do not fit.
Status unpackLogits(std::span<const std::byte> bytes, std::vector<float> &logits, uint32_t vocabulary);

} // namespace distc
