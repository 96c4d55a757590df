#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status rmsNorm(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::RmsNorm>();
  const BufferView in = run.buffer(o.input()), out = run.buffer(o.out());
  const int64_t width = static_cast<int64_t>(run.weights[o.weight()].elements); // of what is one norm: a row, or a head
  run.pool.parallelFor(in.elements() / width, rowGrain(width), [&](int64_t begin, int64_t end) {
    cpu::rmsNorm(in.f32(), run.vector(o.weight()), o.eps(), width, out.f32(), begin, end);
  });
  return {};
}

} // namespace distc::cpuHandlers
