#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status rope(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::Rope>();
  const BufferView in = run.buffer(o.input()), out = run.buffer(o.out());
  const auto style = o.style() == plan::RopeStyle::Half ? cpu::RopeStyle::Half : cpu::RopeStyle::Interleaved;
  const int64_t rotated = 2 * frequencies(*run.plan.rope_tables()->Get(o.table()));
  run.pool.parallelFor(in.rows, rowGrain(in.width), [&](int64_t begin, int64_t end) {
    cpu::rope(in.f32(), run.ropeRows[o.table()].data() + in.first, run.ropeTables[o.table()], o.heads(), o.head_dim(),
              rotated, style, out.f32(), begin, end);
  });
  return {};
}

} // namespace distc::cpuHandlers
