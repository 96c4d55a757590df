// Plans for tests, put together by hand: one PlanBuilder per rank.
#pragma once

#include "Checkpoint.h"

#include <algorithm>

namespace distc::test {

/// How a weight takes part of a tensor in one dimension.
struct Slice {
  uint64_t begin, count;
};
using Slices = std::vector<std::vector<Slice>>; // per dimension, in order

struct BufferSpec {
  plan::RowUnit rows = plan::RowUnit::Tokens;
  plan::DType dtype = plan::DType::F32;
  uint16_t times = 1, shards = 1, chunk = 0, chunks = 1;
  int32_t parent = -1;
};

class PlanBuilder {
public:
  plan::PlanT plan;

  PlanBuilder(const Checkpoint &checkpoint, const std::string &file, uint32_t tp, uint32_t pp, uint32_t rank) {
    plan.producer = "test";
    plan.target = "cpu";
    plan.model = std::make_unique<plan::ModelInfoT>();
    plan.model->name = plan.model->family = "tiny";
    plan.mesh = std::make_unique<plan::MeshT>();
    plan.mesh->tp = tp;
    plan.mesh->pp = pp;
    plan.mesh->rank = rank;
    plan.mesh->stage = rank / tp;
    plan.mesh->tp_index = rank % tp;
    plan.limits = std::make_unique<plan::LimitsT>();
    plan.ledger = std::make_unique<plan::LedgerT>();
    plan.kv = std::make_unique<plan::KvPoolT>();
    auto group = std::make_unique<plan::GroupT>();
    group->name = "tp";
    for (uint32_t i = 0; i < tp; ++i)
      group->ranks.push_back(rank / tp * tp + i);
    plan.groups.push_back(std::move(group));
    group = std::make_unique<plan::GroupT>();
    group->name = "pp";
    for (uint32_t s = 0; s < pp; ++s)
      group->ranks.push_back(s * tp + rank % tp);
    plan.groups.push_back(std::move(group));
    plan.files.push_back(std::make_unique<plan::SourceFileT>(checkpoint.file(file)));
    for (const plan::SourceTensorT &tensor : checkpoint.tensors()) {
      plan.tensors.push_back(std::make_unique<plan::SourceTensorT>(tensor));
      uint64_t elements = 1;
      for (uint64_t extent : tensor.shape)
        elements *= extent;
      plan.model->parameters += elements;
    }
  }

  /// A weight of one source: `slices` of the tensor read as `view` (the tensor's shape where empty).
  uint32_t weight(uint32_t tensor, plan::DType dtype, const Slices &slices,
                  plan::Placement placement = plan::Placement::Load, std::vector<uint64_t> view = {}) {
    const plan::SourceTensorT &source = *plan.tensors[tensor];
    if (view.empty())
      view = source.shape;
    auto weight = std::make_unique<plan::WeightT>();
    weight->name = source.name;
    weight->dtype = dtype;
    weight->placement = placement;
    weight->row_stride = 1;
    uint64_t elements = 1;
    for (size_t d = 0; d < slices.size(); ++d) {
      uint64_t count = 0;
      for (const Slice &slice : slices[d])
        count += slice.count;
      weight->shape.push_back(count);
      elements *= count;
      if (d > 0)
        weight->row_stride *= placement == plan::Placement::Map ? view[d] : count;
    }
    addSource(*weight, tensor, slices, view);
    weight->bytes = bytesOf(dtype, elements);
    return place(std::move(weight));
  }
  /// The whole tensor, on every rank.
  uint32_t weight(uint32_t tensor, plan::DType dtype, plan::Placement placement = plan::Placement::Load) {
    Slices slices;
    for (uint64_t d : plan.tensors[tensor]->shape)
      slices.push_back({{0, d}});
    const uint32_t index = weight(tensor, dtype, slices, placement);
    plan.weights[index]->copies = plan.mesh->tp;
    return index;
  }

  static void addSource(plan::WeightT &weight, uint32_t tensor, const Slices &slices, std::vector<uint64_t> view,
                        uint8_t transposed = 0) {
    auto source = std::make_unique<plan::WeightSourceT>();
    source->tensor = tensor;
    source->transposed = transposed;
    source->view = std::move(view);
    for (const auto &dim : slices) {
      auto out = std::make_unique<plan::DimSliceT>();
      for (const Slice &slice : dim)
        out->segments.emplace_back(slice.begin, slice.count);
      source->dims.push_back(std::move(out));
    }
    weight.sources.push_back(std::move(source));
  }

  uint32_t place(std::unique_ptr<plan::WeightT> weight) {
    uint64_t &loaded = plan.ledger->weights_loaded;
    if (weight->placement == plan::Placement::Load) {
      weight->offset = loaded;
      loaded += align(weight->bytes);
    } else {
      plan.ledger->weights_mapped += weight->bytes;
    }
    plan.weights.push_back(std::move(weight));
    return static_cast<uint32_t>(plan.weights.size()) - 1;
  }

  uint32_t cache(uint32_t layer, uint32_t heads, uint32_t headDim, plan::DType dtype = plan::DType::F32) {
    auto cache = std::make_unique<plan::KvCacheT>();
    cache->layer = layer;
    cache->heads = heads;
    cache->head_dim = headDim;
    cache->dtype = dtype;
    cache->offset = plan.ledger->kv;
    cache->bytes = uint64_t(plan.kv->blocks) * 2 * heads * plan.kv->block_tokens * headDim * dtypeBytes(dtype);
    plan.ledger->kv += align(cache->bytes);
    plan.kv->caches.push_back(std::move(cache));
    return static_cast<uint32_t>(plan.kv->caches.size()) - 1;
  }

  void beginProgram(plan::Regime regime, uint32_t tokens, uint32_t sequences, uint32_t outputs) {
    program_ = plan.programs.emplace_back(std::make_unique<plan::ProgramT>()).get();
    program_->regime = regime;
    program_->max_tokens = tokens;
    program_->max_sequences = sequences;
    program_->max_outputs = outputs;
    last_[0] = last_[1] = -1;
    sequences_.clear();
  }

  uint32_t buffer(uint32_t width, const BufferSpec &spec = {}) {
    auto ceil = [](uint64_t a, uint64_t b) { return (a + b - 1) / b; };
    uint64_t rows = spec.rows == plan::RowUnit::Tokens    ? program_->max_tokens
                    : spec.rows == plan::RowUnit::Outputs ? program_->max_outputs
                                                          : 1;
    rows = ceil(ceil(rows * spec.times, spec.shards), spec.chunks);
    const uint64_t bytes = rows * width * dtypeBytes(spec.dtype);
    const uint64_t offset = spec.parent < 0 ? program_->arena_bytes : 0;
    if (spec.parent < 0)
      program_->arena_bytes += align(bytes);
    program_->buffers.emplace_back(offset, bytes, width, spec.parent, spec.times, spec.shards, spec.chunk, spec.chunks,
                                   spec.rows, spec.dtype);
    auto value = std::make_unique<plan::ValueInfoT>();
    value->name = "b" + std::to_string(program_->buffers.size() - 1);
    program_->values.push_back(std::move(value));
    return static_cast<uint32_t>(program_->buffers.size()) - 1;
  }

  /// Adds an instruction. Communication is on queue 1; an instruction waits for the last one of the other queue.
  template <typename Operands> Operands &add(const std::string &label) {
    const plan::Op kind = plan::OpUnionTraits<Operands>::enum_value;
    auto instruction = std::make_unique<plan::InstructionT>();
    instruction->id = nextId_++;
    instruction->queue = kind >= plan::Op::AllReduce && kind <= plan::Op::Recv ? 1 : 0;
    program_->queues = std::max<uint8_t>(program_->queues, instruction->queue + 1);
    const int other = last_[1 - instruction->queue];
    if (other >= 0) {
      int32_t &signal = program_->instructions[other]->signal;
      if (signal < 0)
        signal = static_cast<int32_t>(program_->events++);
      instruction->waits.push_back(static_cast<uint32_t>(signal));
    }
    last_[instruction->queue] = static_cast<int>(program_->instructions.size());
    instruction->op.Set(Operands());
    auto &operands = *static_cast<Operands *>(instruction->op.value);
    program_->instructions.push_back(std::move(instruction));
    program_->labels.push_back(label);
    return operands;
  }

  uint32_t nextSequence(uint32_t group, int peer = -1, bool sends = false) {
    return sequences_[{group, peer, sends}]++;
  }

  /// A send to, and a recv from, another stage: `peer` is its place in the pipeline's group.
  void send(const std::string &label, uint32_t peer, uint32_t buffer) {
    auto &op = add<plan::SendT>(label);
    op.group = 1;
    op.peer = peer;
    op.sequence = nextSequence(1, static_cast<int>(peer), true);
    op.input = buffer;
  }
  uint32_t recv(const std::string &label, uint32_t peer, uint32_t buffer) {
    auto &op = add<plan::RecvT>(label);
    op.group = 1;
    op.peer = peer;
    op.sequence = nextSequence(1, static_cast<int>(peer), false);
    return op.out = buffer;
  }

  const plan::ProgramT &program() const { return *program_; }

  plan::PlanT &finish() {
    for (const auto &program : plan.programs)
      plan.ledger->arena = std::max(plan.ledger->arena, program->arena_bytes * program->micro_batches);
    for (const auto &table : plan.rope_tables)
      plan.ledger->tables += uint64_t(plan.limits->max_sequence) * table->inv_freq.size() * 2 * 4;
    return plan;
  }

private:
  static uint64_t align(uint64_t bytes) { return (bytes + 255) / 256 * 256; }

  plan::ProgramT *program_ = nullptr;
  uint32_t nextId_ = 0;
  int last_[2] = {-1, -1};
  std::map<std::tuple<uint32_t, int, bool>, uint32_t> sequences_;
};

/// Writes the files of a plan set, framed and hashed.
inline void writePlanSet(const std::string &folder, const std::vector<const plan::PlanT *> &plans) {
  std::vector<std::vector<uint8_t>> payloads;
  for (const plan::PlanT *plan : plans)
    payloads.push_back(packPayload(*plan));
  const uint64_t hash = planSetHash(payloads);
  for (uint32_t rank = 0; rank < payloads.size(); ++rank) {
    const std::vector<uint8_t> file = framePayload(payloads[rank], hash);
    std::ofstream out(std::filesystem::path(folder) / planFileName(rank), std::ios::binary);
    out.write(reinterpret_cast<const char *>(file.data()), static_cast<std::streamsize>(file.size()));
  }
}

} // namespace distc::test
