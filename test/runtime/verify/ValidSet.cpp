#include "ValidSet.h"

namespace distc::test {

using plan::DType;

class ValidSet::RankPlan {
public:
  RankPlan(const ValidSet &set, PlanBuilder &builder)
      : set_(set), b_(builder), stage_(b_.plan.mesh->stage), index_(b_.plan.mesh->tp_index), last_(stage_ + 1 == kPp) {
    plan::PlanT &plan = b_.plan;
    plan.target = gpu() ? "sm_90" : "cpu";
    plan.mesh->layers = 1;
    plan.mesh->first_layer = stage_;
    plan.model->vocabulary = kVocabulary;
    plan.model->hidden = kHidden;
    plan.model->layers = kPp;
    plan.model->context = 32;
    *plan.limits = {};
    plan.limits->max_batch = kMaxBatch;
    plan.limits->max_tokens = kMaxTokens;
    plan.limits->max_sequence = 10;
    plan.limits->kv_block = 4;
    plan.kv->block_tokens = 4;
    plan.kv->blocks = 6;
    plan.kv->blocks_per_sequence = 3;
    auto table = std::make_unique<plan::RopeTableT>();
    table->inv_freq = {1, .01};
    plan.rope_tables.push_back(std::move(table));
    weights();
    program(plan::Regime::Prefill, kMaxTokens);
    program(plan::Regime::Decode, kMaxBatch);
    b_.finish();
  }

private:
  using Segments = std::vector<Slice>;

  bool gpu() const { return set_.type_ != DType::F32; }

  /// The rank's part of `size` indices in parts of `part`, the rest padding.
  Segments part(uint64_t size, uint64_t part) const {
    const uint64_t begin = index_ * part, held = std::min(size, begin + part) - begin;
    Segments segments = {{begin, held}};
    if (held < part)
      segments.push_back({kZeroFill, part - held});
    return segments;
  }
  uint32_t named(const std::string &name, uint32_t weight, uint32_t copies) {
    b_.plan.weights[weight]->name = name;
    b_.plan.weights[weight]->copies = copies;
    return weight;
  }
  uint32_t sliced(const std::string &name, uint32_t tensor, const Slices &slices, uint32_t copies,
                  std::vector<uint64_t> view = {}, plan::Placement placement = plan::Placement::Load) {
    const bool isMatrix = slices.size() > 1 && name != "q.all"; // the norm of all heads is a vector
    const DType dtype = isMatrix ? set_.type_ : DType::F32;
    return named(name, b_.weight(tensor, dtype, slices, placement, std::move(view)), copies);
  }

  /// The same part of every expert; without experts, of the one tensor.
  uint32_t stacked(const std::string &name, const std::vector<uint32_t> &tensors, Slices slices) {
    if (set_.experts_ == 0)
      return sliced(name, tensors[0], slices, 1);
    std::vector<uint64_t> view = b_.plan.tensors[tensors[0]]->shape;
    view.insert(view.begin(), 1);
    slices.insert(slices.begin(), Segments{{0, 1}});
    const uint32_t first = sliced(name, tensors[0], slices, 1, view);
    std::unique_ptr<plan::WeightT> weight = std::move(b_.plan.weights.back());
    b_.plan.weights.pop_back();
    b_.plan.ledger->weights_loaded = weight->offset;
    weight->shape[0] = tensors.size();
    weight->bytes *= tensors.size();
    for (size_t e = 1; e < tensors.size(); ++e)
      PlanBuilder::addSource(*weight, tensors[e], slices, view);
    b_.place(std::move(weight));
    return first;
  }

  void weights() {
    const Segments hidden = {{0, kHidden}}, headDim = {{0, kHeadDim}}, kv = {{0, 1}};
    if (stage_ == 0)
      embed_ = sliced("embed", set_.embed_, {part(kVocabulary, 7), hidden}, 1);
    norm1_ = named("norm1", b_.weight(set_.norm_[stage_][0], DType::F32), kTp);
    q_ = sliced("q", set_.q_[stage_], {part(kHeads, 2), headDim, hidden}, 1, {kHeads, kHeadDim, kHidden});
    qNorm_ = named("q.norm", b_.weight(set_.qNorm_[stage_], DType::F32), kTp);
    qAll_ = sliced("q.all", set_.qAll_[stage_], {part(kHeads, 2), headDim}, 1, {kHeads, kHeadDim});
    kAll_ = named("k.all", b_.weight(set_.kAll_[stage_], DType::F32), kTp);
    k_ = sliced("k", set_.kv_[stage_], {{{0, kHeadDim}}, hidden}, kTp);
    v_ = sliced("v", set_.kv_[stage_], {{{kHeadDim, kHeadDim}}, hidden}, kTp);
    o_ = sliced("o", set_.o_[stage_], {hidden, part(kHeads, 2), headDim}, 1, {kHidden, kHeads, kHeadDim});
    oBias_ = sliced("o.bias", set_.oBias_[stage_], {index_ == 0 ? hidden : Segments{{kZeroFill, kHidden}}}, 1);
    norm2_ = named("norm2", b_.weight(set_.norm_[stage_][1], DType::F32), kTp);
    if (set_.experts_ > 0)
      router_ = sliced("router", set_.router_[stage_], {{{0, set_.experts_}}, hidden}, kTp);
    gate_ = stacked("gate", set_.gate_[stage_], {part(kFfn, 6), hidden});
    up_ = stacked("up", set_.up_[stage_], {part(kFfn, 6), hidden});
    down_ = stacked("down", set_.down_[stage_], {hidden, part(kFfn, 6)});
    b_.cache(stage_, 1, kHeadDim, set_.type_);
    if (last_) {
      final_ =
          named("final", b_.weight(set_.final_, DType::F32, gpu() ? plan::Placement::Load : plan::Placement::Map), kTp);
      head_ = sliced("head", set_.embed_, {part(kVocabulary, 7), hidden}, 1);
    }
  }

  uint32_t linear(const std::string &label, uint32_t input, uint32_t weight, uint32_t width, int32_t bias = -1) {
    auto &op = b_.add<plan::LinearT>(label);
    op.input = input;
    op.weight = weight;
    op.bias = bias;
    return op.out = b_.buffer(width, rows_);
  }
  uint32_t norm(const std::string &label, uint32_t input, uint32_t weight) {
    auto &op = b_.add<plan::RmsNormT>(label);
    op.input = input;
    op.weight = weight;
    op.eps = 1e-5f;
    return op.out = b_.buffer(kHidden, rows_);
  }
  void partOfNorm(const std::string &label, uint32_t buffer, uint32_t weight, uint32_t squares, uint32_t column,
                  uint32_t elements) {
    auto &op = b_.add<plan::RmsNormT>(label);
    op.input = op.out = buffer;
    op.weight = weight;
    op.eps = 1e-5f;
    op.squares = static_cast<int32_t>(squares);
    op.column = column;
    op.elements = elements;
  }
  uint32_t allReduce(const std::string &label, uint32_t buffer) {
    auto &op = b_.add<plan::AllReduceT>(label);
    op.sequence = b_.nextSequence(0);
    op.input = op.out = buffer;
    return buffer;
  }
  uint32_t add(const std::string &label, uint32_t a, uint32_t b) {
    auto &op = b_.add<plan::AddT>(label);
    op.a = a;
    op.b = b;
    return op.out = b_.buffer(kHidden, rows_);
  }
  void rope(const std::string &label, uint32_t buffer, uint32_t heads) {
    auto &op = b_.add<plan::RopeT>(label);
    op.input = op.out = buffer;
    op.heads = heads;
    op.head_dim = kHeadDim;
  }

  void program(plan::Regime regime, uint32_t tokens) {
    b_.beginProgram(regime, tokens, kMaxBatch, kMaxBatch);
    rows_ = {.dtype = set_.type_};
    uint32_t x;
    if (stage_ == 0) {
      auto &op = b_.add<plan::EmbeddingT>("embed");
      op.weight = embed_;
      op.first_row = index_ * 7;
      x = allReduce("embed.reduce", op.out = b_.buffer(kHidden, rows_));
    } else {
      x = b_.recv("boundary", stage_ - 1, b_.buffer(kHidden, rows_));
    }
    uint32_t n = norm("norm1", x, norm1_);
    const uint32_t q = linear("q", n, q_, 2 * kHeadDim), k = linear("k", n, k_, kHeadDim),
                   v = linear("v", n, v_, kHeadDim);
    auto &headNorm = b_.add<plan::RmsNormT>("q.norm");
    headNorm.input = headNorm.out = q;
    headNorm.weight = qNorm_;
    headNorm.eps = 1e-5f;
    auto &sum = b_.add<plan::SquareSumT>("squares");
    sum.a = q;
    sum.b = static_cast<int32_t>(k);
    const uint32_t squares = sum.out = b_.buffer(2, {});
    allReduce("squares.reduce", squares);
    partOfNorm("q.all", q, qAll_, squares, 0, kHeads * kHeadDim);
    partOfNorm("k.all", k, kAll_, squares, 1, kTp * kHeadDim);
    rope("q.rope", q, 2);
    rope("k.rope", k, 1);
    auto &append = b_.add<plan::KvAppendT>("append");
    append.k = k;
    append.v = v;
    auto &attention = b_.add<plan::AttentionT>("attention");
    attention.q = q;
    attention.heads = 2;
    attention.scale = .5;
    const uint32_t mixed = attention.out = b_.buffer(2 * kHeadDim, rows_);
    const uint32_t o = linear("o", mixed, o_, kHidden, static_cast<int32_t>(oBias_));
    auto &scale = b_.add<plan::ScaleT>("o.scale");
    scale.input = scale.out = o;
    scale.factor = .25;
    x = add("add1", x, allReduce("o.reduce", o));
    n = norm("norm2", x, norm2_);
    x = add("add2", x, allReduce("down.reduce", set_.experts_ > 0 ? experts(n) : feedForward(n)));
    const BufferSpec ids{.rows = plan::RowUnit::Outputs, .dtype = DType::I32};
    if (last_) {
      sample(x, b_.buffer(1, ids));
    } else {
      b_.send("boundary", stage_ + 1, x);
      b_.add<plan::EmitIdsT>("emit.ids").input = b_.recv("ids", kPp - 1, b_.buffer(1, ids));
    }
    packArena();
  }

  uint32_t glu(uint32_t gate, uint32_t up, uint32_t width) {
    auto &op = b_.add<plan::GluT>("glu");
    op.gate = gate;
    op.up = up;
    return op.out = b_.buffer(width, rows_);
  }
  uint32_t feedForward(uint32_t n) {
    const uint32_t gate = linear("gate", n, gate_, 6), up = linear("up", n, up_, 6);
    return linear("down", glu(gate, up, 6), down_, kHidden);
  }
  uint32_t experts(uint32_t n) {
    BufferSpec floats = rows_;
    floats.dtype = DType::F32;
    std::swap(rows_, floats);
    const uint32_t logits = linear("router", n, router_, set_.experts_);
    auto &op = b_.add<plan::RouteT>("route");
    op.logits = logits;
    op.count = kChosen;
    op.normalize = true;
    const uint32_t routes = op.out = b_.buffer(2 * kChosen, rows_);
    std::swap(rows_, floats);
    auto product = [&](const std::string &label, uint32_t input, uint32_t weight, uint32_t width) {
      auto &op = b_.add<plan::ExpertLinearT>(label);
      op.input = input;
      op.routes = routes;
      op.weight = weight;
      return op.out = b_.buffer(kChosen * width, rows_);
    };
    const uint32_t gate = product("gate", n, gate_, 6), up = product("up", n, up_, 6);
    const uint32_t down = product("down", glu(gate, up, kChosen * 6), down_, kHidden);
    auto &sum = b_.add<plan::CombineT>("combine");
    sum.input = down;
    sum.routes = routes;
    return sum.out = b_.buffer(kHidden, rows_);
  }

  void sample(uint32_t x, uint32_t out) {
    rows_.rows = plan::RowUnit::Outputs;
    auto &select = b_.add<plan::SelectRowsT>("select");
    select.input = x;
    const uint32_t selected = select.out = b_.buffer(kHidden, rows_);
    const uint32_t normed = norm("final", selected, final_);
    rows_.dtype = DType::F32; // the logits are on every target
    const uint32_t logits = linear("head", normed, head_, 7), first = index_ * 7,
                   valid = std::min(kVocabulary, first + 7) - first, width = 2 * (kCandidates + 2);
    auto &cap = b_.add<plan::SoftCapT>("cap");
    cap.input = cap.out = logits;
    cap.cap = 30;
    auto &emit = b_.add<plan::EmitLogitsT>("emit.logits");
    emit.input = logits;
    emit.first_column = first;
    emit.valid = valid;
    auto &top = b_.add<plan::TopCandidatesT>("candidates");
    top.logits = logits;
    top.first_id = first;
    top.valid = valid;
    top.count = kCandidates;
    const uint32_t mine = top.out = b_.buffer(width, rows_);
    auto &gather = b_.add<plan::AllGatherT>("gather");
    gather.sequence = b_.nextSequence(0);
    gather.input = mine;
    const uint32_t all = gather.out = b_.buffer(width, {.rows = plan::RowUnit::Outputs, .times = kTp});
    auto &pick = b_.add<plan::SampleT>("sample");
    pick.candidates = all;
    pick.out = out;
    pick.shards = kTp;
    pick.count = kCandidates;
    b_.send("ids", 0, out);
  }

  /// Gives memory on as soon as its value is dead, and lets `Add` and `Glu` work in place. PlanBuilder's events put all
  /// instructions of a rank in one order, so the order of the program is all that counts.
  void packArena() {
    plan::ProgramT &program = *b_.plan.programs.back();
    flatbuffers::FlatBufferBuilder fbb;
    fbb.Finish(plan::Program::Pack(fbb, &program));
    const auto &flat = *flatbuffers::GetRoot<plan::Program>(fbb.GetBufferPointer());
    std::vector<int> first(program.buffers.size(), -1), last(program.buffers.size(), -1);
    for (uint32_t i = 0; i < flat.instructions()->size(); ++i) {
      const Operands operands = operandsOf(*flat.instructions()->Get(i));
      for (const BufferOperand &operand : operands.buffers()) {
        first[operand.buffer] = first[operand.buffer] < 0 ? static_cast<int>(i) : first[operand.buffer];
        last[operand.buffer] = static_cast<int>(i);
      }
    }
    program.arena_bytes = 0;
    for (size_t b = 0; b < program.buffers.size(); ++b) {
      auto offset = [&](size_t i) { return program.buffers[i].offset(); };
      uint64_t at = 0;
      auto clashes = [&](size_t i) {
        if (offset(i) + program.buffers[i].bytes() <= at || at + program.buffers[b].bytes() <= offset(i))
          return false;
        const plan::Op op = program.instructions[first[b]]->op.type;
        const bool inPlace = (op == plan::Op::Add || op == plan::Op::Glu) && last[i] == first[b] && at == offset(i) &&
                             program.buffers[i].row_elements() == program.buffers[b].row_elements();
        return first[b] <= last[i] && !inPlace;
      };
      for (size_t i = 0; i < b; ++i)
        if (clashes(i)) {
          at = (offset(i) + program.buffers[i].bytes() + 15) / 16 * 16;
          i = static_cast<size_t>(-1); // from the first again
        }
      const plan::Buffer &old = program.buffers[b];
      program.buffers[b] = plan::Buffer(at, old.bytes(), old.row_elements(), old.parent(), old.times(), old.shards(),
                                        old.chunk(), old.chunks(), old.rows(), old.dtype());
      program.arena_bytes = std::max(program.arena_bytes, at + old.bytes());
    }
  }

  const ValidSet &set_;
  PlanBuilder &b_;
  uint32_t stage_, index_;
  bool last_;
  BufferSpec rows_;
  uint32_t embed_ = 0, norm1_ = 0, q_ = 0, qNorm_ = 0, qAll_ = 0, kAll_ = 0, k_ = 0, v_ = 0, o_ = 0, oBias_ = 0,
           norm2_ = 0, router_ = 0, gate_ = 0, up_ = 0, down_ = 0, final_ = 0, head_ = 0;
};

ValidSet::ValidSet(uint32_t seed, plan::DType type, uint32_t experts)
    : checkpoint_(seed), type_(type), experts_(experts) {
  auto tensor = [&](const std::string &name, std::vector<uint64_t> shape) {
    return checkpoint_.add(name, DType::F32, std::move(shape));
  };
  embed_ = tensor("embed", {kVocabulary, kHidden});
  for (uint32_t l = 0; l < kPp; ++l) {
    const std::string layer = "layers." + std::to_string(l) + ".";
    norm_[l][0] = tensor(layer + "norm1", {kHidden});
    norm_[l][1] = tensor(layer + "norm2", {kHidden});
    q_[l] = tensor(layer + "q", {kHeads * kHeadDim, kHidden});
    qNorm_[l] = tensor(layer + "q.norm", {kHeadDim});
    qAll_[l] = tensor(layer + "q.all", {kHeads * kHeadDim});
    kAll_[l] = tensor(layer + "k.all", {kHeadDim});
    kv_[l] = tensor(layer + "kv", {2 * kHeadDim, kHidden});
    o_[l] = tensor(layer + "o", {kHidden, kHeads * kHeadDim});
    oBias_[l] = tensor(layer + "o.bias", {kHidden});
    if (experts > 0)
      router_[l] = tensor(layer + "router", {experts, kHidden});
    for (uint32_t e = 0; e < std::max(1u, experts); ++e) {
      const std::string of = experts > 0 ? layer + "experts." + std::to_string(e) + "." : layer;
      gate_[l].push_back(tensor(of + "gate", {kFfn, kHidden}));
      up_[l].push_back(tensor(of + "up", {kFfn, kHidden}));
      down_[l].push_back(tensor(of + "down", {kHidden, kFfn}));
    }
  }
  final_ = tensor("final", {kHidden});
  for (uint32_t rank = 0; rank < kTp * kPp; ++rank) {
    ranks_.push_back(std::make_unique<PlanBuilder>(checkpoint_, "model.bin", kTp, kPp, rank));
    RankPlan(*this, *ranks_.back());
  }
}

std::vector<const plan::Plan *> ValidSet::pack() {
  payloads_.clear();
  std::vector<const plan::Plan *> plans;
  for (const auto &rank : ranks_)
    payloads_.push_back(packPayload(rank->plan));
  for (const auto &payload : payloads_)
    plans.push_back(flatbuffers::GetRoot<plan::Plan>(payload.data()));
  return plans;
}

plan::WeightT &ValidSet::weight(uint32_t rank, const std::string &name) {
  for (auto &weight : this->rank(rank).weights)
    if (weight->name == name)
      return *weight;
  ADD_FAILURE() << "no weight " << name;
  return *this->rank(rank).weights[0];
}

size_t ValidSet::place(uint32_t rank, uint32_t program, const std::string &label) {
  const auto &labels = this->rank(rank).programs[program]->labels;
  const auto it = std::find(labels.begin(), labels.end(), label);
  EXPECT_NE(it, labels.end()) << "no instruction " << label;
  return it == labels.end() ? 0 : static_cast<size_t>(it - labels.begin());
}

plan::InstructionT &ValidSet::instruction(uint32_t rank, uint32_t program, const std::string &label) {
  return *this->rank(rank).programs[program]->instructions[place(rank, program, label)];
}

} // namespace distc::test
