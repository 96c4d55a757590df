#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status allReduce(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::AllReduce>();
  const BufferView in = run.buffer(o.input()), out = run.buffer(o.out());
  return run.communicator.allReduce(commCall<plan::AllReduce>(run, instruction), in.data, out.data,
                                    static_cast<size_t>(in.elements()), in.dtype, o.op());
}

Status allGather(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::AllGather>();
  const BufferView in = run.buffer(o.input()), out = run.buffer(o.out());
  return run.communicator.allGather(commCall<plan::AllGather>(run, instruction), in.data,
                                    static_cast<size_t>(in.elements()), out.data, static_cast<size_t>(out.elements()),
                                    in.dtype);
}

Status reduceScatter(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::ReduceScatter>();
  const BufferView in = run.buffer(o.input()), out = run.buffer(o.out());
  return run.communicator.reduceScatter(commCall<plan::ReduceScatter>(run, instruction), in.data,
                                        static_cast<size_t>(in.elements()), out.data,
                                        static_cast<size_t>(out.elements()), in.dtype, o.op());
}

} // namespace distc::cpuHandlers
