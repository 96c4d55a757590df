// The instructions: from operands to a kernel or to the communicator, nothing else. What they are is in
// docs/plan-format.md; the verifier has checked them.
#include "runtime/backends/cuda/CudaBackend.h"
#include "runtime/plan/RopeTables.h"
#include "runtime/schema/PlanFile.h"

#include <mutex>

namespace distc {

Status CudaBackend::execute(uint32_t slot, const Instruction &instruction) {
  now_ = &microBatches_[slot];
  const bool inGraph = now_->inGraph(instruction.index);
  if (inGraph && instruction.index == now_->graph->first && instruction.index != 0)
    DISTC_TRY(openGraph());
  if (inGraph && now_->mode == Mode::Replay)
    return {};
  DISTC_TRY(queue(instruction));
  return inGraph && instruction.index + 1 == now_->graph->end ? closeGraph() : Status();
}

Status CudaBackend::queue(const Instruction &instruction) {
  // The first instruction of a fusion does all of it.
  std::span<const Instruction> parts(&instruction, 1);
  if (const auto found = fusions_.find(instruction.id); found != fusions_.end())
    parts = found->second->all();
  if (parts[0].id != instruction.id)
    return {};
  DISTC_TRY(queues_.before(now_->slot, instruction, parts));
  DISTC_TRY(run(instruction));
  return queues_.after(instruction, parts);
}

Status CudaBackend::run(const Instruction &instruction) {
  switch (instruction.op) {
  case plan::Op::AllReduce:
  case plan::Op::AllGather:
  case plan::Op::ReduceScatter:
  case plan::Op::Send:
  case plan::Op::Recv:
    return communicate(instruction);
  case plan::Op::EmitIds:
    return emitIds(instruction);
  case plan::Op::EmitLogits:
    return emitLogits(instruction);
  default:
    return cuda::synchronous() ? dispatchNow(instruction) : dispatch(instruction);
  }
}

// With DISTC_CUDA_SYNC=1: to its end, with no other rank's on the device, so that a fault is its own.
Status CudaBackend::dispatchNow(const Instruction &instruction) {
  static std::mutex alone[16]; // by device: ranks on several may wait for each other
  int device = 0;
  DISTC_TRY(cuda::check(cudaGetDevice(&device), "find the device"));
  std::lock_guard lock(alone[device % 16]);
  DISTC_TRY(dispatch(instruction));
  return finish("run the kernel");
}

Status CudaBackend::dispatch(const Instruction &instruction) {
  const auto tokens = static_cast<int64_t>(now_->input->batch->tokens.size());
  if (now_->stages && now_->stages->covers(instruction.index, tokens)) {
    listed_ = {}; // it may write routes
    return now_->stages->launch(
        instruction.index, tokens,
        {now_->device.blockTables, plan_.kv()->blocks_per_sequence(), now_->device.sequenceOf, now_->device.positions},
        stream_);
  }
  if (const auto found = fusions_.find(instruction.id); found != fusions_.end())
    return execute(*found->second);
  return compute(instruction);
}

Status CudaBackend::compute(const Instruction &instruction) {
  cudaError_t error = cudaErrorInvalidValue;
  switch (instruction.op) {
  case plan::Op::Embedding: {
    const auto &o = instruction.as<plan::Embedding>();
    const View y = buffer(o.out());
    error =
        cuda::embedding(now_->device.tokens + y.first, y.rows, matrix(o.weight(), y.width), o.first_row(), y, stream_);
    break;
  }
  case plan::Op::RmsNorm: {
    const auto &o = instruction.as<plan::RmsNorm>();
    const View x = buffer(o.input()), y = buffer(o.out());
    const auto width = static_cast<int64_t>(plan_.weights()->Get(o.weight())->bytes() / sizeof(float));
    const cuda::In factors{weight(o.weight()), cuda::Type::F32};
    if (o.squares() >= 0) {
      const View sums = buffer(static_cast<uint32_t>(o.squares()));
      const cuda::Squares squares{reinterpret_cast<const float *>(sums.data) + o.column(), sums.width, o.elements()};
      error = cuda::rmsNormOfParts(x, squares, factors, o.eps(), width, x.rows, y, stream_, o.weight_offset());
      break;
    }
    error = cuda::rmsNorm(x, factors, o.eps(), width, x.elements() / width, y, stream_, o.weight_offset());
    break;
  }
  case plan::Op::Linear: {
    const auto &o = instruction.as<plan::Linear>();
    const View x = buffer(o.input()), y = buffer(o.out());
    const float *bias = this->bias(o.bias());
    const cuda::Matrix w = matrix(o.weight(), x.width);
    if (!bias && cuda::MatrixProduct::suits(x, x.rows, w))
      return product_.run(x, x.rows, w, false, y);
    if (suitsProduct(x, w, bias) && y.dtype == x.dtype && y.width % 8 == 0) {
      const cuda::ProductPart part{y.data, bias, y.width};
      error = cuda::product(x, x.rows, w, &part, 1, {}, stream_);
      break;
    }
    error = cuda::linear(x, x.rows, w, {bias, cuda::Type::F32}, y, y.width, stream_);
    break;
  }
  case plan::Op::Rope: {
    const auto &o = instruction.as<plan::Rope>();
    const View x = buffer(o.input()), y = buffer(o.out());
    const int64_t rotated = 2 * frequencies(*plan_.rope_tables()->Get(o.table()));
    error = cuda::rope(x, ropeRows(o.table()) + x.first, ropeTable(o.table()), o.heads(), o.head_dim(), rotated,
                       ropeStyleOf(o.style()), x.rows, y, stream_);
    break;
  }
  case plan::Op::LayerNorm: {
    const auto &o = instruction.as<plan::LayerNorm>();
    const View x = buffer(o.input()), y = buffer(o.out());
    error = cuda::layerNorm(x, {weight(o.weight()), cuda::Type::F32}, {bias(o.bias()), cuda::Type::F32}, o.eps(),
                            x.width, x.rows, y, stream_);
    break;
  }
  case plan::Op::PositionEmbedding: {
    const auto &o = instruction.as<plan::PositionEmbedding>();
    const View x = buffer(o.input()), y = buffer(o.out());
    error =
        cuda::positionEmbedding(x, now_->device.positions + x.first, x.rows, matrix(o.weight(), y.width), y, stream_);
    break;
  }
  case plan::Op::Activate: {
    const auto &o = instruction.as<plan::Activate>();
    const View x = buffer(o.input()), y = buffer(o.out());
    error = cuda::glu(x, {nullptr, cuda::Type::F32}, activationOf(o.activation()), y.elements(), y, stream_);
    break;
  }
  case plan::Op::KvAppend: {
    const auto &o = instruction.as<plan::KvAppend>();
    const View k = buffer(o.k()), v = buffer(o.v());
    error = cuda::kvAppend(k, v, k.rows, cache(o.cache()), batch(k), stream_);
    break;
  }
  case plan::Op::Attention: {
    const auto &o = instruction.as<plan::Attention>();
    const View q = buffer(o.q()), y = buffer(o.out());
    const bool isDecode = now_->program->regime() == plan::Regime::Decode;
    const cuda::AttentionParams params{o.heads(), o.scale(), o.window(), o.soft_cap(), isDecode ? 8 : 1};
    if (isDecode && cuda::decodeAttentionSuits(typeOf(q.dtype), cache(o.cache())))
      error = cuda::decodeAttention(q, q.rows, cache(o.cache()), params, batch(q), sms_, y, stream_);
    else if (!isDecode && cuda::attentionPrefillSuits(q, cache(o.cache()), params, y))
      error = cuda::attentionPrefill(q, q.rows, cache(o.cache()), params, batch(q), y, stream_);
    else
      error = cuda::attention(q, q.rows, cache(o.cache()), params, batch(q), y, stream_);
    break;
  }
  case plan::Op::Add: {
    const auto &o = instruction.as<plan::Add>();
    const View y = buffer(o.out());
    error = cuda::add(buffer(o.a()), buffer(o.b()), y.elements(), y, stream_);
    break;
  }
  case plan::Op::Scale: {
    const auto &o = instruction.as<plan::Scale>();
    const View y = buffer(o.out());
    error = cuda::scale(buffer(o.input()), o.factor(), y.elements(), y, stream_);
    break;
  }
  case plan::Op::SoftCap: {
    const auto &o = instruction.as<plan::SoftCap>();
    const View y = buffer(o.out());
    error = cuda::softCap(buffer(o.input()), o.cap(), y.elements(), y, stream_);
    break;
  }
  case plan::Op::SquareSum: {
    const auto &o = instruction.as<plan::SquareSum>();
    const View y = buffer(o.out());
    error = cudaSuccess;
    for (int64_t column = 0; column < y.width && error == cudaSuccess; ++column) {
      const View x = buffer(column == 0 ? o.a() : static_cast<uint32_t>(o.b()));
      error = cuda::squareSum(x, x.width, x.rows, reinterpret_cast<float *>(y.data) + column, y.width, stream_);
    }
    break;
  }
  case plan::Op::Glu: {
    const auto &o = instruction.as<plan::Glu>();
    const View y = buffer(o.out());
    error = cuda::glu(buffer(o.gate()), buffer(o.up()), activationOf(o.activation()), y.elements(), y, stream_);
    break;
  }
  case plan::Op::SelectRows: {
    const auto &o = instruction.as<plan::SelectRows>();
    const View x = buffer(o.input()), y = buffer(o.out());
    error = cuda::selectRows(x.data, x.width * static_cast<int64_t>(dtypeBytes(x.dtype)),
                             now_->device.outputs + y.first, y.rows, y.data, stream_);
    break;
  }
  case plan::Op::TopCandidates: {
    const auto &o = instruction.as<plan::TopCandidates>();
    const View x = buffer(o.logits()), y = buffer(o.out());
    error = cuda::topCandidates(reinterpret_cast<const float *>(x.data), x.rows, x.width, o.valid(), o.first_id(),
                                o.count(), now_->device.sampling + x.first, reinterpret_cast<float *>(y.data), stream_,
                                now_->stages ? now_->stages->best(o.logits()) : nullptr,
                                now_->stages ? now_->stages->sms() : 0);
    break;
  }
  case plan::Op::Sample: {
    const auto &o = instruction.as<plan::Sample>();
    const View x = buffer(o.candidates()), y = buffer(o.out());
    error = cuda::sample(reinterpret_cast<const float *>(x.data), o.shards(), y.rows, o.count(),
                         now_->device.sampling + y.first, reinterpret_cast<int32_t *>(y.data), stream_);
    break;
  }
  case plan::Op::Route: {
    const auto &o = instruction.as<plan::Route>();
    const View x = buffer(o.logits()), y = buffer(o.out());
    error = cuda::route(reinterpret_cast<const float *>(x.data), y.rows, x.width, o.count(), o.normalize(),
                        reinterpret_cast<float *>(y.data), stream_);
    listed_ = {};
    break;
  }
  case plan::Op::ExpertLinear:
    return multiplyExperts(instruction.as<plan::ExpertLinear>());
  case plan::Op::Combine: {
    const auto &o = instruction.as<plan::Combine>();
    const View x = buffer(o.input()), routes = buffer(o.routes()), y = buffer(o.out());
    error = cuda::combine(x, reinterpret_cast<const float *>(routes.data), y.rows, routes.width / 2, y.width, {}, y,
                          stream_);
    break;
  }
  default:
    break;
  }
  return cuda::check(error, "launch the kernel");
}

template <typename Operands> CommCall CudaBackend::call(const Instruction &instruction) const {
  const auto &o = instruction.as<Operands>();
  return {o.group(), now_->input->step, o.sequence(), instruction.id, instruction.label, queues_.stream(instruction)};
}

Status CudaBackend::communicate(const Instruction &instruction) {
  auto count = [](const View &view) { return static_cast<size_t>(view.elements()); };
  switch (instruction.op) {
  case plan::Op::AllReduce: {
    const auto &o = instruction.as<plan::AllReduce>();
    const View x = buffer(o.input()), y = buffer(o.out());
    return communicator_.allReduce(call<plan::AllReduce>(instruction), x.data, y.data, count(x), x.dtype, o.op());
  }
  case plan::Op::AllGather: {
    const auto &o = instruction.as<plan::AllGather>();
    const View x = buffer(o.input()), y = buffer(o.out());
    return communicator_.allGather(call<plan::AllGather>(instruction), x.data, count(x), y.data, count(y), x.dtype);
  }
  case plan::Op::ReduceScatter: {
    const auto &o = instruction.as<plan::ReduceScatter>();
    const View x = buffer(o.input()), y = buffer(o.out());
    return communicator_.reduceScatter(call<plan::ReduceScatter>(instruction), x.data, count(x), y.data, count(y),
                                       x.dtype, o.op());
  }
  case plan::Op::Send: {
    const auto &o = instruction.as<plan::Send>();
    const View x = buffer(o.input());
    return communicator_.send(call<plan::Send>(instruction), o.peer(), x.data, count(x), x.dtype);
  }
  default: {
    const auto &o = instruction.as<plan::Recv>();
    const View y = buffer(o.out());
    return communicator_.recv(call<plan::Recv>(instruction), o.peer(), y.data, count(y), y.dtype);
  }
  }
}

Status CudaBackend::emitIds(const Instruction &instruction) {
  const View ids = buffer(instruction.as<plan::EmitIds>().input());
  if (plan_.mesh()->rank() != 0 || ids.rows == 0)
    return {};
  return copySmall(ids.data, reinterpret_cast<int32_t *>(ids_.data()) + now_->slot * maxOutputs_ + ids.first,
                   static_cast<size_t>(ids.rows) * sizeof(int32_t), "read the ids");
}

Status CudaBackend::emitLogits(const Instruction &instruction) {
  const auto &o = instruction.as<plan::EmitLogits>();
  const View logits = buffer(o.input());
  if (!now_->output->logits || logits.rows == 0 || o.valid() == 0)
    return {};
  const size_t vocabulary = now_->output->vocabulary;
  if (uint64_t(o.first_column()) + o.valid() > vocabulary || o.valid() > logits.width)
    return internal("columns [" + std::to_string(o.first_column()) + ", +" + std::to_string(o.valid()) +
                    ") are not in the vocabulary of " + std::to_string(vocabulary) + "; compile the model again");
  DISTC_TRY(finish("run the step")); // a copy to memory that is not pinned waits for it
  float *to = now_->output->logits + static_cast<size_t>(logits.first) * vocabulary + o.first_column();
  return cuda::check(cudaMemcpy2DAsync(to, vocabulary * sizeof(float), logits.data,
                                       static_cast<size_t>(logits.width) * sizeof(float), o.valid() * sizeof(float),
                                       static_cast<size_t>(logits.rows), cudaMemcpyDeviceToHost, stream_),
                     "read the logits");
}

} // namespace distc
