#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status sample(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::Sample>();
  const BufferView candidates = run.buffer(o.candidates()), out = run.buffer(o.out());
  cpu::sample(candidates.f32(), o.shards(), out.rows, o.count(), run.sampling.data() + out.first, out.i32());
  return {};
}

} // namespace distc::cpuHandlers
