#include "runtime/backends/cpu/CpuBackend.h"

#include "runtime/backends/cpu/Handlers.h"
#include "runtime/plan/BufferRows.h"
#include "runtime/schema/PlanFile.h"

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
  const auto type = weight.dtype == plan::DType::F16    ? cpu::WeightType::F16
                    : weight.dtype == plan::DType::BF16 ? cpu::WeightType::BF16
                                                        : cpu::WeightType::F32;
  const int64_t rows = static_cast<int64_t>(weight.elements) / columns;
  const bool rowPerIndex = rows == static_cast<int64_t>(weight.rows);
  return {weight.data, type, rows, columns, rowPerIndex ? static_cast<int64_t>(weight.rowStride) : columns};
}

cpu::KvView CpuRun::cache(uint32_t index) const {
  const plan::KvCache &cache = *plan.kv()->caches()->Get(index);
  return {reinterpret_cast<float *>(kv.cache(index)), cache.heads(), plan.kv()->block_tokens(), cache.head_dim()};
}

CpuBackend::CpuBackend(const plan::Plan &plan, Communicator &communicator, ThreadPool &pool)
    : plan_(plan), pool_(pool), run_{.plan = plan,
                                     .communicator = communicator,
                                     .pool = pool,
                                     .weights = weights_,
                                     .ropeTables = ropeTables_,
                                     .kv = kv_,
                                     .sampling = {}} {}

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

Status CpuBackend::begin(uint32_t program, const StepInput &input, StepOutput &output) {
  run_.program = plan_.programs()->Get(program);
  run_.slot = arena_.data();
  run_.input = &input;
  run_.output = &output;
  const Batch &batch = *input.batch;
  run_.sampling.resize(batch.outputs.size());
  for (size_t r = 0; r < batch.outputs.size(); ++r) {
    const Sampling &s = batch.sampling[r];
    const uint64_t counter = static_cast<uint64_t>(batch.positions[static_cast<size_t>(batch.outputs[r])]) + 1;
    run_.sampling[r] = {s.temperature, s.topP, s.topK, s.seed, counter};
  }
  return {};
}

Status CpuBackend::execute(const Instruction &instruction) {
  return cpuHandlers::handlerOf(instruction.op)(run_, instruction);
}

uint64_t CpuBackend::bytesOf(const Instruction &instruction) const {
  uint64_t bytes = 0;
  auto buffers = [&](auto... indices) {
    for (uint32_t index : {static_cast<uint32_t>(indices)...}) {
      const BufferView view = run_.buffer(index);
      bytes += static_cast<uint64_t>(view.elements()) * dtypeBytes(view.dtype);
    }
  };
  auto weight = [&](uint32_t index) { bytes += plan_.weights()->Get(index)->bytes(); };
  switch (instruction.op) {
  case plan::Op::NONE:
    break;
  case plan::Op::Embedding: // reads as many rows as it writes
    buffers(instruction.as<plan::Embedding>().out());
    break;
  case plan::Op::RmsNorm:
    buffers(instruction.as<plan::RmsNorm>().input(), instruction.as<plan::RmsNorm>().out());
    weight(instruction.as<plan::RmsNorm>().weight());
    break;
  case plan::Op::Linear:
    buffers(instruction.as<plan::Linear>().input(), instruction.as<plan::Linear>().out());
    weight(instruction.as<plan::Linear>().weight());
    break;
  case plan::Op::Rope:
    buffers(instruction.as<plan::Rope>().input(), instruction.as<plan::Rope>().out());
    break;
  case plan::Op::KvAppend:
    buffers(instruction.as<plan::KvAppend>().k(), instruction.as<plan::KvAppend>().v());
    break;
  case plan::Op::Attention: {
    const auto &o = instruction.as<plan::Attention>();
    const BufferView q = run_.buffer(o.q());
    const cpu::KvView cache = run_.cache(o.cache());
    buffers(o.q(), o.out());
    for (int64_t t = q.first; t < q.first + q.rows; ++t) {
      const uint64_t seen = static_cast<uint64_t>(run_.positions()[t]) + 1;
      bytes += (o.window() ? std::min<uint64_t>(seen, o.window()) : seen) * 2 * cache.heads * cache.headDim * 4;
    }
    break;
  }
  case plan::Op::Add:
    buffers(instruction.as<plan::Add>().a(), instruction.as<plan::Add>().b(), instruction.as<plan::Add>().out());
    break;
  case plan::Op::Glu:
    buffers(instruction.as<plan::Glu>().gate(), instruction.as<plan::Glu>().up(), instruction.as<plan::Glu>().out());
    break;
  case plan::Op::SelectRows:
    buffers(instruction.as<plan::SelectRows>().out(), instruction.as<plan::SelectRows>().out());
    break;
  case plan::Op::TopCandidates:
    buffers(instruction.as<plan::TopCandidates>().logits(), instruction.as<plan::TopCandidates>().out());
    break;
  case plan::Op::Sample:
    buffers(instruction.as<plan::Sample>().candidates(), instruction.as<plan::Sample>().out());
    break;
  case plan::Op::AllReduce:
    buffers(instruction.as<plan::AllReduce>().input());
    break;
  case plan::Op::AllGather:
    buffers(instruction.as<plan::AllGather>().out());
    break;
  case plan::Op::ReduceScatter:
    buffers(instruction.as<plan::ReduceScatter>().input());
    break;
  case plan::Op::Send:
    buffers(instruction.as<plan::Send>().input());
    break;
  case plan::Op::Recv:
    buffers(instruction.as<plan::Recv>().out());
    break;
  case plan::Op::EmitIds:
    buffers(instruction.as<plan::EmitIds>().input());
    break;
  case plan::Op::EmitLogits:
    buffers(instruction.as<plan::EmitLogits>().input());
    break;
  }
  return bytes;
}

} // namespace distc
