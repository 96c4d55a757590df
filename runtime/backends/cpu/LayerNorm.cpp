#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status layerNorm(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::LayerNorm>();
  const BufferView in = run.buffer(o.input()), out = run.buffer(o.out());
  const float *bias = o.bias() < 0 ? nullptr : run.vector(static_cast<uint32_t>(o.bias()));
  run.pool.parallelFor(in.rows, rowGrain(in.width), [&](int64_t begin, int64_t end) {
    cpu::layerNorm(in.f32(), run.vector(o.weight()), bias, o.eps(), in.width, out.f32(), begin, end);
  });
  return {};
}

} // namespace distc::cpuHandlers
