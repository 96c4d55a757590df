#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status scale(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::Scale>();
  const BufferView in = run.buffer(o.input()), out = run.buffer(o.out());
  run.pool.parallelFor(out.elements(), kElementGrain,
                       [&](int64_t begin, int64_t end) { cpu::scale(in.f32(), o.factor(), out.f32(), begin, end); });
  return {};
}

} // namespace distc::cpuHandlers
