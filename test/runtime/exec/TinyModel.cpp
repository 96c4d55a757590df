#include "TinyModel.h"

#include <cmath>

namespace distc::test {

using plan::DType;

// The plan of one rank.
class TinyModel::RankPlan {
public:
  RankPlan(const TinyModel &model, PlanBuilder &builder) : m_(model), o_(model.options_), b_(builder) {
    plan::PlanT &plan = b_.plan;
    plan.target = o_.target;
    plan::MeshT &mesh = *plan.mesh;
    mesh.layers = kLayers / o_.pp;
    mesh.first_layer = mesh.stage * mesh.layers;
    plan.model->vocabulary = kVocabulary;
    plan.model->hidden = kHidden;
    plan.model->layers = kLayers;
    plan.model->context = 64;
    for (const auto &tensor : plan.tensors)
      if (o_.withoutFiles)
        tensor->file = -1;
    if (o_.withoutFiles)
      plan.files.clear();
    *plan.limits = {};
    plan.limits->max_batch = kMaxBatch;
    plan.limits->max_tokens = kMaxTokens;
    plan.limits->max_sequence = kMaxSequence;
    plan.limits->kv_block = kBlockTokens;
    plan.kv->block_tokens = kBlockTokens;
    plan.kv->blocks = static_cast<uint32_t>(o_.kvBlocks);
    plan.kv->blocks_per_sequence = kBlocksPerSequence;
    auto table = std::make_unique<plan::RopeTableT>();
    for (uint32_t i = 0; i < kHeadDim / 2; ++i)
      table->inv_freq.push_back(std::pow(10000.0, -2.0 * i / kHeadDim));
    plan.rope_tables.push_back(std::move(table));
    tp_ = o_.tp;
    index_ = mesh.tp_index;
    first_ = mesh.stage == 0;
    last_ = mesh.stage + 1 == o_.pp;
    padded_ = (kVocabulary + tp_ - 1) / tp_;
    makeWeights();
    program(plan::Regime::Prefill, kMaxTokens, kMaxBatch, kMaxBatch);
    program(plan::Regime::Decode, kMaxBatch, kMaxBatch, kMaxBatch);
    program(plan::Regime::Decode, 1, 1, 1);
    b_.finish();
  }

private:
  // Rows or columns `index_` of tp_ equal parts.
  uint32_t split(uint32_t tensor, uint32_t dim) {
    Slices slices;
    const auto &shape = b_.plan.tensors[tensor]->shape;
    for (uint32_t d = 0; d < shape.size(); ++d)
      slices.push_back({d == dim ? Slice{index_ * (shape[d] / tp_), shape[d] / tp_} : Slice{0, shape[d]}});
    const bool stays =
        !isQuantized(o_.weights) || (o_.target == "cpu" && slices[1][0].count % dtypeBlock(o_.weights) == 0);
    return b_.weight(tensor, stays ? o_.weights : DType::F32, slices,
                     o_.mapped && stays && o_.target == "cpu" ? plan::Placement::Map : plan::Placement::Load);
  }

  // Rows of the vocabulary, zeros beyond it.
  uint32_t vocabulary(uint32_t tensor) {
    const uint64_t begin = std::min(kVocabulary, index_ * padded_), count = valid();
    std::vector<Slice> rows = {{begin, count}};
    if (count < padded_)
      rows.push_back({kZeroFill, padded_ - count});
    return b_.weight(tensor, DType::F32, {rows, {{0, kHidden}}});
  }
  uint32_t valid() const {
    return std::min(kVocabulary, (index_ + 1) * padded_) - std::min(kVocabulary, index_ * padded_);
  }

  void makeWeights() {
    if (first_)
      embed_ = vocabulary(m_.embed_);
    for (uint32_t l = 0; l < b_.plan.mesh->layers; ++l) {
      const Layer &t = m_.layers_[b_.plan.mesh->first_layer + l];
      RankLayer &w = layers_[l];
      w.norm1 = b_.weight(t.norm1, DType::F32);
      w.q = split(t.q, 0);
      w.k = split(t.k, 0);
      w.v = split(t.v, 0);
      w.qBias = -1;
      if (o_.bias)
        w.qBias = static_cast<int32_t>(b_.weight(t.qBias, DType::F32, {{{index_ * (kHidden / tp_), kHidden / tp_}}}));
      w.o = split(t.o, 1);
      w.norm2 = b_.weight(t.norm2, DType::F32);
      w.gate = split(t.gate, 0);
      w.up = split(t.up, 0);
      w.down = split(t.down, 1);
      w.cache = b_.cache(b_.plan.mesh->first_layer + l, kKvHeads / tp_, kHeadDim);
    }
    if (last_) {
      finalNorm_ = b_.weight(m_.finalNorm_, DType::F32);
      head_ = vocabulary(m_.head_);
    }
  }

  uint32_t linear(const std::string &label, uint32_t input, uint32_t weight, uint32_t out, int32_t bias = -1) {
    auto &op = b_.add<plan::LinearT>(label);
    op.input = input;
    op.weight = weight;
    op.out = out;
    op.bias = bias;
    return out;
  }

  uint32_t norm(const std::string &label, uint32_t input, uint32_t weight, uint32_t out) {
    auto &op = b_.add<plan::RmsNormT>(label);
    op.input = input;
    op.weight = weight;
    op.out = out;
    op.eps = kEps;
    return out;
  }

  uint32_t allReduce(const std::string &label, uint32_t buffer) {
    if (tp_ == 1)
      return buffer;
    auto &op = b_.add<plan::AllReduceT>(label);
    op.sequence = b_.nextSequence(0);
    op.input = op.out = buffer;
    return buffer;
  }

  uint32_t add(const std::string &label, uint32_t a, uint32_t b) {
    const uint32_t out = b_.buffer(kHidden);
    auto &op = b_.add<plan::AddT>(label);
    op.a = a;
    op.b = b;
    op.out = out;
    return out;
  }

  uint32_t rope(const std::string &label, uint32_t input, uint32_t heads) {
    auto &op = b_.add<plan::RopeT>(label);
    op.input = op.out = input;
    op.heads = heads;
    op.head_dim = kHeadDim;
    op.style = o_.style;
    return input;
  }

  // The chunks of `parent`, or the parent itself where the model is not chunked.
  std::vector<uint32_t> chunksOf(uint32_t parent, uint32_t width, plan::RowUnit rows = plan::RowUnit::Tokens) {
    if (!o_.chunked)
      return {parent};
    std::vector<uint32_t> chunks;
    for (uint16_t c = 0; c < kChunks; ++c)
      chunks.push_back(
          b_.buffer(width, {.rows = rows, .chunk = c, .chunks = kChunks, .parent = static_cast<int32_t>(parent)}));
    return chunks;
  }
  // Memory of its own for chunk `c`.
  uint32_t chunkBuffer(uint32_t width, size_t c, plan::RowUnit rows = plan::RowUnit::Tokens) {
    return b_.buffer(
        width,
        {.rows = rows, .chunk = static_cast<uint16_t>(c), .chunks = static_cast<uint16_t>(o_.chunked ? kChunks : 1)});
  }

  // A chunk's tokens follow those of the chunks before it, so their keys are in the cache by then.
  uint32_t attention(const std::string &label, uint32_t x, const RankLayer &w) {
    const uint32_t heads = kHeads / tp_, kvHeads = kKvHeads / tp_, result = b_.buffer(kHidden);
    const std::vector<uint32_t> in = chunksOf(x, kHidden), results = chunksOf(result, kHidden);
    for (size_t c = 0; c < in.size(); ++c) {
      const uint32_t q = linear(label + ".q", in[c], w.q, chunkBuffer(heads * kHeadDim, c), w.qBias);
      const uint32_t k = linear(label + ".k", in[c], w.k, chunkBuffer(kvHeads * kHeadDim, c));
      const uint32_t v = linear(label + ".v", in[c], w.v, chunkBuffer(kvHeads * kHeadDim, c));
      rope(label + ".q.rope", q, heads);
      rope(label + ".k.rope", k, kvHeads);
      auto &append = b_.add<plan::KvAppendT>(label + ".append");
      append.k = k;
      append.v = v;
      append.cache = w.cache;
      const uint32_t out = chunkBuffer(heads * kHeadDim, c);
      auto &op = b_.add<plan::AttentionT>(label);
      op.q = q;
      op.out = out;
      op.cache = w.cache;
      op.heads = heads;
      op.scale = 1 / std::sqrt(float(kHeadDim));
      op.window = o_.window;
      op.soft_cap = o_.softCap;
      allReduce(label + ".reduce", linear(label + ".o", out, w.o, results[c]));
    }
    return result;
  }

  uint32_t feedForward(const std::string &label, uint32_t x, const RankLayer &w) {
    const uint32_t down = b_.buffer(kHidden);
    const std::vector<uint32_t> in = chunksOf(x, kHidden), results = chunksOf(down, kHidden);
    for (size_t c = 0; c < in.size(); ++c) {
      const uint32_t gate = linear(label + ".gate", in[c], w.gate, chunkBuffer(kFfn / tp_, c));
      const uint32_t up = linear(label + ".up", in[c], w.up, chunkBuffer(kFfn / tp_, c));
      auto &glu = b_.add<plan::GluT>(label + ".glu");
      glu.gate = glu.out = gate;
      glu.up = up;
      glu.activation = o_.activation;
      linear(label + ".down", gate, w.down, results[c]);
      if (!o_.scattered)
        allReduce(label + ".reduce", results[c]);
    }
    if (!o_.scattered || tp_ == 1)
      return down;
    const uint32_t part = b_.buffer(kHidden, {.shards = static_cast<uint16_t>(tp_)}), out = b_.buffer(kHidden);
    auto &scatter = b_.add<plan::ReduceScatterT>(label + ".scatter");
    scatter.sequence = b_.nextSequence(0);
    scatter.input = down;
    scatter.out = part;
    auto &gather = b_.add<plan::AllGatherT>(label + ".gather");
    gather.sequence = b_.nextSequence(0);
    gather.input = part;
    gather.out = out;
    return out;
  }

  void program(plan::Regime regime, uint32_t tokens, uint32_t sequences, uint32_t outputs) {
    b_.beginProgram(regime, tokens, sequences, outputs);
    b_.plan.programs.back()->micro_batches = o_.microBatches;
    const uint32_t stage = b_.plan.mesh->stage;
    uint32_t x = b_.buffer(kHidden);
    if (first_) {
      for (uint32_t chunk : chunksOf(x, kHidden)) {
        auto &op = b_.add<plan::EmbeddingT>("embed");
        op.weight = embed_;
        op.out = chunk;
        op.first_row = std::min(kVocabulary, index_ * padded_);
      }
      allReduce("embed.reduce", x);
    } else {
      b_.recv("boundary", stage - 1, x);
    }
    for (uint32_t l = 0; l < b_.plan.mesh->layers; ++l) {
      const RankLayer &w = layers_[l];
      const std::string label = "layers." + std::to_string(b_.plan.mesh->first_layer + l) + ".";
      x = add(label + "add1", x,
              attention(label + "attention", norm(label + "norm1", x, w.norm1, b_.buffer(kHidden)), w));
      x = add(label + "add2", x, feedForward(label + "ffn", norm(label + "norm2", x, w.norm2, b_.buffer(kHidden)), w));
    }
    const BufferSpec ids{.rows = plan::RowUnit::Outputs, .dtype = DType::I32};
    if (!last_) {
      b_.send("boundary", stage + 1, x);
      if (first_)
        emitIds(b_.recv("ids", o_.pp - 1, b_.buffer(1, ids)));
      return;
    }
    sample(x, b_.buffer(1, ids), stage);
  }

  void sample(uint32_t x, uint32_t out, uint32_t stage) {
    const auto outputs = plan::RowUnit::Outputs;
    const uint32_t width = (kCandidates + 2) * 2, first = std::min(kVocabulary, index_ * padded_);
    uint32_t candidates = b_.buffer(width, {.rows = outputs});
    const std::vector<uint32_t> chunks = chunksOf(candidates, width, outputs);
    for (size_t c = 0; c < chunks.size(); ++c) {
      const uint32_t rows = chunkBuffer(kHidden, c, outputs), logits = chunkBuffer(padded_, c, outputs);
      auto &select = b_.add<plan::SelectRowsT>("select");
      select.input = x;
      select.out = rows;
      norm("norm", rows, finalNorm_, rows);
      linear("head", rows, head_, logits);
      auto &emit = b_.add<plan::EmitLogitsT>("emit.logits");
      emit.input = logits;
      emit.first_column = first;
      emit.valid = valid();
      auto &top = b_.add<plan::TopCandidatesT>("candidates");
      top.logits = logits;
      top.out = chunks[c];
      top.first_id = first;
      top.valid = valid();
      top.count = kCandidates;
    }
    if (tp_ > 1) {
      const uint32_t all =
          b_.buffer((kCandidates + 2) * 2, {.rows = plan::RowUnit::Outputs, .times = static_cast<uint16_t>(tp_)});
      auto &gather = b_.add<plan::AllGatherT>("candidates.gather");
      gather.sequence = b_.nextSequence(0);
      gather.input = candidates;
      gather.out = candidates = all;
    }
    auto &op = b_.add<plan::SampleT>("sample");
    op.candidates = candidates;
    op.out = out;
    op.shards = tp_;
    op.count = kCandidates;
    if (stage == 0)
      emitIds(out);
    else
      b_.send("ids", 0, out);
  }

  void emitIds(uint32_t ids) { b_.add<plan::EmitIdsT>("emit.ids").input = ids; }

  static constexpr uint16_t kChunks = 3;

  const TinyModel &m_;
  const TinyOptions &o_;
  PlanBuilder &b_;
  uint32_t tp_, index_, padded_, embed_ = 0, finalNorm_ = 0, head_ = 0;
  bool first_, last_;
  RankLayer layers_[kLayers];
};

TinyModel::TinyModel(uint32_t seed, const TinyOptions &options) : options_(options), checkpoint_(seed) {
  auto matrix = [&](const std::string &name, uint32_t rows, uint32_t columns) {
    return checkpoint_.add(name, options.weights, {rows, columns}, 1 / std::sqrt(float(columns)));
  };
  embed_ = checkpoint_.add("embed", DType::BF16, {kVocabulary, kHidden});
  for (uint32_t l = 0; l < kLayers; ++l) {
    const std::string name = "layers." + std::to_string(l) + ".";
    Layer &t = layers_[l];
    t.norm1 = checkpoint_.add(name + "norm1", DType::F32, {kHidden}, .1f, 1);
    t.q = matrix(name + "q", kHidden, kHidden);
    t.k = matrix(name + "k", kKvHeads * kHeadDim, kHidden);
    t.v = matrix(name + "v", kKvHeads * kHeadDim, kHidden);
    if (options.bias)
      t.qBias = checkpoint_.add(name + "q.bias", DType::F32, {kHidden});
    t.o = matrix(name + "o", kHidden, kHidden);
    t.norm2 = checkpoint_.add(name + "norm2", DType::F32, {kHidden}, .1f, 1);
    t.gate = matrix(name + "gate", kFfn, kHidden);
    t.up = matrix(name + "up", kFfn, kHidden);
    t.down = matrix(name + "down", kHidden, kFfn);
  }
  finalNorm_ = checkpoint_.add("norm", DType::F32, {kHidden}, .1f, 1);
  head_ = checkpoint_.add("head", DType::F16, {kVocabulary, kHidden}, .5f);
  for (uint32_t rank = 0; rank < options.tp * options.pp; ++rank) {
    ranks_.push_back(std::make_unique<PlanBuilder>(checkpoint_, "model.bin", options.tp, options.pp, rank));
    RankPlan(*this, *ranks_.back());
  }
}

std::vector<plan::PlanT *> TinyModel::plans() {
  std::vector<plan::PlanT *> plans;
  for (const auto &rank : ranks_)
    plans.push_back(&rank->plan);
  return plans;
}

void TinyModel::write(const std::string &folder) {
  if (!options_.withoutFiles)
    checkpoint_.write((std::filesystem::path(folder) / "model.bin").string());
  const auto all = plans();
  writePlanSet(folder, {all.begin(), all.end()});
}

namespace {

using Row = std::vector<double>;

Row normalized(const Row &x, const std::vector<float> &weight) {
  double squares = 0;
  for (double v : x)
    squares += v * v;
  Row out(x.size());
  for (size_t i = 0; i < x.size(); ++i)
    out[i] = x[i] / std::sqrt(squares / double(x.size()) + TinyModel::kEps) * weight[i];
  return out;
}

Row times(const Row &x, const std::vector<float> &weight) {
  Row out(weight.size() / x.size());
  for (size_t n = 0; n < out.size(); ++n)
    for (size_t k = 0; k < x.size(); ++k)
      out[n] += x[k] * weight[n * x.size() + k];
  return out;
}

void rotate(Row &x, size_t position, plan::RopeStyle style) {
  constexpr size_t d = TinyModel::kHeadDim;
  for (size_t head = 0; head < x.size(); head += d)
    for (size_t i = 0; i < d / 2; ++i) {
      const bool half = style == plan::RopeStyle::Half;
      double &a = x[head + (half ? i : 2 * i)], &b = x[head + (half ? i + d / 2 : 2 * i + 1)];
      const double angle = double(position) * std::pow(10000.0, -2.0 * double(i) / d), a0 = a, b0 = b;
      a = a0 * std::cos(angle) - b0 * std::sin(angle);
      b = a0 * std::sin(angle) + b0 * std::cos(angle);
    }
}

double activate(double x, plan::Activation activation) {
  switch (activation) {
  case plan::Activation::Silu:
    return x / (1 + std::exp(-x));
  case plan::Activation::Gelu:
    return x / 2 * (1 + std::erf(x / std::sqrt(2)));
  case plan::Activation::GeluTanh:
    return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  case plan::Activation::Relu:
    break;
  }
  return std::max(x, 0.0);
}

} // namespace

std::vector<std::vector<double>> TinyModel::reference(const std::vector<int32_t> &tokens) const {
  const size_t n = tokens.size();
  auto weight = [&](uint32_t tensor) -> const std::vector<float> & { return checkpoint_.values(tensor); };
  std::vector<Row> x(n);
  for (size_t t = 0; t < n; ++t)
    x[t].assign(weight(embed_).begin() + tokens[t] * kHidden, weight(embed_).begin() + (tokens[t] + 1) * kHidden);
  for (const Layer &layer : layers_) {
    std::vector<Row> q(n), k(n), v(n);
    for (size_t t = 0; t < n; ++t) {
      const Row in = normalized(x[t], weight(layer.norm1));
      q[t] = times(in, weight(layer.q));
      k[t] = times(in, weight(layer.k));
      v[t] = times(in, weight(layer.v));
      for (size_t i = 0; options_.bias && i < kHidden; ++i)
        q[t][i] += weight(layer.qBias)[i];
      rotate(q[t], t, options_.style);
      rotate(k[t], t, options_.style);
    }
    for (size_t t = 0; t < n; ++t) {
      Row out(kHidden);
      for (size_t h = 0; h < kHeads; ++h) {
        const size_t kv = h / (kHeads / kKvHeads) * kHeadDim;
        const size_t begin = options_.window > 0 && t + 1 > options_.window ? t + 1 - options_.window : 0;
        double sum = 0;
        for (size_t p = begin; p <= t; ++p) {
          double score = 0;
          for (size_t i = 0; i < kHeadDim; ++i)
            score += q[t][h * kHeadDim + i] * k[p][kv + i];
          score /= std::sqrt(double(kHeadDim));
          if (options_.softCap > 0)
            score = options_.softCap * std::tanh(score / options_.softCap);
          sum += std::exp(score);
          for (size_t i = 0; i < kHeadDim; ++i)
            out[h * kHeadDim + i] += std::exp(score) * v[p][kv + i];
        }
        for (size_t i = 0; i < kHeadDim; ++i)
          out[h * kHeadDim + i] /= sum;
      }
      const Row projected = times(out, weight(layer.o));
      for (size_t i = 0; i < kHidden; ++i)
        x[t][i] += projected[i];
      const Row in = normalized(x[t], weight(layer.norm2)), up = times(in, weight(layer.up));
      Row gate = times(in, weight(layer.gate));
      for (size_t i = 0; i < kFfn; ++i)
        gate[i] = activate(gate[i], options_.activation) * up[i];
      const Row down = times(gate, weight(layer.down));
      for (size_t i = 0; i < kHidden; ++i)
        x[t][i] += down[i];
    }
  }
  for (Row &row : x)
    row = times(normalized(row, weight(finalNorm_)), weight(head_));
  return x;
}

} // namespace distc::test
