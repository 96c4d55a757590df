// One handler per instruction, each in a file of its own, and the table that finds it.
#pragma once

#include "runtime/backends/cpu/CpuBackend.h"

namespace distc::cpuHandlers {

using Handler = Status (*)(CpuRun &run, const Instruction &instruction);

Status embedding(CpuRun &run, const Instruction &instruction);
Status rmsNorm(CpuRun &run, const Instruction &instruction);
Status linear(CpuRun &run, const Instruction &instruction);
Status rope(CpuRun &run, const Instruction &instruction);
Status kvAppend(CpuRun &run, const Instruction &instruction);
Status attention(CpuRun &run, const Instruction &instruction);
Status add(CpuRun &run, const Instruction &instruction);
Status glu(CpuRun &run, const Instruction &instruction);
Status selectRows(CpuRun &run, const Instruction &instruction);
Status topCandidates(CpuRun &run, const Instruction &instruction);
Status sample(CpuRun &run, const Instruction &instruction);
Status allReduce(CpuRun &run, const Instruction &instruction);
Status allGather(CpuRun &run, const Instruction &instruction);
Status reduceScatter(CpuRun &run, const Instruction &instruction);
Status send(CpuRun &run, const Instruction &instruction);
Status recv(CpuRun &run, const Instruction &instruction);
Status emitIds(CpuRun &run, const Instruction &instruction);
Status scale(CpuRun &run, const Instruction &instruction);
Status softCap(CpuRun &run, const Instruction &instruction);
Status squareSum(CpuRun &run, const Instruction &instruction);
Status emitLogits(CpuRun &run, const Instruction &instruction);
Status layerNorm(CpuRun &run, const Instruction &instruction);
Status activate(CpuRun &run, const Instruction &instruction);
Status positionEmbedding(CpuRun &run, const Instruction &instruction);
Status route(CpuRun &run, const Instruction &instruction);
Status expertLinear(CpuRun &run, const Instruction &instruction);
Status combine(CpuRun &run, const Instruction &instruction);

/// The handler of an instruction; the file's structure is verified, so every op of the schema has one.
Handler handlerOf(plan::Op op);

cpu::Activation activationOf(plan::Activation activation);

/// Which call of the communicator a collective, send or recv is.
template <typename Operands> CommCall commCall(const CpuRun &run, const Instruction &instruction) {
  const Operands &o = instruction.as<Operands>();
  return {o.group(), run.input->step, o.sequence(), instruction.id, instruction.label};
}

// Elements per thread below which a second thread costs more than it saves.
inline constexpr int64_t kElementGrain = 4096;

/// Rows of `width` elements per thread, likewise.
inline int64_t rowGrain(int64_t width) { return std::max<int64_t>(1, kElementGrain / std::max<int64_t>(1, width)); }

} // namespace distc::cpuHandlers
