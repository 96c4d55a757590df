#include "runtime/backends/cpu/CpuBackend.h"

#include "runtime/backends/cpu/Handlers.h"
#include "runtime/plan/BufferRows.h"
#include "runtime/plan/Convert.h"
#include "runtime/schema/PlanFile.h"
#include "runtime/verify/Operands.h"

#include <algorithm>
#include <set>

namespace distc {

BufferView CpuRun::buffer(uint32_t index) const {
  const plan::Buffer &buffer = *program->buffers()->Get(index);
  const uint64_t tokens = input->batch->tokens.size(), outputs = input->batch->outputs.size();
  const RowRange rows = rowsOf(buffer, tokens, outputs);
  // A chunk lies in its parent, at its first row; the verifier has seen that this ends.
  std::byte *data = buffer.parent() < 0 ? slot + buffer.offset()
                                        : this->buffer(static_cast<uint32_t>(buffer.parent())).data +
                                              rows.first * buffer.row_elements() * dtypeBytes(buffer.dtype());
  return {data, static_cast<int64_t>(rows.count), buffer.row_elements(), static_cast<int64_t>(rows.first),
          buffer.dtype()};
}

cpu::Matrix CpuRun::matrix(uint32_t index, int64_t columns) const {
  const LoadedWeight &weight = weights[index];
  const int64_t rows = static_cast<int64_t>(weight.elements) / columns;
  const bool rowPerIndex = rows == static_cast<int64_t>(weight.rows);
  return {weight.data, weightType(weight.dtype), rows, columns,
          rowPerIndex ? static_cast<int64_t>(weight.rowStride) : columns};
}

cpu::Matrix CpuRun::expert(uint32_t index, int64_t expert, int64_t columns) const {
  const LoadedWeight &weight = weights[index];
  const auto *data =
      static_cast<const std::byte *>(weight.data) + bytesOf(weight.dtype, uint64_t(expert) * weight.rowStride);
  const auto rows = static_cast<int64_t>(weight.elements / weight.rows) / columns;
  return {data, weightType(weight.dtype), rows, columns, columns};
}

cpu::KvView CpuRun::cache(uint32_t index) const {
  const plan::KvCache &cache = *plan.kv()->caches()->Get(index);
  return {reinterpret_cast<float *>(kv.cache(index)), cache.heads(), plan.kv()->block_tokens(), cache.head_dim()};
}

CpuBackend::CpuBackend(const plan::Plan &plan, const Communicators &communicators, ThreadPool &pool)
    : plan_(plan), pool_(pool) {
  for (const auto &communicator : communicators)
    runs_.push_back({.plan = plan,
                     .communicator = *communicator,
                     .pool = pool,
                     .weights = weights_,
                     .ropeTables = ropeTables_,
                     .kv = kv_,
                     .sampling = {},
                     .ropeRows = std::vector<std::vector<int32_t>>(plan.rope_tables()->size())});
}

Status CpuBackend::load(const SourceFiles &files, const LoadOptions &options) {
  DISTC_TRY(checkCpuSupport(plan_));
  const std::string arena = "rank " + std::to_string(plan_.mesh()->rank()) + ": activations";
  DISTC_ASSIGN(arena_, AnonymousMemory::reserve(plan_.ledger()->arena(), arena));
  DISTC_TRY(arena_.commit(pool_, arena, options.interrupted));
  DISTC_ASSIGN(kv_, KvMemory::create(plan_, pool_, options.interrupted));
  DISTC_ASSIGN(ropeTables_, RopeTables::create(plan_, pool_));
  DISTC_ASSIGN(weights_, RankWeights::load(plan_, files, options, pool_));
  return {};
}

Status CpuBackend::begin(uint32_t slot, uint32_t program, const StepInput &input, StepOutput &output) {
  CpuRun &run = runs_[slot];
  run.program = plan_.programs()->Get(program);
  run.slot = arena_.data() + slot * run.program->arena_bytes();
  run.input = &input;
  run.output = &output;
  const Batch &batch = *input.batch;
  run.sampling.resize(batch.outputs.size());
  for (size_t r = 0; r < batch.outputs.size(); ++r)
    run.sampling[r] = samplingOf(batch, r);
  for (uint32_t t = 0; t < run.ropeRows.size(); ++t) {
    run.ropeRows[t].resize(batch.tokens.size());
    findRopeRows(*plan_.rope_tables()->Get(t), plan_.limits()->max_sequence(), batch, run.ropeRows[t].data());
  }
  return {};
}

Status CpuBackend::execute(uint32_t slot, const Instruction &instruction) {
  return cpuHandlers::handlerOf(instruction.op)(runs_[slot], instruction);
}

Status CpuBackend::end(uint32_t slot) { return runs_[slot].communicator.settle(nullptr); }

Result<std::vector<float>> CpuBackend::read(uint32_t buffer) {
  const BufferView view = runs_[0].buffer(buffer);
  return toF32(view.data, view.dtype, static_cast<size_t>(view.elements()));
}

uint64_t CpuBackend::bytesOf(uint32_t slot, const Instruction &instruction) const {
  const CpuRun &run = runs_[slot];
  const Operands operands = operandsOf(*instruction.record);
  uint64_t bytes = 0;
  std::set<uint32_t> seen; // in place, a buffer is counted once
  for (const BufferOperand &operand : operands.buffers()) {
    if (!seen.insert(operand.buffer).second)
      continue;
    const BufferView view = run.buffer(operand.buffer);
    const uint64_t size = static_cast<uint64_t>(view.elements()) * dtypeBytes(view.dtype);
    if (instruction.op != plan::Op::SelectRows)
      bytes += size;
    else if (operand.write) // reads as many rows as it writes
      bytes += 2 * size;
  }
  if (instruction.op == plan::Op::ExpertLinear) { // of the experts that tokens have gone to
    const BufferView routes = run.buffer(instruction.as<plan::ExpertLinear>().routes());
    std::set<float> experts;
    for (int64_t i = 1; i < routes.elements(); i += 2)
      experts.insert(routes.f32()[i]);
    const plan::Weight &weight = *plan_.weights()->Get(static_cast<uint32_t>(operands.weight));
    return bytes + weight.bytes() / weight.shape()->Get(0) * experts.size();
  }
  for (int64_t weight : {operands.weight, operands.bias})
    if (weight >= 0 && instruction.op != plan::Op::Embedding &&
        instruction.op != plan::Op::PositionEmbedding) // which reads as many rows as it writes
      bytes += plan_.weights()->Get(static_cast<uint32_t>(weight))->bytes();
  if (instruction.op == plan::Op::Attention) {
    const auto &o = instruction.as<plan::Attention>();
    const BufferView q = run.buffer(o.q());
    const cpu::KvView cache = run.cache(o.cache());
    for (int64_t t = q.first; t < q.first + q.rows; ++t) {
      const uint64_t context = static_cast<uint64_t>(run.positions()[t]) + 1;
      bytes += (o.window() ? std::min<uint64_t>(context, o.window()) : context) * 2 * cache.heads * cache.headDim * 4;
    }
  }
  return bytes;
}

} // namespace distc
