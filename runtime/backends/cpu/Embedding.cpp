#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status embedding(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::Embedding>();
  const BufferView out = run.buffer(o.out());
  const cpu::Matrix table = run.matrix(o.weight(), out.width);
  run.pool.parallelFor(out.rows, rowGrain(out.width), [&](int64_t begin, int64_t end) {
    cpu::embedding(run.tokens() + out.first, table, o.first_row(), out.f32(), begin, end);
  });
  return {};
}

} // namespace distc::cpuHandlers
