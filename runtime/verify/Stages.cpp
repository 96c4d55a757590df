#include "runtime/verify/Stages.h"

#include "runtime/schema/PlanFile.h"
#include "runtime/schema/Tiles.h"
#include "runtime/verify/Report.h"

#include <algorithm>

namespace distc {

namespace {

using verify::cat;

class StageReader {
public:
  StageReader(const plan::Plan &plan, const plan::Program &program, const plan::StageTiles &tiles, std::string &why)
      : plan_(plan), program_(program), why_(why), next_(tiles.instruction()), end_(next_ + tiles.count()) {
    stage_.kind = tiles.kind();
    stage_.first = tiles.instruction();
    stage_.count = tiles.count();
  }

  std::optional<TileStage> read() {
    if (!checkBuffers())
      return std::nullopt;
    std::optional<TileStage> stage = readKind();
    if (const plan::Add *sum = stage ? stage->residual : nullptr; sum && isOwn(sum->a()) && isOwn(sum->b()))
      return no(cat("both terms of its sum, buffers ", sum->a(), " and ", sum->b(),
                    ", are its own, which are not in memory"));
    return stage;
  }

private:
  std::optional<TileStage> readKind() {
    if (stage_.kind == plan::StageKind::Attention) {
      stage_.attention = take<plan::Attention>();
      if (!stage_.attention || next_ != end_)
        return no("an attention stage is one Attention");
      stage_.input = stage_.attention->q();
      stage_.outputs = {stage_.attention->out()};
      const plan::KvCache &cache = *plan_.kv()->caches()->Get(stage_.attention->cache());
      if (!isHalf(stage_.input) || cache.dtype() != program_.buffers()->Get(stage_.input)->dtype() ||
          cache.head_dim() % 8 != 0 || cache.head_dim() > 256)
        return no("expected q and cache in BF16 or F16 alike, and heads of a multiple of 8 elements up to 256");
      if (const uint32_t block = plan_.kv()->block_tokens(), multiple = attentionPositions(cache.head_dim());
          block % multiple != 0)
        return no(cat("blocks of ", block, " tokens, expected a multiple of ", multiple));
      return stage_;
    }
    if (stage_.kind == plan::StageKind::ExpertGlu || stage_.kind == plan::StageKind::ExpertSum)
      return readExperts() ? std::optional(stage_) : std::nullopt;
    if (stage_.kind == plan::StageKind::Append)
      return readAppend() ? std::optional(stage_) : std::nullopt;
    if (stage_.kind == plan::StageKind::PostNorm)
      return readPostNorm() ? std::optional(stage_) : std::nullopt;
    if (!readInput())
      return std::nullopt;
    bool known = stage_.kind == plan::StageKind::Rows     ? readRows()
                 : stage_.kind == plan::StageKind::Glu    ? readGlu()
                 : stage_.kind == plan::StageKind::Qkv    ? readQkv()
                 : stage_.kind == plan::StageKind::Router ? readRouter()
                                                          : false;
    if (!known || next_ != end_)
      return no(cat("its ", stage_.count, " instructions are not those of a stage of kind ", unsigned(stage_.kind)));
    for (const plan::Linear *linear : stage_.linears)
      if (linear->input() != product_)
        return no(cat("a product reads buffer ", linear->input(), ", expected ", product_, " as its first"));
    return countUnits() ? std::optional(stage_) : std::nullopt;
  }

  std::nullopt_t no(std::string why) {
    if (why_.empty())
      why_ = std::move(why);
    return std::nullopt;
  }

  /// A stage takes all tokens of the step, and no two of its instructions write one buffer: their order is lost.
  bool checkBuffers() {
    for (uint32_t i = next_; i < end_; ++i) {
      const Operands operands = operandsOf(*program_.instructions()->Get(i));
      for (const BufferOperand &operand : operands.buffers()) {
        const plan::Buffer &buffer = *program_.buffers()->Get(operand.buffer);
        if (buffer.parent() >= 0 || buffer.chunks() != 1 || buffer.shards() != 1 || buffer.times() != 1 ||
            buffer.rows() == plan::RowUnit::One) {
          no(cat("buffer ", operand.buffer, " has not one row for each token"));
          return false;
        }
        if (!operand.write)
          continue;
        if (isOwn(operand.buffer)) {
          no(cat("buffer ", operand.buffer, " is written twice"));
          return false;
        }
        written_.push_back(operand.buffer);
      }
    }
    return true;
  }

  /// Nothing but the norm may read the sum that begins a stage: it is the norm that the others go on with.
  bool sumIsForTheNorm() {
    for (uint32_t i = stage_.first + 2; i < end_; ++i) {
      const Operands operands = operandsOf(*program_.instructions()->Get(i));
      for (const BufferOperand &operand : operands.buffers())
        if (!operand.write && operand.buffer == stage_.addend->out())
          return false;
    }
    return true;
  }
  /// Is the buffer written by an instruction of the stage?
  bool isOwn(uint32_t buffer) const { return std::find(written_.begin(), written_.end(), buffer) != written_.end(); }
  /// Is it one term of the sum, not both?
  static bool isTerm(uint32_t buffer, const plan::Add &sum) { return (sum.a() == buffer) != (sum.b() == buffer); }
  plan::DType dtypeOf(uint32_t buffer) const { return program_.buffers()->Get(buffer)->dtype(); }

  /// The next instruction's operands if it is a T.
  template <typename T> const T *take() {
    if (next_ >= end_)
      return nullptr;
    const T *operands = program_.instructions()->Get(next_)->op_as<T>();
    next_ += operands ? 1 : 0;
    return operands;
  }

  bool isHalf(uint32_t buffer) const {
    const plan::DType dtype = program_.buffers()->Get(buffer)->dtype();
    return dtype == plan::DType::BF16 || dtype == plan::DType::F16;
  }

  bool hasNorm() const { return stage_.norm || stage_.layerNorm; }
  uint32_t normInput() const { return stage_.norm ? stage_.norm->input() : stage_.layerNorm->input(); }

  bool readInput() {
    stage_.addend = take<plan::Add>();
    stage_.norm = take<plan::RmsNorm>();
    if (stage_.kind == plan::StageKind::Rows && !stage_.norm)
      stage_.layerNorm = take<plan::LayerNorm>();
    if (stage_.addend) {
      stage_.outputs.push_back(stage_.addend->out());
      if (!hasNorm() || normInput() != stage_.addend->out() || !sumIsForTheNorm()) {
        no("a sum that begins a stage is for its norm");
        return false;
      }
    }
    return true;
  }

  bool takeLinear() {
    const plan::Linear *linear = take<plan::Linear>();
    if (linear) {
      if (stage_.linears.empty()) {
        product_ = stage_.norm ? stage_.norm->out() : stage_.layerNorm ? stage_.layerNorm->out() : linear->input();
        stage_.input = stage_.addend ? stage_.addend->a() : hasNorm() ? normInput() : linear->input();
      }
      stage_.linears.push_back(linear);
    }
    return linear != nullptr;
  }

  bool readRows() {
    while (stage_.linears.size() < 3 && takeLinear()) {
    }
    if (stage_.linears.empty())
      return false;
    if (stage_.linears.size() > 1) {
      for (const plan::Linear *linear : stage_.linears)
        stage_.outputs.push_back(linear->out());
      return true;
    }
    uint32_t out = stage_.linears[0]->out();
    bool follows = true; // what comes next is done with `out`
    const auto then = [&](const auto *operands) {
      follows = follows && operands->input() == out;
      out = operands->out();
    };
    if ((stage_.scale = take<plan::Scale>()))
      then(stage_.scale);
    else if ((stage_.activate = take<plan::Activate>()))
      then(stage_.activate);
    else if ((stage_.softCap = take<plan::SoftCap>()))
      then(stage_.softCap);
    if (!stage_.activate && !stage_.softCap && !hasNorm() && (stage_.residual = take<plan::Add>())) {
      follows = follows && isTerm(out, *stage_.residual) && dtypeOf(stage_.residual->out()) == dtypeOf(product_);
      out = stage_.residual->out();
    }
    stage_.outputs.push_back(out);
    return follows;
  }

  bool readGlu() {
    if (!takeLinear() || !takeLinear() || !(stage_.glu = take<plan::Glu>()) ||
        stage_.glu->gate() != stage_.linears[0]->out() || stage_.glu->up() != stage_.linears[1]->out())
      return false;
    stage_.outputs.push_back(stage_.glu->out());
    return true;
  }

  bool readQkv() {
    if (!takeLinear() || !(stage_.ropes[0] = take<plan::Rope>()) || !takeLinear() ||
        !(stage_.ropes[1] = take<plan::Rope>()) || !takeLinear() || !(stage_.append = take<plan::KvAppend>()))
      return false;
    const plan::Rope &q = *stage_.ropes[0], &k = *stage_.ropes[1];
    stage_.outputs.push_back(q.out());
    const plan::KvCache &cache = *plan_.kv()->caches()->Get(stage_.append->cache());
    const plan::RopeTable &table = *plan_.rope_tables()->Get(q.table());
    return !table.over() && table.inv_freq()->size() * 2 == q.head_dim() && q.input() == stage_.linears[0]->out() &&
           k.input() == stage_.linears[1]->out() && stage_.append->k() == k.out() &&
           stage_.append->v() == stage_.linears[2]->out() && q.table() == k.table() && q.style() == k.style() &&
           q.head_dim() == k.head_dim() && q.head_dim() % 4 == 0 &&
           cache.dtype() == program_.buffers()->Get(product_)->dtype() && cache.head_dim() == q.head_dim() &&
           cache.dtype() == program_.buffers()->Get(q.out())->dtype();
  }

  /// Others than the router read its norm.
  bool readRouter() {
    if (!takeLinear() || stage_.linears[0]->bias() >= 0 || !(stage_.route = take<plan::Route>()) ||
        stage_.route->logits() != stage_.linears[0]->out() || stage_.route->count() > kMaxRoutes)
      return false;
    if (stage_.norm)
      stage_.outputs.push_back(stage_.norm->out());
    stage_.outputs.push_back(stage_.route->logits());
    stage_.outputs.push_back(stage_.route->out());
    return true;
  }

  bool readExperts() {
    const bool gated = stage_.kind == plan::StageKind::ExpertGlu;
    const plan::ExpertLinear *first = take<plan::ExpertLinear>(), *second = gated ? take<plan::ExpertLinear>() : first;
    bool known = first && second && (gated ? readExpertGlu(*first, *second) : readExpertSum(*first));
    if (!known || next_ != end_) {
      no(cat("its ", stage_.count, " instructions are not those of a stage of kind ", unsigned(stage_.kind)));
      return false;
    }
    const auto &shape = *plan_.weights()->Get(first->weight())->shape(); // of three sizes: Shapes.cpp
    product_ = stage_.input = first->input();
    stage_.columns = shape.Get(2);
    const uint32_t routes = program_.buffers()->Get(first->routes())->row_elements() / 2;
    const uint32_t width = program_.buffers()->Get(product_)->row_elements();
    if (routes > kMaxRoutes || width != (gated ? 1 : routes) * uint64_t(stage_.columns)) {
      no(cat(routes, " experts of each token, and rows of ", width, " elements for weights of ", stage_.columns,
             " columns: expected at most ", kMaxRoutes, " experts, ", gated ? "one row for all" : "a row for each"));
      return false;
    }
    for (const plan::ExpertLinear *linear : stage_.experts) {
      const plan::Weight &weight = *plan_.weights()->Get(linear->weight());
      if (!suits(weight, weight.shape()->Get(1), 2, kStageColumns) ||
          uint64_t(weight.shape()->Get(0)) * weight.shape()->Get(1) > INT32_MAX)
        return false;
    }
    stage_.units = gated ? 0 : shape.Get(1) / unitRows(stage_.kind);
    return true;
  }

  /// `gate` and `up` are products of the same rows with the same experts.
  bool readExpertGlu(const plan::ExpertLinear &gate, const plan::ExpertLinear &up) {
    stage_.experts = {&gate, &up};
    stage_.glu = take<plan::Glu>();
    if (!stage_.glu || up.input() != gate.input() || up.routes() != gate.routes() || stage_.glu->gate() != gate.out() ||
        stage_.glu->up() != up.out())
      return false;
    const auto &a = *plan_.weights()->Get(gate.weight())->shape(), &b = *plan_.weights()->Get(up.weight())->shape();
    stage_.outputs.push_back(stage_.glu->out());
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin()) &&
           dtypeOf(stage_.glu->out()) == dtypeOf(gate.input());
  }

  bool readExpertSum(const plan::ExpertLinear &down) {
    stage_.experts = {&down};
    stage_.combine = take<plan::Combine>();
    if (!stage_.combine || stage_.combine->input() != down.out() || stage_.combine->routes() != down.routes())
      return false;
    const uint32_t out = stage_.combine->out();
    stage_.residual = take<plan::Add>();
    if (stage_.residual && !isTerm(out, *stage_.residual))
      return false;
    stage_.outputs.push_back(stage_.residual ? stage_.residual->out() : out);
    return dtypeOf(stage_.outputs[0]) == dtypeOf(down.input());
  }

  /// A weight that can be streamed in tiles.
  bool suits(const plan::Weight &weight, uint64_t rows, uint32_t unit, uint32_t columns) {
    if (isHalf(product_) && weight.dtype() == dtypeOf(product_) && weight.placement() == plan::Placement::Load &&
        stage_.columns % columns == 0 && rows % unit == 0)
      return true;
    no(cat("weight ", weight.name()->string_view(), " of ", rows, " x ", stage_.columns,
           " elements: expected BF16 or F16 as its input, loaded, columns in multiples of ", columns,
           ", rows in multiples of ", unit));
    return false;
  }

  bool readPostNorm() {
    stage_.norm = take<plan::RmsNorm>();
    stage_.residual = take<plan::Add>();
    if (!stage_.norm || !stage_.residual || next_ != end_ || !isTerm(stage_.norm->out(), *stage_.residual)) {
      no("a post-norm stage is one RmsNorm and the Add of it to a residual");
      return false;
    }
    stage_.input = stage_.norm->input();
    stage_.outputs = {stage_.residual->out()};
    stage_.columns = program_.buffers()->Get(stage_.input)->row_elements();
    const plan::Weight &weight = *plan_.weights()->Get(stage_.norm->weight());
    if (weight.dtype() != plan::DType::F32 || weight.placement() != plan::Placement::Load ||
        stage_.norm->squares() != -1 || weight.bytes() / sizeof(float) != stage_.columns || !isHalf(stage_.input) ||
        dtypeOf(stage_.residual->out()) != dtypeOf(stage_.input)) {
      no("expected rows in BF16 or F16, and a norm of whole rows");
      return false;
    }
    return true;
  }

  /// What is done with q or k: both may be absent.
  struct Chain {
    const plan::RmsNorm *norm = nullptr;
    const plan::Rope *rope = nullptr;
    bool isEmpty() const { return !norm && !rope; }
    uint32_t input() const { return norm ? norm->input() : rope->input(); }
    uint32_t out() const { return rope ? rope->out() : norm->out(); }
  };
  Chain takeChain() {
    Chain chain;
    chain.norm = take<plan::RmsNorm>();
    const plan::Rope *rope = next_ < end_ ? program_.instructions()->Get(next_)->op_as_Rope() : nullptr;
    if (rope && (!chain.norm || rope->input() == chain.norm->out()))
      chain.rope = take<plan::Rope>();
    return chain;
  }

  bool readAppend() {
    Chain q = takeChain(), k = takeChain();
    stage_.append = take<plan::KvAppend>();
    if (!stage_.append || next_ != end_) {
      no("an append stage is the norm and rotation of q, those of k, where there are any, and KvAppend");
      return false;
    }
    if (k.isEmpty() && !q.isEmpty() && stage_.append->k() == q.out())
      std::swap(q, k); // of k alone
    stage_.k = k.isEmpty() ? stage_.append->k() : k.input();
    const uint32_t v = stage_.append->v();
    if (!k.isEmpty() && stage_.append->k() != k.out()) {
      no(cat("buffer ", stage_.append->k(), " is appended, expected the keys of this stage, buffer ", k.out()));
      return false;
    }
    for (const Chain &chain : {q, k})
      if (!chain.isEmpty())
        for (uint32_t input : {stage_.k, v, q.isEmpty() ? v : q.input()})
          if (input == chain.out() || (chain.norm && input == chain.norm->out())) {
            no(cat("buffer ", input, " is written in the stage that begins with it"));
            return false;
          }
    const plan::KvCache &cache = *plan_.kv()->caches()->Get(stage_.append->cache());
    if (!isHalf(stage_.k) || cache.head_dim() > kMaxAppendHead || cache.head_dim() % 2 != 0 ||
        dtypeOf(v) != cache.dtype() || !suits(k, cache) || (!q.isEmpty() && !suits(q, cache)) ||
        dtypeOf(stage_.k) != cache.dtype()) {
      no(cat("expected q, k, v and cache in BF16 or F16 alike, heads of an even number of elements up to ",
             kMaxAppendHead, ", and norms of each head or of all"));
      return false;
    }
    if ((q.rope != nullptr) != (k.rope != nullptr) ||
        (q.rope && (q.rope->table() != k.rope->table() || q.rope->style() != k.rope->style()))) {
      no("q and k are not rotated alike");
      return false;
    }
    stage_.headNorms[0] = q.norm;
    stage_.headNorms[1] = k.norm;
    stage_.ropes[0] = q.rope;
    stage_.ropes[1] = k.rope;
    if (!q.isEmpty()) {
      stage_.input = q.input();
      stage_.outputs = {q.out()};
    }
    return true;
  }

  bool suits(const Chain &chain, const plan::KvCache &cache) const {
    if (chain.isEmpty())
      return true;
    const uint32_t width = program_.buffers()->Get(chain.input())->row_elements();
    if (width % cache.head_dim() != 0 || dtypeOf(chain.input()) != cache.dtype() ||
        dtypeOf(chain.out()) != cache.dtype() || (chain.rope && chain.rope->head_dim() != cache.head_dim()))
      return false;
    if (!chain.norm)
      return true;
    const plan::Weight &weight = *plan_.weights()->Get(chain.norm->weight());
    const uint64_t elements = weight.bytes() / dtypeBytes(weight.dtype());
    return weight.dtype() == plan::DType::F32 && weight.placement() == plan::Placement::Load &&
           chain.norm->squares() == -1 && (elements == cache.head_dim() || elements == width);
  }

  bool countUnits() {
    const bool isRouter = stage_.kind == plan::StageKind::Router;
    const bool isRows = stage_.kind == plan::StageKind::Rows; // the last unit of a weight may be one row
    const uint32_t unit = isRouter ? 1 : unitRows(stage_.kind);
    stage_.columns = program_.buffers()->Get(product_)->row_elements();
    const uint32_t experts = isRouter ? program_.buffers()->Get(stage_.route->logits())->row_elements() : 0;
    if (isRouter && (stage_.columns > kMaxRouterColumns || experts > kMaxRouterExperts)) {
      no(cat("a router of ", stage_.columns, " columns to ", experts, " experts, expected at most ", kMaxRouterColumns,
             " and ", kMaxRouterExperts));
      return false;
    }
    const uint32_t most = stage_.layerNorm ? kMaxNormColumns / 2 : kMaxNormColumns; // it has biases too
    if (hasNorm() && stage_.columns > most) {
      no(cat("a norm of ", stage_.columns, " elements, expected at most ", most));
      return false;
    }
    if (stage_.norm) {
      const plan::Weight &weight = *plan_.weights()->Get(stage_.norm->weight());
      if (weight.bytes() / dtypeBytes(weight.dtype()) != stage_.columns || stage_.norm->squares() != -1) {
        no("its norm is one of parts of a row, expected one of whole rows");
        return false;
      }
    }
    uint64_t rows = 0;
    for (const plan::Linear *linear : stage_.linears) {
      const plan::Weight &weight = *plan_.weights()->Get(linear->weight());
      const uint64_t ofWeight = weight.bytes() / dtypeBytes(weight.dtype()) / stage_.columns;
      if (!suits(weight, ofWeight, isRows ? 1 : unit, isRouter ? kRouterColumns : kStageColumns))
        return false;
      rows += (ofWeight + unit - 1) / unit * unit;
    }
    if (rows > INT32_MAX || stage_.columns > INT32_MAX) {
      no(cat("weights of ", rows, " rows and ", stage_.columns, " columns, expected fewer than 2^31"));
      return false;
    }
    if (isRouter) // nobody deals it out
      return true;
    stage_.units = static_cast<uint32_t>(rows / unit / (stage_.kind == plan::StageKind::Glu ? 2 : 1));
    return true;
  }

  const plan::Plan &plan_;
  const plan::Program &program_;
  std::string &why_;
  uint32_t next_, end_;
  uint32_t product_ = 0; // the buffer that is multiplied
  std::vector<uint32_t> written_;
  TileStage stage_;
};

} // namespace

std::optional<TileStage> stageOf(const plan::Plan &plan, const plan::Program &program, const plan::StageTiles &tiles,
                                 std::string &why) {
  return StageReader(plan, program, tiles, why).read();
}

double scheduleImbalance(const plan::Plan &plan, const plan::Program &program) {
  const plan::TileSchedule &schedule = *program.schedule();
  double largest = 0, mean = 0;
  for (const plan::StageTiles *tiles : *schedule.stages()) {
    std::string why;
    const std::optional<TileStage> stage = stageOf(plan, program, *tiles, why);
    if (!stage || stage->units == 0)
      continue;
    uint32_t share = 0;
    for (uint32_t s = 0; s < schedule.sms(); ++s)
      share = std::max(share, tiles->bounds()->Get(s + 1) - tiles->bounds()->Get(s));
    const double unit = double(unitRows(stage->kind)) * (stage->kind == plan::StageKind::Glu ? 2 : 1) * stage->columns;
    largest += share * unit;
    mean += stage->units * unit / schedule.sms();
  }
  return mean > 0 ? largest / mean - 1 : 0;
}

} // namespace distc
