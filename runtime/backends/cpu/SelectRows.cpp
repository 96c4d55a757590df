#include "runtime/backends/cpu/Handlers.h"

#include <cstring>

namespace distc::cpuHandlers {

Status selectRows(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::SelectRows>();
  const BufferView in = run.buffer(o.input()), out = run.buffer(o.out());
  const size_t bytes = static_cast<size_t>(out.width) * sizeof(float);
  for (int64_t r = 0; r < out.rows; ++r) {
    const int64_t token = run.input->batch->outputs[static_cast<size_t>(out.first + r)];
    std::memcpy(out.f32() + r * out.width, in.f32() + token * in.width, bytes);
  }
  return {};
}

} // namespace distc::cpuHandlers
