#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

cpu::Activation activationOf(plan::Activation activation) {
  switch (activation) {
  case plan::Activation::Silu:
    return cpu::Activation::Silu;
  case plan::Activation::Gelu:
    return cpu::Activation::Gelu;
  case plan::Activation::GeluTanh:
    return cpu::Activation::GeluTanh;
  case plan::Activation::Relu:
    break;
  }
  return cpu::Activation::Relu;
}

Status glu(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::Glu>();
  const BufferView gate = run.buffer(o.gate()), up = run.buffer(o.up()), out = run.buffer(o.out());
  run.pool.parallelFor(out.elements(), kElementGrain, [&](int64_t begin, int64_t end) {
    cpu::glu(gate.f32(), up.f32(), activationOf(o.activation()), out.f32(), begin, end);
  });
  return {};
}

} // namespace distc::cpuHandlers
