// Between ranks: which logical column each local column of each value is, followed through the program. Two slices that
// meet (the columns of a value and of the weight that multiplies it, gate and up, query and KV heads, logits and ids)
// must be of the same columns; a value that is only a rank's share of a sum must be summed before anything else uses
// it.
#include "runtime/verify/Coords.h"
#include "runtime/verify/Labels.h"

#include <algorithm>

namespace distc::verify {

namespace {

constexpr uint32_t kMaxHeads = 1 << 16; // each is looked at

/// What is known of a value. No columns: ids, candidates or routes.
struct Label {
  std::shared_ptr<const Coords> columns;
  bool partial = false; // a share of the sum over the tensor-parallel ranks
  bool alone = false;   // this rank has all of the weight and the others none of it: also a share, theirs are zeros
  std::vector<uint32_t> squaresOf{}; // of sums of squares: of which value each column is one,
  int64_t squaresAt = -1;            // when they were made,
  bool summed = false;               // and whether the ranks have added theirs up
  uint64_t times = 1;                // so many times these columns make a row: one for each expert that the row goes to
  uint64_t experts = 0;              // of routes: their ids are below this

  static bool sameColumns(const Label &a, const Label &b) {
    return a.times == b.times && (a.columns == b.columns || (a.columns && b.columns && *a.columns == *b.columns));
  }
  bool operator==(const Label &other) const {
    return partial == other.partial && alone == other.alone && experts == other.experts && sameColumns(*this, other);
  }
};

class SliceWalk {
public:
  SliceWalk(const ProgramRef &ref, StageWeights &weights, Reporter &reporter)
      : ref_(ref), program_(ref.program), weights_(weights), reporter_(reporter), labels_(ref),
        caches_(ref.plan.kv()->caches()->size()) {}

  void run() {
    size_t before = reporter_.count();
    for (at_ = 0; at_ < program_.instructions()->size() && reporter_.count() == before; ++at_)
      step(ref_.instruction(at_));
  }

private:
  void fail(const char *kind, std::string message) {
    reporter_.add(kind, cat(ref_.text(at_), ": ", message), {ref_.rank()}, {ref_.instruction(at_).id()});
  }

  Label get(uint32_t b) {
    return labels_.get(b, [&] {
      fail("slice-alignment",
           cat("the parts of ", ref_.value(ref_.root(b)), " differ in their columns or in being summed"));
    });
  }
  void set(uint32_t b, Label label) {
    if (ref_.instruction(at_).op_type() != plan::Op::Route)
      label.experts = 0;
    labels_.set(b, std::move(label), at_);
  }

  static std::string columnsText(const Label &label) {
    return label.columns ? cat(label.times > 1 ? cat(label.times, " times ") : "", label.columns->text())
                         : "no columns";
  }

  /// A value that an op other than a sum may use.
  Label complete(uint32_t b) {
    Label label = get(b);
    if (label.partial)
      fail("partial-value",
           cat(ref_.value(b), " is one rank's share of a sum over group 'tp', which is not yet summed"));
    return label;
  }
  Label wholeColumns(uint32_t b) {
    Label label = complete(b);
    if (label.columns && (!label.columns->whole() || label.times != 1))
      fail("slice-alignment", cat(ref_.value(b), " holds columns ", columnsText(label), ", expected all of them"));
    return label;
  }
  void expectSame(uint32_t a, const Label &la, uint32_t b, const Label &lb) {
    if (!Label::sameColumns(la, lb))
      fail("slice-alignment", cat(ref_.value(a), " holds columns ", columnsText(la), ", ", ref_.value(b), " ",
                                  columnsText(lb), ": expected the same"));
  }

  std::string weightText(uint32_t w) const {
    return cat("weight '", ref_.plan.weights()->Get(w)->name()->string_view(), "'");
  }
  std::vector<std::shared_ptr<const MatrixCoords>> matrices(uint32_t weight, uint64_t columns) {
    auto result = weights_.matrices(ref_.plan.mesh()->tp_index(), weight, columns);
    if (result.empty())
      fail("slice-alignment", cat(weightText(weight), " cannot be read as rows of ", columns,
                                  " elements along the dimensions of its view"));
    return result;
  }
  static std::shared_ptr<const Coords> rowsOf(const std::shared_ptr<const MatrixCoords> &m) { return {m, &m->rows}; }

  void step(const plan::Instruction &it) {
    switch (it.op_type()) {
    case plan::Op::NONE:
    case plan::Op::Sample:
    case plan::Op::EmitIds:
      return;
    case plan::Op::Embedding:
      return embedding(*it.op_as_Embedding());
    case plan::Op::RmsNorm:
      return rmsNorm(*it.op_as_RmsNorm());
    case plan::Op::Linear:
      return linear(*it.op_as_Linear());
    case plan::Op::Rope:
      return set(it.op_as_Rope()->out(), heads(it.op_as_Rope()->input(), it.op_as_Rope()->head_dim()));
    case plan::Op::KvAppend:
      return append(*it.op_as_KvAppend());
    case plan::Op::Attention:
      return attention(*it.op_as_Attention());
    case plan::Op::Add: {
      const plan::Add &op = *it.op_as_Add();
      Label a = get(op.a()), b = get(op.b());
      expectSame(op.a(), a, op.b(), b);
      if (a.partial != b.partial)
        fail("partial-value", cat(ref_.value(a.partial ? op.a() : op.b()), " is one rank's share of a sum, ",
                                  ref_.value(a.partial ? op.b() : op.a()), " is not: expected the sum first"));
      return set(op.out(), a);
    }
    case plan::Op::Glu: {
      const plan::Glu &op = *it.op_as_Glu();
      Label gate = complete(op.gate());
      expectSame(op.gate(), gate, op.up(), complete(op.up()));
      return set(op.out(), gate);
    }
    case plan::Op::LayerNorm: {
      const plan::LayerNorm &op = *it.op_as_LayerNorm();
      Label label = wholeColumns(op.input());
      for (int64_t weight : {int64_t(op.weight()), int64_t(op.bias())})
        if (weight >= 0)
          vector(static_cast<uint32_t>(weight), label);
      return set(op.out(), label);
    }
    case plan::Op::Activate:
      return set(it.op_as_Activate()->out(), complete(it.op_as_Activate()->input()));
    case plan::Op::PositionEmbedding:
      return positionEmbedding(*it.op_as_PositionEmbedding());
    case plan::Op::SelectRows:
      return set(it.op_as_SelectRows()->out(), get(it.op_as_SelectRows()->input()));
    case plan::Op::TopCandidates: {
      const plan::TopCandidates &op = *it.op_as_TopCandidates();
      logits(op.logits(), op.first_id(), op.valid());
      return set(op.out(), {});
    }
    case plan::Op::EmitLogits: {
      const plan::EmitLogits &op = *it.op_as_EmitLogits();
      return logits(op.input(), op.first_column(), op.valid());
    }
    case plan::Op::Scale: // of a share too
      return set(it.op_as_Scale()->out(), get(it.op_as_Scale()->input()));
    case plan::Op::SoftCap:
      return set(it.op_as_SoftCap()->out(), complete(it.op_as_SoftCap()->input()));
    case plan::Op::SquareSum:
      return squareSum(*it.op_as_SquareSum());
    case plan::Op::AllReduce: {
      const plan::AllReduce &op = *it.op_as_AllReduce();
      return set(op.out(), reduced(op.group(), op.input(), op.op()));
    }
    case plan::Op::ReduceScatter: {
      const plan::ReduceScatter &op = *it.op_as_ReduceScatter();
      return set(op.out(), reduced(op.group(), op.input(), op.op()));
    }
    case plan::Op::AllGather:
      return set(it.op_as_AllGather()->out(), gathered(it.op_as_AllGather()->group(), it.op_as_AllGather()->input()));
    case plan::Op::Send:
      wholeColumns(it.op_as_Send()->input());
      return;
    case plan::Op::Recv: {
      const plan::Buffer &out = ref_.buffer(it.op_as_Recv()->out());
      Label label;
      if (out.dtype() != plan::DType::I32)
        label.columns = std::make_shared<Coords>(Coords::all(out.row_elements()));
      return set(it.op_as_Recv()->out(), label);
    }
    case plan::Op::Route: {
      const plan::Route &op = *it.op_as_Route();
      wholeColumns(op.logits()); // else each rank would choose among its own
      Label label;
      label.experts = ref_.buffer(op.logits()).row_elements();
      return set(op.out(), label);
    }
    case plan::Op::ExpertLinear:
      return expertLinear(*it.op_as_ExpertLinear());
    case plan::Op::Combine: {
      const plan::Combine &op = *it.op_as_Combine();
      Label label = get(op.input());
      const uint64_t count = ref_.buffer(op.routes()).row_elements() / 2;
      if (routes(op.routes()) && label.columns && label.times != count)
        fail("slice-alignment", cat(ref_.value(op.input()), " holds columns ", columnsText(label), ", expected ", count,
                                    " times the columns of the sum"));
      label.times = 1;
      return set(op.out(), label);
    }
    }
  }

  void embedding(const plan::Embedding &op) {
    auto all = matrices(op.weight(), ref_.buffer(op.out()).row_elements());
    if (all.empty())
      return;
    const Coords &rows = all[0]->rows;
    uint64_t held = rows.held();
    if (held != 0 && (rows.spans[0].zero || rows.spans[0].begin != op.first_row() || rows.spans[0].count != held))
      fail("vocabulary-slice", cat(weightText(op.weight()), " holds rows ", rows.text(),
                                   ", but its first row is said to be id ", op.first_row()));
    std::shared_ptr<const Coords> columns(all[0], &all[0]->columns);
    const bool alone = held == rows.extent && ref_.plan.weights()->Get(op.weight())->copies() == 1;
    set(op.out(), {columns, held != rows.extent, alone});
  }

  /// Where the ranks' shares are summed later, only one of them may add the rows.
  void positionEmbedding(const plan::PositionEmbedding &op) {
    Label label = get(op.input());
    auto all = matrices(op.weight(), ref_.buffer(op.out()).row_elements());
    if (all.empty())
      return;
    const uint32_t copies = ref_.plan.weights()->Get(op.weight())->copies();
    const Coords &rows = all[0]->rows;
    if (!rows.whole() && !(label.partial && rows.held() == 0))
      fail("slice-alignment", cat(weightText(op.weight()), " holds rows ", rows.text(), ", expected all of them"));
    if (label.columns && rows.held() != 0 && !(*label.columns == all[0]->columns))
      fail("slice-alignment", cat(ref_.value(op.input()), " holds columns ", columnsText(label), ", ",
                                  weightText(op.weight()), " ", all[0]->columns.text(), ": expected the same"));
    if (label.partial && copies != 1)
      fail("partial-value",
           cat(weightText(op.weight()), " is held by ", copies, " ranks, whose shares are summed: expected one"));
    set(op.out(), label);
  }

  /// A vector that is multiplied with, or added to, columns.
  void vector(uint32_t index, const Label &label) {
    auto weight = matrices(index, 1);
    if (!weight.empty() && label.columns && !(*label.columns == weight[0]->rows))
      fail("slice-alignment",
           cat(weightText(index), " holds elements ", weight[0]->rows.text(), ", expected ", columnsText(label)));
  }

  void rmsNorm(const plan::RmsNorm &op) {
    auto weight = matrices(op.weight(), 1);
    if (weight.empty())
      return;
    const Coords &scale = weight[0]->rows;
    Label label = complete(op.input());
    if (op.squares() >= 0) {
      partOfNorm(op, label, scale);
    } else if (label.columns && label.columns->extent > scale.extent) {
      label = heads(op.input(), scale.extent);
      if (!scale.whole())
        fail("slice-alignment",
             cat(weightText(op.weight()), " holds elements ", scale.text(), ", expected all of them"));
    } else if (label.columns && (!scale.whole() || !(label.columns->held() == 0 || *label.columns == scale))) {
      fail("slice-alignment", cat(weightText(op.weight()), " holds elements ", scale.text(), ", ",
                                  ref_.value(op.input()), " columns ", columnsText(label), ": expected all of both"));
    }
    set(op.out(), label);
  }

  /// Each rank has a part of what is one norm: the squares are those of all parts, a copy of a head with each.
  void partOfNorm(const plan::RmsNorm &op, const Label &input, const Coords &scale) {
    const auto squares = static_cast<uint32_t>(op.squares());
    const Label sums = complete(squares);
    if (input.columns && !(*input.columns == scale))
      fail("slice-alignment",
           cat(weightText(op.weight()), " holds elements ", scale.text(), ", expected ", columnsText(input)));
    if (op.column() >= sums.squaresOf.size() || sums.squaresOf[op.column()] != op.input() ||
        labels_.stamp(ref_.root(op.input())) > sums.squaresAt)
      fail("slice-alignment", cat("column ", op.column(), " of ", ref_.value(squares), " is not the sum of squares of ",
                                  ref_.value(op.input())));
    // Summed over the ranks, an element counts as often as they hold it.
    const uint64_t copies = sums.summed ? ref_.plan.weights()->Get(op.weight())->copies() : 1;
    if (op.elements() != scale.extent * copies)
      fail("slice-alignment",
           cat("the squares are said to be those of ", op.elements(), " elements, expected ", scale.extent * copies,
               ": those of ", weightText(op.weight()), ", ", copies, " times each"));
  }

  /// Of values that each rank has whole the ranks may sum them up, and need not.
  void squareSum(const plan::SquareSum &op) {
    Label label;
    for (int64_t operand : {int64_t(op.a()), int64_t(op.b())}) {
      if (operand == -1)
        continue;
      const auto input = static_cast<uint32_t>(operand);
      const Label part = complete(input);
      label.partial |= part.columns && part.columns->held() != part.columns->extent;
      label.squaresOf.push_back(input);
    }
    label.alone = !label.partial;
    label.columns = std::make_shared<Coords>(Coords::all(label.squaresOf.size()));
    label.squaresAt = static_cast<int64_t>(at_);
    set(op.out(), label);
  }

  /// The weight as a matrix of rows of `width` columns that are those of the input; null: it is none, which has been
  /// told, or nothing is known of the input.
  template <typename Op> std::shared_ptr<const MatrixCoords> meeting(const Op &op, const Label &input, uint64_t width) {
    const auto all = matrices(op.weight(), width);
    if (all.empty() || !input.columns)
      return nullptr;
    const auto match =
        std::find_if(all.begin(), all.end(), [&](const auto &m) { return m->columns == *input.columns; });
    if (match != all.end())
      return *match;
    fail("slice-alignment", cat(ref_.value(op.input()), " holds columns ", columnsText(input), ", ",
                                weightText(op.weight()), " ", all[0]->columns.text(), ": expected the same"));
    return nullptr;
  }

  void linear(const plan::Linear &op) {
    Label input = complete(op.input());
    const auto match = meeting(op, input, ref_.buffer(op.input()).row_elements());
    if (!match)
      return;
    bool partial = match->columns.held() != match->columns.extent;
    if (op.bias() >= 0)
      bias(op, match->rows, partial);
    const bool alone =
        !partial && match->rows.held() == match->rows.extent && ref_.plan.weights()->Get(op.weight())->copies() == 1;
    set(op.out(), {rowsOf(match), partial, alone});
  }

  /// How many experts routes choose among; 0: it is not what a Route has written.
  uint64_t routes(uint32_t b) {
    const uint64_t experts = get(b).experts;
    if (experts == 0)
      fail("slice-alignment", cat(ref_.value(b), " is read as routes, and no Route has written it"));
    return experts;
  }

  void expertLinear(const plan::ExpertLinear &op) {
    const Label input = complete(op.input());
    const plan::Weight &weight = *ref_.plan.weights()->Get(op.weight());
    const uint64_t experts = weight.shape()->Get(0), count = ref_.buffer(op.routes()).row_elements() / 2;
    if (const uint64_t known = routes(op.routes()); known != experts)
      return fail("slice-alignment",
                  cat(weightText(op.weight()), " has ", experts, " experts, the routes are among ", known));
    if (input.columns && input.times != 1 && input.times != count)
      return fail("slice-alignment",
                  cat(ref_.value(op.input()), " holds columns ", columnsText(input), " for ", count, " routes"));
    const auto match = meeting(op, input, weight.shape()->Get(2));
    if (!match)
      return;
    const std::optional<Coords> rows = rowsOfEach(match->rows, experts);
    if (!rows)
      return fail("slice-alignment", cat(weightText(op.weight()), " holds rows ", match->rows.text(), " of ", experts,
                                         " experts, expected the same of each"));
    Label label;
    label.columns = std::make_shared<Coords>(*rows);
    label.partial = match->columns.held() != match->columns.extent;
    label.alone = !label.partial && rows->held() == rows->extent && weight.copies() == 1;
    label.times = count;
    set(op.out(), label);
  }

  /// The rows that stacked experts have each, if these are the same of all.
  static std::optional<Coords> rowsOfEach(const Coords &rows, uint64_t experts) {
    uint64_t local = 0;
    for (const Span &span : rows.spans)
      local += span.count;
    if (local % experts != 0 || rows.extent % experts != 0)
      return std::nullopt;
    const uint64_t size = local / experts, extent = rows.extent / experts;
    Coords first, current;
    uint64_t left = size, expert = 0;
    for (Span span : rows.spans)
      while (span.count > 0) {
        const uint64_t taken = std::min(span.count, left), base = expert * extent;
        if (!span.zero && (span.begin < base || span.begin + taken > base + extent))
          return std::nullopt;
        current.push({span.zero ? 0 : span.begin - base, taken, span.zero});
        span.begin += span.zero ? 0 : taken;
        span.count -= taken;
        if ((left -= taken) > 0)
          continue;
        if (expert == 0)
          first = current;
        else if (current.spans != first.spans)
          return std::nullopt;
        current = {};
        left = size;
        ++expert;
      }
    first.extent = extent;
    return first;
  }

  /// Where the ranks' shares are summed later, only one of them may add the bias.
  void bias(const plan::Linear &op, const Coords &rows, bool partial) {
    auto weight = matrices(static_cast<uint32_t>(op.bias()), 1);
    if (weight.empty())
      return;
    const plan::Weight &bias = *ref_.plan.weights()->Get(static_cast<uint32_t>(op.bias()));
    const Coords &held = weight[0]->rows;
    bool absent = partial && held.held() == 0;
    if (!absent && !(held == rows))
      fail("slice-alignment", cat(weightText(static_cast<uint32_t>(op.bias())), " holds elements ", held.text(),
                                  ", expected ", rows.text()));
    if (partial && bias.copies() != 1)
      fail("partial-value", cat(weightText(static_cast<uint32_t>(op.bias())), " is held by ", bias.copies(),
                                " ranks, whose shares are summed: expected one"));
  }

  /// A value of whole heads.
  Label heads(uint32_t b, uint64_t headDim) {
    Label label = complete(b);
    if (headDim == 0) // of a plan that has been refused for it
      return label;
    for (const Span &span : label.columns ? label.columns->spans : std::vector<Span>())
      if (span.begin % headDim != 0 || span.count % headDim != 0)
        fail("attention-heads",
             cat(ref_.value(b), " holds columns ", columnsText(label), ", which cut a head of ", headDim));
    return label;
  }

  void append(const plan::KvAppend &op) {
    uint64_t headDim = ref_.plan.kv()->caches()->Get(op.cache())->head_dim();
    Label k = heads(op.k(), headDim);
    expectSame(op.k(), k, op.v(), complete(op.v()));
    caches_[op.cache()] = k;
  }

  void attention(const plan::Attention &op) {
    const plan::KvCache &cache = *ref_.plan.kv()->caches()->Get(op.cache());
    size_t before = reporter_.count();
    Label q = heads(op.q(), cache.head_dim());
    if (reporter_.count() != before)
      return; // no heads to compare
    const Label &kv = caches_[op.cache()];
    if (op.heads() > kMaxHeads)
      return fail("attention-heads", cat(op.heads(), " query heads, expected at most ", kMaxHeads));
    if (q.columns && kv.columns) {
      auto queryHeads = headsOf(*q.columns, cache.head_dim()), kvHeads = headsOf(*kv.columns, cache.head_dim());
      uint64_t all = q.columns->extent / cache.head_dim(), allKv = kv.columns->extent / cache.head_dim();
      if (allKv == 0 || all % allKv != 0)
        fail("attention-heads", cat(all, " query heads over ", allKv, " KV heads in the model, expected a multiple"));
      else
        for (uint64_t h = 0; h < queryHeads.size(); ++h) {
          int64_t actual = kvHeads[h / (op.heads() / cache.heads())];
          if (queryHeads[h] >= 0 && actual != queryHeads[h] / static_cast<int64_t>(all / allKv))
            return fail("attention-heads",
                        cat("query head ", h, " is head ", queryHeads[h], " of the model and reads KV head ",
                            actual < 0 ? "of padding" : std::to_string(actual), " of the model, expected ",
                            queryHeads[h] / static_cast<int64_t>(all / allKv)));
        }
    }
    set(op.out(), q);
  }

  /// By local head: the head of the model, or -1 for padding.
  static std::vector<int64_t> headsOf(const Coords &columns, uint64_t headDim) {
    std::vector<int64_t> result;
    for (const Span &span : columns.spans)
      for (uint64_t i = 0; i < span.count / headDim; ++i)
        result.push_back(span.zero ? -1 : static_cast<int64_t>(span.begin / headDim + i));
    return result;
  }

  void logits(uint32_t b, uint64_t first, uint64_t valid) {
    Label label = complete(b);
    if (!label.columns)
      return;
    const Coords &columns = *label.columns;
    uint64_t vocabulary = ref_.plan.model()->vocabulary(), expected = 0;
    bool inOrder = columns.held() == 0 || (!columns.spans[0].zero && columns.spans[0].count == columns.held());
    uint64_t begin = columns.held() == 0 ? first : columns.spans[0].begin;
    if (columns.held() != 0 && begin < vocabulary)
      expected = std::min(columns.spans[0].count, vocabulary - begin);
    if (columns.extent < vocabulary || !inOrder || valid != expected || (valid != 0 && first != begin))
      fail("vocabulary-slice", cat(ref_.value(b), " holds columns ", columns.text(), " of a vocabulary of ", vocabulary,
                                   ", but the first ", valid, " are said to be ids ", first, " to ", first + valid));
  }

  /// A collective over others than the ranks of the stage, in their order, would mix values that do not belong
  /// together; one over this rank alone leaves a value as it is.
  bool isOverStage(uint32_t group) {
    const auto &ranks = *ref_.plan.groups()->Get(group)->ranks();
    const plan::Mesh &mesh = *ref_.plan.mesh();
    bool stage = ranks.size() == mesh.tp();
    for (uint32_t i = 0; i < ranks.size() && stage; ++i)
      stage = ranks.Get(i) == mesh.stage() * mesh.tp() + i;
    if (!stage && ranks.size() > 1)
      fail("collective-mismatch",
           cat("is over the ranks ", listText(ranks), ", expected the ", mesh.tp(), " of stage ", mesh.stage()));
    return stage;
  }

  Label gathered(uint32_t group, uint32_t input) {
    isOverStage(group);
    return wholeColumns(input);
  }

  Label reduced(uint32_t group, uint32_t input, plan::ReduceOp op) {
    Label label = get(input);
    if (!isOverStage(group))
      return label;
    bool sum = op == plan::ReduceOp::Sum;
    const bool share = label.partial || (sum && label.alone);
    if (ref_.plan.mesh()->tp() > 1 && sum != share)
      fail("partial-value",
           cat(ref_.value(input), label.partial ? " is" : " is not",
               " a rank's share of a sum over the ranks of its stage, and is reduced by ", sum ? "sum" : "max"));
    if (label.columns && !label.columns->whole())
      fail("slice-alignment", cat(ref_.value(input), " holds columns ", columnsText(label),
                                  ", which differ between the ranks that reduce it"));
    label.partial = label.alone = false;
    label.summed = sum && ref_.plan.mesh()->tp() > 1;
    return label;
  }

  const ProgramRef &ref_;
  const plan::Program &program_;
  StageWeights &weights_;
  Reporter &reporter_;
  Labels<Label> labels_;
  std::vector<Label> caches_;
  size_t at_ = 0;
};

} // namespace

void checkSlices(std::span<const plan::Plan *const> plans, Reporter &reporter) {
  uint32_t tp = plans[0]->mesh()->tp();
  for (size_t first = 0; first < plans.size(); first += tp) {
    StageWeights weights(plans.subspan(first, tp));
    for (uint32_t i = 0; i < tp; ++i)
      for (uint32_t p = 0; p < plans[first + i]->programs()->size() && !reporter.full(); ++p) {
        ProgramRef ref{*plans[first + i], *plans[first + i]->programs()->Get(p), p};
        SliceWalk(ref, weights, reporter).run();
      }
  }
}

} // namespace distc::verify
