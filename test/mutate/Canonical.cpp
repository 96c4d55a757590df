#include "test/mutate/Canonical.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>

namespace distc::mutate {

namespace {

std::vector<uint8_t> bytesOf(const plan::InstructionT &it) {
  flatbuffers::FlatBufferBuilder builder;
  builder.ForceDefaults(true);
  builder.Finish(plan::Instruction::Pack(builder, &it));
  return {builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize()};
}

/// a + b is b + a; the same instruction twice writes the same twice, also a collective that is not in place.
void canonicalizeInstructions(plan::ProgramT &p) {
  for (auto &it : p.instructions) {
    it->id = 0;
    it->waits.clear();
    it->signal = -1;
    if (plan::AddT *add = it->op.AsAdd(); add && add->b < add->a)
      std::swap(add->a, add->b);
    if (plan::AllGatherT *gather = it->op.AsAllGather())
      gather->sequence = 0;
    if (plan::AllReduceT *reduce = it->op.AsAllReduce(); reduce && reduce->input != reduce->out)
      reduce->sequence = 0;
    if (plan::ReduceScatterT *reduce = it->op.AsReduceScatter())
      reduce->sequence = 0;
  }
  std::sort(p.instructions.begin(), p.instructions.end(),
            [](const auto &a, const auto &b) { return bytesOf(*a) < bytesOf(*b); });
  const auto same = [](const auto &a, const auto &b) { return bytesOf(*a) == bytesOf(*b); };
  p.instructions.erase(std::unique(p.instructions.begin(), p.instructions.end(), same), p.instructions.end());
}

/// Zeros beside zeros, and elements that follow each other, are one segment.
void joinSegments(std::vector<plan::Segment> &segments) {
  std::vector<plan::Segment> joined;
  for (const plan::Segment &segment : segments) {
    if (!joined.empty() &&
        segment.begin() ==
            (joined.back().begin() == kZeroFill ? kZeroFill : joined.back().begin() + joined.back().count()))
      joined.back() = {joined.back().begin(), joined.back().count() + segment.count()};
    else
      joined.push_back(segment);
  }
  segments = std::move(joined);
}

void canonicalize(plan::ProgramT &p) {
  p.values.clear();
  p.labels.clear();
  p.schedule.reset();
  p.events = 0;
  p.micro_batches = 1;
  p.max_tokens = p.max_sequences = p.max_outputs = 0;
  p.arena_bytes = 0;
  for (plan::Buffer &b : p.buffers) {
    const bool tokens = p.regime == plan::Regime::Decode && b.rows() == plan::RowUnit::Outputs; // there are as many
    // All of another buffer, in its shape, is no more than a place.
    const plan::Buffer *parent = b.parent() < 0 ? nullptr : &p.buffers[static_cast<size_t>(b.parent())];
    const bool place = parent && b.chunks() == 1 && b.times() == parent->times();
    b = plan::Buffer(0, 0, b.row_elements(), place ? -1 : b.parent(), b.times(), b.shards(), b.chunk(), b.chunks(),
                     tokens ? plan::RowUnit::Tokens : b.rows(), b.dtype());
  }
  canonicalizeInstructions(p);
}

} // namespace

std::vector<uint8_t> canonicalForm(const std::vector<uint8_t> &payload) {
  const std::unique_ptr<plan::PlanT> plan(planOf(payload).UnPack());
  plan->producer.clear();
  plan->passes.clear();
  plan::ModelInfoT &model = *plan->model;
  model.name.clear();
  model.family.clear();
  model.tokenizer.clear();
  *plan->ledger = {};
  plan->limits->max_batch = plan->limits->max_tokens = plan->limits->max_sequence = plan->kv->blocks = 0;
  std::map<int32_t, int32_t>
      places; // of files, in the order in which tensors come to them; others are not opened for a value
  std::vector<std::unique_ptr<plan::SourceFileT>> files;
  for (auto &tensor : plan->tensors) {
    // A weight has a view of its own of the elements.
    tensor->shape = {std::accumulate(tensor->shape.begin(), tensor->shape.end(), uint64_t(1), std::multiplies<>())};
    if (tensor->file >= 0) {
      const auto [place, isNew] = places.emplace(tensor->file, static_cast<int32_t>(files.size()));
      if (isNew)
        files.push_back(std::move(plan->files[static_cast<size_t>(tensor->file)]));
      tensor->file = place->second;
    }
  }
  plan->files = std::move(files);
  for (auto &weight : plan->weights) {
    weight->name.clear();
    weight->offset = 0;
    if (weight->placement == plan::Placement::Load) // dense: whoever uses it takes rows of its own width
      weight->shape = {weight->bytes};
    for (auto &source : weight->sources)
      for (auto &dim : source->dims)
        joinSegments(dim->segments);
    weight->init = plan::Init::Uniform;
    weight->init_scale = 1;
    if (weight->placement == plan::Placement::Load || weight->shape[0] == 1)
      weight->row_stride = 0;
  }
  for (auto &group : plan->groups)
    if (group->ranks.size() == 1) // nothing is exchanged there
      group->name.clear();
  for (auto &cache : plan->kv->caches)
    cache->offset = cache->bytes = 0;
  for (auto &program : plan->programs)
    canonicalize(*program);
  std::stable_sort(plan->programs.begin(), plan->programs.end(),
                   [](const auto &a, const auto &b) { return a->regime < b->regime; });
  return packPayload(*plan);
}

std::vector<uint8_t> formOfAnyModel(const std::vector<uint8_t> &payload) {
  const std::unique_ptr<plan::PlanT> plan(planOf(payload).UnPack());
  for (auto &tensor : plan->tensors) {
    tensor->name.clear();
    tensor->dtype = dtypeBytes(tensor->dtype) == 2 ? plan::DType::F16 : tensor->dtype;
  }
  std::sort(plan->tensors.begin(), plan->tensors.end(),
            [](const auto &a, const auto &b) { return std::pair(a->file, a->offset) < std::pair(b->file, b->offset); });
  for (auto &weight : plan->weights)
    for (auto &source : weight->sources)
      source->tensor = 0;
  for (auto &table : plan->rope_tables) {
    std::fill(table->inv_freq.begin(), table->inv_freq.end(), 0.0);
    table->magnitude = 1;
  }
  return canonicalForm(packPayload(*plan));
}

} // namespace distc::mutate
