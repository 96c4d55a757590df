#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status positionEmbedding(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::PositionEmbedding>();
  const BufferView in = run.buffer(o.input()), out = run.buffer(o.out());
  const cpu::Matrix table = run.matrix(o.weight(), out.width);
  run.pool.parallelFor(out.rows, rowGrain(out.width), [&](int64_t begin, int64_t end) {
    cpu::positionEmbedding(in.f32(), run.positions() + out.first, table, out.f32(), begin, end);
  });
  return {};
}

} // namespace distc::cpuHandlers
