#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status topCandidates(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::TopCandidates>();
  const BufferView logits = run.buffer(o.logits()), out = run.buffer(o.out());
  run.pool.parallelFor(logits.rows, 1, [&](int64_t begin, int64_t end) {
    cpu::topCandidates(logits.f32(), logits.width, o.valid(), o.first_id(), o.count(),
                       run.sampling.data() + logits.first, out.f32(), begin, end);
  });
  return {};
}

} // namespace distc::cpuHandlers
