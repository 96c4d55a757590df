#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status rmsNorm(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::RmsNorm>();
  const BufferView in = run.buffer(o.input()), out = run.buffer(o.out());
  const int64_t width = static_cast<int64_t>(run.weights[o.weight()].elements); // of what is one norm: a row, or a head
  const float *weight = run.vector(o.weight());
  if (o.squares() >= 0) {
    const BufferView sums = run.buffer(static_cast<uint32_t>(o.squares()));
    const cpu::Squares squares{sums.f32() + o.column(), sums.width, o.elements()};
    run.pool.parallelFor(in.rows, rowGrain(width), [&](int64_t begin, int64_t end) {
      cpu::rmsNormOfParts(in.f32(), squares, weight, o.eps(), width, out.f32(), begin, end, o.weight_offset());
    });
    return {};
  }
  run.pool.parallelFor(in.elements() / width, rowGrain(width), [&](int64_t begin, int64_t end) {
    cpu::rmsNorm(in.f32(), weight, o.eps(), width, out.f32(), begin, end, o.weight_offset());
  });
  return {};
}

} // namespace distc::cpuHandlers
