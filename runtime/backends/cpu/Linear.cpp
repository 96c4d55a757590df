#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status linear(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::Linear>();
  const BufferView in = run.buffer(o.input()), out = run.buffer(o.out());
  const cpu::Matrix weight = run.matrix(o.weight(), in.width);
  const float *bias = o.bias() < 0 ? nullptr : run.vector(static_cast<uint32_t>(o.bias()));
  // Weight rows are what is streamed: each thread takes its own, in whole cache lines of the output.
  constexpr int64_t kRows = 16;
  if (in.rows > 0)
    run.pool.parallelFor(weight.rows, kRows, [&](int64_t begin, int64_t end) {
      cpu::linear(in.f32(), in.rows, weight, bias, out.f32(), out.width, begin, end);
    });
  return {};
}

} // namespace distc::cpuHandlers
