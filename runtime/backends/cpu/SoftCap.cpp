#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status softCap(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::SoftCap>();
  const BufferView in = run.buffer(o.input()), out = run.buffer(o.out());
  run.pool.parallelFor(out.elements(), kElementGrain,
                       [&](int64_t begin, int64_t end) { cpu::softCap(in.f32(), o.cap(), out.f32(), begin, end); });
  return {};
}

} // namespace distc::cpuHandlers
