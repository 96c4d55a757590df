#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status squareSum(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::SquareSum>();
  const BufferView out = run.buffer(o.out());
  for (int64_t column = 0; column < out.width; ++column) {
    const BufferView in = run.buffer(column == 0 ? o.a() : static_cast<uint32_t>(o.b()));
    run.pool.parallelFor(in.rows, rowGrain(in.width), [&](int64_t begin, int64_t end) {
      cpu::squareSum(in.f32(), in.width, out.f32() + column, out.width, begin, end);
    });
  }
  return {};
}

} // namespace distc::cpuHandlers
