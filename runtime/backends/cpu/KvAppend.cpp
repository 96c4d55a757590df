#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status kvAppend(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::KvAppend>();
  const BufferView k = run.buffer(o.k()), v = run.buffer(o.v());
  const cpu::KvView cache = run.cache(o.cache());
  run.pool.parallelFor(k.rows, rowGrain(k.width), [&](int64_t begin, int64_t end) {
    cpu::kvAppend(k.f32(), v.f32(), cache, run.blockTables(), run.plan.kv()->blocks_per_sequence(),
                  run.sequenceOf() + k.first, run.positions() + k.first, begin, end);
  });
  return {};
}

} // namespace distc::cpuHandlers
