#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status activate(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::Activate>();
  const BufferView in = run.buffer(o.input()), out = run.buffer(o.out());
  run.pool.parallelFor(out.elements(), kElementGrain, [&](int64_t begin, int64_t end) {
    cpu::glu(in.f32(), nullptr, activationOf(o.activation()), out.f32(), begin, end);
  });
  return {};
}

} // namespace distc::cpuHandlers
