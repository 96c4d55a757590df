#include "runtime/backends/cpu/Handlers.h"

#include <cstring>

namespace distc::cpuHandlers {

Status emitIds(CpuRun &run, const Instruction &instruction) {
  if (run.plan.mesh()->rank() != 0)
    return {};
  const BufferView ids = run.buffer(instruction.as<plan::EmitIds>().input());
  if (ids.rows > 0)
    std::memcpy(run.output->ids + ids.first, ids.data, static_cast<size_t>(ids.rows) * sizeof(int32_t));
  return {};
}

Status emitLogits(CpuRun &run, const Instruction &instruction) {
  if (!run.output->logits)
    return {};
  const auto &o = instruction.as<plan::EmitLogits>();
  const BufferView logits = run.buffer(o.input());
  const uint64_t vocabulary = run.output->vocabulary;
  if (uint64_t(o.first_column()) + o.valid() > vocabulary || o.valid() > logits.width)
    return internal("columns [" + std::to_string(o.first_column()) + ", +" + std::to_string(o.valid()) +
                    ") are not in the vocabulary of " + std::to_string(vocabulary) + "; compile the model again");
  for (int64_t r = 0; r < logits.rows; ++r)
    std::memcpy(run.output->logits + static_cast<uint64_t>(logits.first + r) * vocabulary + o.first_column(),
                logits.f32() + r * logits.width, o.valid() * sizeof(float));
  return {};
}

} // namespace distc::cpuHandlers
