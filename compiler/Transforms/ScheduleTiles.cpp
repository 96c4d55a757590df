#include "compiler/Transforms/Passes.h"
#include "runtime/schema/Tiles.h"

#include "llvm/ADT/BitVector.h"

#include <deque>
#include <set>

namespace distc {
#define GEN_PASS_DEF_SCHEDULETILES
#include "compiler/Transforms/Passes.h.inc"
} // namespace distc

using namespace mlir;
using namespace distc;

namespace {

using planir::StageKind;

// Instructions that can be done as one.
struct Match {
  StageKind kind = StageKind::Rows;
  size_t count = 0;                         // 0: none
  SmallVector<planir::LinearOp, 3> linears; // whose weights it streams, in the order of its units
  int64_t units = 0, unitBytes = 0;         // what is dealt out; none of what depends on context or routes
};

// Reads a program's instructions and finds the longest stage that begins at one of them.
class Matcher {
public:
  Matcher(planir::RankOp rank, planir::ProgramOp program)
      : rank_(rank), symbols_(rank), instructions_(program.getBody().getOps<planir::InstructionOpInterface>()) {
    for (planir::InstructionOpInterface instruction : instructions_)
      for (Value read : instruction.getReads())
        ++reads_[read];
  }

  ArrayRef<planir::InstructionOpInterface> instructions() const { return instructions_; }
  planir::WeightOp weight(planir::LinearOp linear) { return symbols_.lookup<planir::WeightOp>(linear.getWeight()); }
  static int64_t columns(planir::LinearOp linear) { return bufferOf(linear.getInput()).getRowElements(); }
  int64_t rows(planir::LinearOp linear) {
    int64_t elements = 1;
    for (int64_t size : weight(linear).getShape())
      elements *= size;
    return elements / columns(linear);
  }

  // Of q, k and v that are no Qkv stage the products come first, so that they are one stage, and what is done with them
  // before they are appended another. What each gives to the next is as before.
  void gatherProducts() {
    for (size_t i = 0; i < instructions_.size(); ++i) {
      auto first = get<planir::LinearOp>(i);
      if (!first || qkv(i).count > 0)
        continue;
      SmallVector<size_t, 3> products{i};
      size_t end = i + 1;
      for (; isa_and_present<planir::LinearOp, planir::RopeOp, planir::RmsNormOp>(op(end)); ++end)
        if (auto linear = get<planir::LinearOp>(end)) {
          if (linear.getInput() != first.getInput())
            break;
          products.push_back(end);
        }
      if (products.size() != 3 || !get<planir::KvAppendOp>(end) || !closed(i, end + 1 - i))
        continue;
      for (size_t p = 1; p < products.size(); ++p) {
        instructions_[products[p]]->moveAfter(instructions_[i + p - 1]);
        std::rotate(instructions_.begin() + i + p, instructions_.begin() + products[p],
                    instructions_.begin() + products[p] + 1);
      }
    }
  }

  Match at(size_t first) {
    if (auto attention = get<planir::AttentionOp>(first)) {
      auto cache = symbols_.lookup<planir::KvCacheOp>(attention.getCache());
      auto pool = *rank_.getOps<planir::KvPoolOp>().begin();
      const bool suits = isHalf(attention.getQ()) && cache.getDtype() == bufferOf(attention.getQ()).getDtype() &&
                         cache.getHeadDim() % 8 == 0 && cache.getHeadDim() <= 256 &&
                         pool.getBlockTokens() % attentionPositions(uint32_t(cache.getHeadDim())) == 0;
      return suits ? Match{StageKind::Attention, 1, {}} : Match{};
    }
    if (get<planir::ExpertLinearOp>(first)) {
      Match match = expertGlu(first);
      if (match.count == 0)
        match = expertSum(first);
      return match.count > 0 && closed(first, match.count) ? match : Match{};
    }
    for (const Match &match : {router(first), append(first), postNorm(first)})
      if (match.count > 0)
        return closed(first, match.count) ? match : Match{};
    // x, or x + addend; then its norm, which the projections alone read.
    size_t i = first;
    auto add = get<planir::AddOp>(i);
    i += add ? 1 : 0;
    auto norm = get<planir::RmsNormOp>(i);
    auto layerNorm = get<planir::LayerNormOp>(i);
    const Value input = norm ? norm.getInput() : layerNorm ? layerNorm.getInput() : Value();
    const Value out = norm ? norm.getOut() : layerNorm ? layerNorm.getOut() : Value();
    if (add && !(input == add.getOut() && isHalf(add.getOut())))
      return {};
    i += out ? 1 : 0;
    Match match = qkv(i);
    if (match.count == 0)
      match = glu(i);
    if (match.count == 0)
      match = linears(i, !out);
    if (match.count == 0)
      return {};
    const int64_t factors = (layerNorm ? 2 : 1) * columns(match.linears[0]); // of the norm, with its biases
    if (out && (factors > int64_t(kMaxNormColumns) || (norm && !ofWholeRows(norm))))
      return {};
    if (layerNorm && match.kind != StageKind::Rows)
      return {};
    size_t readers = match.linears.size();
    if (out && (match.linears[0].getInput() != out || reads_[out] != readers))
      return {};
    match.count += i - first;
    weigh(match);
    return closed(first, match.count) ? match : Match{};
  }

private:
  void weigh(Match &match) {
    const bool pairs = match.kind == StageKind::Glu;
    const int64_t unit =
        match.kind == StageKind::Qkv ? unitRows(plan::StageKind::Qkv) : unitRows(plan::StageKind::Rows);
    for (planir::LinearOp linear : match.linears)
      match.units += (rows(linear) + unit - 1) / unit;
    if (pairs)
      match.units /= 2;
    match.unitBytes = unit * (pairs ? 2 : 1) * columns(match.linears[0]) * 2;
  }

  static planir::BufferOp bufferOf(Value value) { return cast<planir::BufferOp>(value.getDefiningOp()); }
  static bool isHalf(Value value) {
    llm::DType dtype = bufferOf(value).getDtype();
    return dtype == llm::DType::BF16 || dtype == llm::DType::F16;
  }
  Operation *op(size_t i) { return i < instructions_.size() ? instructions_[i].getOperation() : nullptr; }
  template <typename Op> Op get(size_t i) { return dyn_cast_or_null<Op>(op(i)); }
  bool readOnce(Value value) { return reads_[value] == 1; }
  // Of a sum it is one term, not both.
  static bool isTerm(Value value, planir::AddOp add) { return (add.getA() == value) != (add.getB() == value); }
  bool ofWholeRows(planir::RmsNormOp norm) {
    return !norm.getSquares() && symbols_.lookup<planir::WeightOp>(norm.getWeight()).getBytes() / sizeof(float) ==
                                     bufferOf(norm.getInput()).getRowElements();
  }

  // Its weights can be streamed in tiles, in units of so many rows.
  bool fits(planir::LinearOp linear, int64_t unit) {
    return isHalf(linear.getInput()) && weight(linear).getDtype() == bufferOf(linear.getInput()).getDtype() &&
           columns(linear) % kStageColumns == 0 && rows(linear) % unit == 0;
  }

  Match qkv(size_t i) {
    auto q = get<planir::LinearOp>(i), k = get<planir::LinearOp>(i + 2), v = get<planir::LinearOp>(i + 4);
    auto rotatedQ = get<planir::RopeOp>(i + 1), rotatedK = get<planir::RopeOp>(i + 3);
    auto append = get<planir::KvAppendOp>(i + 5);
    if (!q || !k || !v || !rotatedQ || !rotatedK || !append || k.getInput() != q.getInput() ||
        v.getInput() != q.getInput() || rotatedQ.getInput() != q.getOut() || rotatedK.getInput() != k.getOut() ||
        append.getK() != rotatedK.getOut() || append.getV() != v.getOut() ||
        rotatedQ.getTable() != rotatedK.getTable() || rotatedQ.getStyle() != rotatedK.getStyle() ||
        rotatedQ.getHeadDim() != rotatedK.getHeadDim() || rotatedQ.getHeadDim() % 4 != 0)
      return {};
    auto cache = symbols_.lookup<planir::KvCacheOp>(append.getCache());
    auto table = symbols_.lookup<planir::RopeTableOp>(rotatedQ.getTable()); // one set of angles, for whole heads
    if (!table.getOver().empty() || 2 * table.getInvFreq().size() != rotatedQ.getHeadDim())
      return {};
    if (cache.getDtype() != bufferOf(q.getInput()).getDtype() || cache.getHeadDim() != rotatedQ.getHeadDim() ||
        bufferOf(rotatedQ.getOut()).getDtype() != cache.getDtype() || !readOnce(q.getOut()) || !readOnce(k.getOut()) ||
        !readOnce(v.getOut()) || !readOnce(rotatedK.getOut()))
      return {};
    for (planir::LinearOp linear : {q, k, v})
      if (!fits(linear, unitRows(plan::StageKind::Qkv)))
        return {};
    return {StageKind::Qkv, 6, {q, k, v}};
  }

  // The norm of a projection, which alone is added to a residual.
  Match postNorm(size_t i) {
    auto norm = get<planir::RmsNormOp>(i);
    auto add = get<planir::AddOp>(i + 1);
    if (!norm || !add || !isTerm(norm.getOut(), add) || !readOnce(norm.getOut()) || !ofWholeRows(norm) ||
        !isHalf(norm.getInput()) || symbols_.lookup<planir::WeightOp>(norm.getWeight()).getDtype() != llm::DType::F32 ||
        bufferOf(add.getOut()).getDtype() != bufferOf(norm.getInput()).getDtype())
      return {};
    return {StageKind::PostNorm, 2, {}};
  }

  // The norm and the rotation of the heads of q or k.
  struct Chain {
    planir::RmsNormOp norm;
    planir::RopeOp rope;
    Value input() { return norm ? norm.getInput() : rope ? rope.getInput() : Value(); }
    Value out() { return rope ? rope.getOut() : norm ? norm.getOut() : Value(); }
  };
  Chain chain(size_t &i) {
    Chain chain;
    if ((chain.norm = get<planir::RmsNormOp>(i)))
      ++i;
    auto rope = get<planir::RopeOp>(i);
    if (rope && (!chain.norm || rope.getInput() == chain.norm.getOut())) {
      chain.rope = rope;
      ++i;
    }
    return chain;
  }

  // [RmsNorm] [Rope] of q, [RmsNorm] [Rope] of k, KvAppend.
  Match append(size_t first) {
    size_t i = first;
    Chain q = chain(i), k = chain(i);
    auto append = get<planir::KvAppendOp>(i);
    if (!append)
      return {};
    if (!k.out() && q.out() == append.getK())
      std::swap(q, k); // of k alone
    auto cache = symbols_.lookup<planir::KvCacheOp>(append.getCache());
    const Value keys = k.out() ? k.input() : append.getK();
    if ((k.out() && append.getK() != k.out()) || !isHalf(keys) || cache.getHeadDim() > kMaxAppendHead ||
        bufferOf(keys).getDtype() != cache.getDtype() || bufferOf(append.getV()).getDtype() != cache.getDtype() ||
        cache.getHeadDim() % 2 != 0)
      return {};
    if (bool(q.rope) != bool(k.rope) ||
        (q.rope && (q.rope.getTable() != k.rope.getTable() || q.rope.getStyle() != k.rope.getStyle())))
      return {};
    for (Chain chain : {q, k})
      if (chain.out() && !suits(chain, cache))
        return {};
    if (k.out() && !readOnce(k.out()))
      return {};
    // What is made of q is no input of the rest.
    for (Value input : {keys, Value(append.getV())})
      if (q.out() && (input == q.out() || (q.norm && input == q.norm.getOut())))
        return {};
    return {StageKind::Append, i + 1 - first, {}};
  }
  bool suits(Chain chain, planir::KvCacheOp cache) {
    const int64_t width = bufferOf(chain.input()).getRowElements(), dim = cache.getHeadDim();
    if (width % dim != 0 || (chain.rope && int64_t(chain.rope.getHeadDim()) != dim) ||
        bufferOf(chain.input()).getDtype() != cache.getDtype() || bufferOf(chain.out()).getDtype() != cache.getDtype())
      return false;
    if (!chain.norm)
      return true;
    auto weight = symbols_.lookup<planir::WeightOp>(chain.norm.getWeight());
    const int64_t elements = weight.getBytes() / sizeof(float);
    return !chain.norm.getSquares() && weight.getDtype() == llm::DType::F32 && (elements == dim || elements == width) &&
           (!chain.rope || readOnce(chain.norm.getOut()));
  }

  Match glu(size_t i) {
    auto gate = get<planir::LinearOp>(i), up = get<planir::LinearOp>(i + 1);
    auto glu = get<planir::GluOp>(i + 2);
    if (!gate || !up || !glu || up.getInput() != gate.getInput() || glu.getGate() != gate.getOut() ||
        glu.getUp() != up.getOut() || !readOnce(gate.getOut()) || !readOnce(up.getOut()))
      return {};
    for (planir::LinearOp linear : {gate, up})
      if (!fits(linear, unitRows(plan::StageKind::Glu)))
        return {};
    return {StageKind::Glu, 3, {gate, up}};
  }

  // Up to three of one input; what one alone gives may be bent, or added to another value.
  Match linears(size_t i, bool mayAdd) {
    Match match;
    for (; match.count < 3; ++match.count) {
      auto linear = get<planir::LinearOp>(i + match.count);
      if (!linear || !fits(linear, 1) || (match.count > 0 && linear.getInput() != match.linears[0].getInput()))
        break;
      match.linears.push_back(linear);
    }
    if (match.count != 1)
      return match;
    Value out = match.linears[0].getOut();
    size_t next = i + 1;
    if (isa_and_present<planir::ScaleOp, planir::ActivateOp, planir::SoftCapOp>(op(next)) &&
        instructions_[next].getReads()[0] == out && readOnce(out)) {
      match.count = 2;
      if (!get<planir::ScaleOp>(next))
        return match;
      out = instructions_[next++].getWritten();
    }
    auto add = get<planir::AddOp>(next);
    if (mayAdd && add && isTerm(out, add) && readOnce(out) &&
        bufferOf(add.getOut()).getDtype() == bufferOf(match.linears[0].getInput()).getDtype())
      match.count = next + 1 - i;
    return match;
  }

  // The norm that the experts read too, the router's product and the choice.
  Match router(size_t first) {
    size_t i = first;
    auto add = get<planir::AddOp>(i);
    i += add ? 1 : 0;
    auto norm = get<planir::RmsNormOp>(i);
    i += norm ? 1 : 0;
    auto linear = get<planir::LinearOp>(i);
    auto route = get<planir::RouteOp>(i + 1);
    if (!linear || !route || linear.getBias() || route.getLogits() != linear.getOut() || !readOnce(linear.getOut()) ||
        route.getCount() > kMaxRoutes || !isHalf(linear.getInput()) ||
        weight(linear).getDtype() != bufferOf(linear.getInput()).getDtype() || columns(linear) % kRouterColumns != 0 ||
        columns(linear) > int64_t(kMaxRouterColumns) ||
        bufferOf(route.getLogits()).getRowElements() > kMaxRouterExperts)
      return {};
    if (norm && (linear.getInput() != norm.getOut() || !ofWholeRows(norm)))
      return {};
    if (add && (!norm || norm.getInput() != add.getOut()))
      return {};
    return {StageKind::Router, i + 2 - first, {}};
  }

  // The weights of experts: [experts, rows, columns].
  ArrayRef<int64_t> shape(planir::ExpertLinearOp linear) {
    return symbols_.lookup<planir::WeightOp>(linear.getWeight()).getShape();
  }
  static int64_t routes(planir::ExpertLinearOp linear) { return bufferOf(linear.getRoutes()).getRowElements() / 2; }
  bool fits(planir::ExpertLinearOp linear, int64_t rowsOfInput) {
    auto weight = symbols_.lookup<planir::WeightOp>(linear.getWeight());
    return isHalf(linear.getInput()) && weight.getDtype() == bufferOf(linear.getInput()).getDtype() &&
           routes(linear) <= int64_t(kMaxRoutes) && shape(linear)[2] % kStageColumns == 0 &&
           shape(linear)[1] % unitRows(plan::StageKind::ExpertSum) == 0 &&
           int64_t(bufferOf(linear.getInput()).getRowElements()) == rowsOfInput * shape(linear)[2];
  }

  Match expertGlu(size_t i) {
    auto gate = get<planir::ExpertLinearOp>(i), up = get<planir::ExpertLinearOp>(i + 1);
    auto glu = get<planir::GluOp>(i + 2);
    if (!up || !glu || up.getInput() != gate.getInput() || up.getRoutes() != gate.getRoutes() ||
        shape(up) != shape(gate) || glu.getGate() != gate.getOut() || glu.getUp() != up.getOut() ||
        !readOnce(gate.getOut()) || !readOnce(up.getOut()) || !fits(gate, 1) || !fits(up, 1))
      return {};
    return {StageKind::ExpertGlu, 3, {}};
  }

  Match expertSum(size_t i) {
    auto down = get<planir::ExpertLinearOp>(i);
    auto combine = get<planir::CombineOp>(i + 1);
    if (!combine || combine.getInput() != down.getOut() || combine.getRoutes() != down.getRoutes() ||
        !readOnce(down.getOut()) || !fits(down, routes(down)))
      return {};
    const int64_t unit = unitRows(plan::StageKind::ExpertSum);
    Match match{StageKind::ExpertSum, 2, {}, shape(down)[1] / unit, unit * shape(down)[2] * 2 * routes(down)};
    auto add = get<planir::AddOp>(i + 2);
    Value out = combine.getOut();
    if (add && isTerm(out, add) && readOnce(out) &&
        bufferOf(add.getOut()).getDtype() == bufferOf(down.getInput()).getDtype())
      ++match.count;
    return match;
  }

  // Nothing but its first instruction waits, nothing but its last one signals, and all are of the compute queue.
  bool closed(size_t first, size_t count) {
    for (size_t i = first; i < first + count; ++i)
      if (instructions_[i].getQueue() != 0 || (i > first && !instructions_[i].getWaits().empty()) ||
          (i + 1 < first + count && instructions_[i].getSignal()))
        return false;
    return true;
  }

  planir::RankOp rank_;
  SymbolTable symbols_;
  SmallVector<planir::InstructionOpInterface> instructions_;
  DenseMap<Value, size_t> reads_;
};

// Which stages a stage needs, from what its instructions read and what has been written where.
class Dependences {
public:
  // The instructions of a stage come in one call, others alone.
  SmallVector<int64_t> add(ArrayRef<planir::InstructionOpInterface> instructions, std::optional<int64_t> stage) {
    std::set<int64_t> needs;
    for (planir::InstructionOpInterface instruction : instructions)
      for (const void *read : readsOf(instruction)) {
        const std::set<int64_t> &writers = writers_[read];
        needs.insert(writers.begin(), writers.end());
      }
    for (planir::InstructionOpInterface instruction : instructions)
      for (const void *written : writtenBy(instruction))
        writers_[written] = stage ? std::set<int64_t>{*stage} : needs;
    SmallVector<int64_t> waits = reduced(SmallVector<int64_t>(needs.begin(), needs.end()));
    if (stage)
      remember(waits);
    return waits;
  }

private:
  // Without those that the others wait for.
  SmallVector<int64_t> reduced(ArrayRef<int64_t> needs) {
    llvm::BitVector behind(after_.size() + 1);
    SmallVector<int64_t> waits;
    for (int64_t need : llvm::reverse(needs))
      if (!behind.test(need)) {
        waits.insert(waits.begin(), need);
        behind.set(need);
        behind |= after_[need];
      }
    return waits;
  }
  // The stages that have ended before one starts.
  void remember(ArrayRef<int64_t> waits) {
    llvm::BitVector &after = after_.emplace_back(after_.size() + 1);
    for (int64_t wait : waits) {
      after.set(wait);
      after |= after_[wait];
    }
  }

  static const void *cacheOf(planir::InstructionOpInterface instruction) {
    auto cache = instruction->getAttrOfType<FlatSymbolRefAttr>("cache");
    return cache ? cache.getAsOpaquePointer() : nullptr;
  }
  static SmallVector<const void *> readsOf(planir::InstructionOpInterface instruction) {
    SmallVector<const void *> reads;
    for (Value read : instruction.getReads())
      reads.push_back(read.getAsOpaquePointer());
    if (isa<planir::AttentionOp>(instruction.getOperation()))
      reads.push_back(cacheOf(instruction));
    return reads;
  }
  static SmallVector<const void *> writtenBy(planir::InstructionOpInterface instruction) {
    SmallVector<const void *> written;
    if (Value out = instruction.getWritten())
      written.push_back(out.getAsOpaquePointer());
    if (isa<planir::KvAppendOp>(instruction.getOperation()))
      written.push_back(cacheOf(instruction));
    return written;
  }

  DenseMap<const void *, std::set<int64_t>> writers_; // stages, by what they wrote
  std::deque<llvm::BitVector> after_;                 // by stage: references stay good while it grows
};

struct ScheduleTilesPass : distc::impl::ScheduleTilesBase<ScheduleTilesPass> {
  using ScheduleTilesBase::ScheduleTilesBase;

  void runOnOperation() override {
    if (sms > 0)
      for (auto program : getOperation().getBody().getOps<planir::ProgramOp>())
        if (program.getRegime() == planir::Regime::Decode)
          schedule(program);
  }

  void schedule(planir::ProgramOp program) {
    Matcher matcher(getOperation(), program);
    matcher.gatherProducts();
    Dependences dependences;
    OpBuilder builder = OpBuilder::atBlockEnd(&program.getBody().front());
    planir::ScheduleOp::create(builder, program.getLoc(), sms, kMaxRingBytes);
    std::vector<int64_t> streamed(sms, 0);
    int64_t stages = 0;
    for (size_t i = 0; i < matcher.instructions().size();) {
      Match match = matcher.at(i);
      auto instructions = matcher.instructions().slice(i, std::max<size_t>(match.count, 1));
      SmallVector<int64_t> waits =
          dependences.add(instructions, match.count > 0 ? std::optional(stages) : std::nullopt);
      if (match.count > 0) {
        // Layers are alike: with attention the count begins again, so that their stages are too.
        if (match.kind == StageKind::Attention)
          std::fill(streamed.begin(), streamed.end(), 0);
        planir::StageOp::create(builder, program.getLoc(), match.kind, i, match.count, waits, shares(match, streamed));
        ++stages;
      }
      i += instructions.size();
    }
  }

  // Ascending bounds of units. The shares that must be larger by one unit go to whoever has streamed least.
  SmallVector<int64_t> shares(const Match &match, std::vector<int64_t> &streamed) {
    if (match.units == 0)
      return {};
    std::vector<int64_t> order(sms), share(sms, match.units / sms);
    std::iota(order.begin(), order.end(), 0);
    llvm::sort(order, [&](int64_t a, int64_t b) { return std::pair(streamed[a], a) < std::pair(streamed[b], b); });
    for (int64_t i = 0; i < match.units % sms; ++i)
      ++share[order[i]];
    SmallVector<int64_t> bounds{0};
    for (int64_t s = 0; s < sms; ++s) {
      bounds.push_back(bounds.back() + share[s]);
      streamed[s] += share[s] * match.unitBytes;
    }
    return bounds;
  }
};

} // namespace
