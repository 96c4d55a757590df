#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status send(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::Send>();
  const BufferView in = run.buffer(o.input());
  return run.communicator.send(commCall<plan::Send>(run, instruction), o.peer(), in.data,
                               static_cast<size_t>(in.elements()), in.dtype);
}

Status recv(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::Recv>();
  const BufferView out = run.buffer(o.out());
  return run.communicator.recv(commCall<plan::Recv>(run, instruction), o.peer(), out.data,
                               static_cast<size_t>(out.elements()), out.dtype);
}

} // namespace distc::cpuHandlers
