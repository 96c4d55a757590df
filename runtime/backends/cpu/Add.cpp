#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status add(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::Add>();
  const BufferView a = run.buffer(o.a()), b = run.buffer(o.b()), out = run.buffer(o.out());
  run.pool.parallelFor(out.elements(), kElementGrain,
                       [&](int64_t begin, int64_t end) { cpu::add(a.f32(), b.f32(), out.f32(), begin, end); });
  return {};
}

} // namespace distc::cpuHandlers
