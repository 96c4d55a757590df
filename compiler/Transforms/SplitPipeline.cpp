#include "compiler/Transforms/Passes.h"

#include "runtime/schema/PlanFile.h"

#include "mlir/IR/IRMapping.h"

namespace distc {
#define GEN_PASS_DEF_SPLITPIPELINE
#include "compiler/Transforms/Passes.h.inc"
} // namespace distc

using namespace mlir;
using namespace distc;

namespace {

// Bytes of weights: what a decode step streams, and what must be held.
struct Cost {
  int64_t time = 0, memory = 0;
};

int64_t paramBytes(llm::ParamOp param) {
  RankedTensorType type = param.getTensorType();
  return bytesOf(static_cast<plan::DType>(llm::dtypeOf(type.getElementType())), type.getNumElements());
}

// Cost of the ops before the first layer, and of each layer; what follows the last one is on its stage in any case, and
// counts to it.
struct ModelCost {
  Cost begin;
  SmallVector<Cost> layers;
};

// Layers of each stage such that the largest weight of a stage is as small as can be, and that weight.
struct Split {
  int64_t largest = INT64_MAX;
  SmallVector<int64_t> layers;
};

// `weigh(stage, first, last)` is the weight of a stage that holds layers [first, last). O(stages · layers²).
template <typename Weigh> Split smallestMaximum(int64_t layers, int64_t stages, Weigh weigh) {
  // best[s][l]: the first s stages hold the first l layers.
  std::vector best(stages + 1, std::vector<int64_t>(layers + 1, INT64_MAX));
  std::vector from(stages + 1, std::vector<int64_t>(layers + 1, 0));
  best[0][0] = 0;
  for (int64_t s = 1; s <= stages; ++s)
    for (int64_t last = s; last <= layers; ++last)
      for (int64_t first = s - 1; first < last; ++first) {
        int64_t candidate = std::max(best[s - 1][first], weigh(s - 1, first, last));
        if (candidate < best[s][last]) {
          best[s][last] = candidate;
          from[s][last] = first;
        }
      }
  Split split{best[stages][layers], SmallVector<int64_t>(stages)};
  for (int64_t s = stages, last = layers; s > 0; last = from[s][last], --s)
    split.layers[s - 1] = last - from[s][last];
  return split;
}

// The fastest splits first, among these the one whose fullest stage is the emptiest.
SmallVector<int64_t> balance(const ModelCost &cost, int64_t stages) {
  int64_t layers = cost.layers.size();
  SmallVector<Cost> prefix(layers + 1);
  for (int64_t i = 0; i < layers; ++i)
    prefix[i + 1] = {prefix[i].time + cost.layers[i].time, prefix[i].memory + cost.layers[i].memory};
  auto sum = [&](int64_t Cost::*part, int64_t stage, int64_t first, int64_t last) {
    return prefix[last].*part - prefix[first].*part + (stage == 0 ? cost.begin.*part : 0);
  };
  auto time = [&](int64_t stage, int64_t first, int64_t last) { return sum(&Cost::time, stage, first, last); };
  int64_t fastest = smallestMaximum(layers, stages, time).largest;
  return smallestMaximum(layers, stages,
                         [&](int64_t stage, int64_t first, int64_t last) {
                           return time(stage, first, last) > fastest ? INT64_MAX
                                                                     : sum(&Cost::memory, stage, first, last);
                         })
      .layers;
}

struct SplitPipelinePass : distc::impl::SplitPipelineBase<SplitPipelinePass> {
  using SplitPipelineBase::SplitPipelineBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<MeshShape> mesh = getMesh(module);
    auto decode = module.lookupSymbol<func::FuncOp>("decode");
    if (failed(mesh) || !decode) {
      if (!decode)
        module.emitError() << "expected a function @decode";
      return signalPassFailure();
    }
    FailureOr<SmallVector<int64_t>> split = chooseSplit(decode, mesh->pp);
    if (failed(split))
      return signalPassFailure();
    SmallVector<func::FuncOp> programs(module.getOps<func::FuncOp>());
    for (func::FuncOp program : programs)
      if (program.getNumArguments() != 1 || program.getNumResults() != 2) {
        program.emitOpError() << "expected a batch as the only argument, ids and logits as the results";
        return signalPassFailure();
      }
    for (func::FuncOp program : programs) {
      splitProgram(program, *split);
      program.erase();
    }
  }

  FailureOr<SmallVector<int64_t>> chooseSplit(func::FuncOp program, int64_t stages) {
    ModelCost cost = measure(program);
    int64_t count = cost.layers.size();
    if (stages > count) {
      program.emitError() << "pipeline parallel degree " << stages << " is more than the model's " << count
                          << " layers; the largest that works is --pp " << count;
      return failure();
    }
    if (layers.empty())
      return balance(cost, stages);
    SmallVector<int64_t> given(layers.begin(), layers.end());
    int64_t sum = 0;
    for (int64_t n : given)
      sum += n;
    if (static_cast<int64_t>(given.size()) != stages || sum != count ||
        llvm::any_of(given, [](int64_t n) { return n < 1; })) {
      program.emitError() << "--pp-split gives " << given.size() << " stages with " << sum << " layers; expected "
                          << stages << " stages of at least 1 layer, " << count << " layers together";
      return failure();
    }
    return given;
  }

  ModelCost measure(func::FuncOp program) {
    SymbolTableCollection tables;
    ModelCost cost;
    for (Operation &op : program.getBody().front()) {
      if (isa<llm::LayerOp>(op)) {
        cost.layers.emplace_back();
        continue;
      }
      Cost &at = cost.layers.empty() ? cost.begin : cost.layers.back();
      for (NamedAttribute attribute : op.getAttrs())
        if (auto symbol = dyn_cast<FlatSymbolRefAttr>(attribute.getValue()))
          if (auto param = dyn_cast_or_null<llm::ParamOp>(tables.lookupNearestSymbolFrom(&op, symbol))) {
            int64_t bytes = paramBytes(param);
            at.memory += bytes;
            at.time += isa<llm::EmbeddingOp>(op) ? 0 : bytes;
          }
    }
    return cost;
  }

  void splitProgram(func::FuncOp program, ArrayRef<int64_t> split) {
    // The stage of each op.
    SmallVector<std::pair<Operation *, int64_t>> ops;
    DenseMap<Value, int64_t> stageOf;
    int64_t stage = 0, left = split[0] + 1; // the first layer op does not end stage 0
    for (Operation &op : program.getBody().front()) {
      if (isa<llm::LayerOp>(op) && --left == 0) {
        ++stage;
        left = split[stage];
      }
      ops.push_back({&op, stage});
      for (Value result : op.getResults())
        stageOf[result] = stage;
    }
    int64_t stages = split.size();
    auto result = cast<func::ReturnOp>(ops.back().first);
    Value ids = result.getOperand(0), logits = result.getOperand(1);

    // Values that cross into each stage, in program order: defined before it, used in it or after it.
    SmallVector<SmallVector<Value>> incoming(stages);
    for (auto [op, opStage] : ops)
      for (Value value : op->getResults()) {
        int64_t last = opStage;
        for (Operation *user : value.getUsers())
          if (!isa<func::ReturnOp>(user))
            last = std::max(last, user->getNumResults() ? stageOf.lookup(user->getResult(0)) : stageOfUser(ops, user));
        for (int64_t s = opStage + 1; s <= last; ++s)
          incoming[s].push_back(value);
      }

    OpBuilder builder(program);
    for (stage = 0; stage < stages; ++stage) {
      builder.setInsertionPoint(program);
      auto function = func::FuncOp::create(builder, program.getLoc(),
                                           "stage" + std::to_string(stage) + "_" + program.getSymName().str(),
                                           program.getFunctionType());
      function->setAttr("llm.regime", program->getAttr("llm.regime"));
      function->setAttr("dist.stage", builder.getI64IntegerAttr(stage));
      Block *body = function.addEntryBlock();
      builder.setInsertionPointToStart(body);
      IRMapping mapping;
      mapping.map(program.getArgument(0), body->getArgument(0));
      for (Value value : incoming[stage])
        mapping.map(value, receive(builder, value, stage - 1));
      for (auto [op, opStage] : ops) {
        if (opStage != stage || isa<func::ReturnOp>(op))
          continue;
        if (auto layer = dyn_cast<llm::LayerOp>(op))
          mapping.map(layer.getResult(), mapping.lookup(layer.getInput()));
        else
          builder.clone(*op, mapping);
      }
      if (stage + 1 < stages)
        for (Value value : incoming[stage + 1])
          send(builder, mapping.lookup(value), stage + 1);
      // Ids go back to stage 0, which hands them out; logits are handed out where they are.
      SmallVector<Value> results;
      if (stages == 1)
        results = {mapping.lookup(ids), mapping.lookup(logits)};
      else if (stage == 0)
        results = {receive(builder, ids, stages - 1)};
      else if (stage == stages - 1) {
        send(builder, mapping.lookup(ids), 0);
        results = {mapping.lookup(logits)};
      }
      func::ReturnOp::create(builder, result.getLoc(), results);
      refreshSignature(function);
    }
  }

  static int64_t stageOfUser(ArrayRef<std::pair<Operation *, int64_t>> ops, Operation *user) {
    for (auto [op, stage] : ops)
      if (op == user)
        return stage;
    return 0;
  }

  static Value receive(OpBuilder &builder, Value value, int64_t peer) {
    auto token = dist::TokenType::get(builder.getContext(), value.getType());
    Value started = dist::RecvStartOp::create(builder, value.getLoc(), token, peer, dist::Group::PP);
    return dist::WaitOp::create(builder, value.getLoc(), value.getType(), started).getResult();
  }

  static void send(OpBuilder &builder, Value value, int64_t peer) {
    auto token = dist::TokenType::get(builder.getContext(), Type());
    Value started = dist::SendStartOp::create(builder, value.getLoc(), token, value, peer, dist::Group::PP);
    dist::WaitOp::create(builder, value.getLoc(), Type(), started);
  }
};

} // namespace
