#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status rmsNorm(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::RmsNorm>();
  const BufferView in = run.buffer(o.input()), out = run.buffer(o.out());
  run.pool.parallelFor(in.rows, rowGrain(in.width), [&](int64_t begin, int64_t end) {
    cpu::rmsNorm(in.f32(), run.vector(o.weight()), o.eps(), in.width, out.f32(), begin, end);
  });
  return {};
}

} // namespace distc::cpuHandlers
