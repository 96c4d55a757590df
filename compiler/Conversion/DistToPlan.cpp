#include "compiler/Conversion/Weights.h"
#include "runtime/schema/PlanFile.h"

#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/TypeSwitch.h"

namespace distc {
#define GEN_PASS_DEF_DISTTOPLAN
#include "compiler/Transforms/Passes.h.inc"
} // namespace distc

using namespace mlir;
using namespace distc;

namespace {

constexpr int64_t kCacheAlignment = 16;

int64_t attr(DictionaryAttr dictionary, StringRef name) {
  auto value = dictionary ? dictionary.getAs<IntegerAttr>(name) : IntegerAttr();
  return value ? value.getInt() : 0;
}

std::string labelOf(Value value) {
  if (auto name = dyn_cast<NameLoc>(value.getLoc()))
    return name.getName().str();
  return "value";
}

std::string labelOf(Operation *op) {
  if (auto name = dyn_cast<NameLoc>(op->getLoc()))
    return name.getName().str();
  return op->getName().stripDialect().str();
}

// One program: a function of one stage to a plan.program.
class ProgramConverter {
public:
  ProgramConverter(planir::RankOp rank, SymbolTable &symbols, MeshShape mesh, DictionaryAttr limits, int64_t vocabulary,
                   const DistToPlanOptions &options)
      : builder_(rank.getContext()), rank_(rank), symbols_(symbols), mesh_(mesh), limits_(limits),
        vocabulary_(vocabulary), options_(options) {}

  LogicalResult convert(func::FuncOp function, int64_t &nextId) {
    auto regime = function->getAttrOfType<StringAttr>("llm.regime");
    if (!regime || !llvm::equal(function.getArgumentTypes(), TypeRange{llm::BatchType::get(ctx())}))
      return function.emitOpError() << "expected an attribute llm.regime and one argument of type !llm.batch";
    decode_ = regime.getValue() == "decode";
    int64_t batch = attr(limits_, "max_batch"), step = decode_ ? batch : attr(limits_, "max_tokens"),
            microBatches = decode_ ? options_.decodeMicroBatches : options_.microBatches;
    maxTokens_ = llvm::divideCeil(step, microBatches);
    maxOutputs_ = std::min(batch, maxTokens_);
    builder_.setInsertionPointToEnd(&rank_.getBody().front());
    auto program = planir::ProgramOp::create(
        builder_, function.getLoc(), decode_ ? planir::Regime::Decode : planir::Regime::Prefill, maxTokens_,
        std::min(batch, maxTokens_), maxOutputs_, /*queues=*/1, /*events=*/0, microBatches, /*arena_bytes=*/0);
    Block *body = &program.getBody().emplaceBlock();
    builder_.setInsertionPointToStart(body);
    nextId_ = nextId;
    for (Operation &op : function.getBody().front())
      if (failed(convertOp(&op)))
        return failure();
    nextId = nextId_;
    order(program);
    return success();
  }

private:
  // Buffers -----------------------------------------------------------------------------------------------------------

  // How many rows a value has (runtime/schema/plan.fbs, Buffer).
  struct Rows {
    planir::RowUnit unit;
    int64_t times = 1, shards = 1, chunk = 0, chunks = 1;
  };
  static Rows rowsOf(planir::BufferOp buffer) {
    auto number = [](uint64_t value) { return static_cast<int64_t>(value); };
    return {buffer.getRows(), number(buffer.getTimes()), number(buffer.getShards()), number(buffer.getChunk()),
            number(buffer.getChunks())};
  }

  Value declare(Value value, Rows rows, planir::LayoutKind layout, int64_t dim = -1) {
    auto type = cast<RankedTensorType>(value.getType());
    if (llm::isScattered(type)) {
      layout = planir::LayoutKind::Split;
      dim = 0;
      rows.shards = mesh_.tp;
    }
    SmallVector<int64_t> dims(type.getShape().drop_front());
    int64_t elements = 1;
    for (int64_t size : dims)
      elements *= size;
    if (layout == planir::LayoutKind::Split && dim > 0)
      dims[dim - 1] *= mesh_.tp;
    // A chunk of what somebody needs whole is made in its place there.
    Value parent;
    for (Operation *user : value.getUsers())
      if (auto concat = dyn_cast<dist::ConcatOp>(user)) {
        parent = buffers_.lookup(concat.getResult());
        if (!parent)
          parent = declare(concat.getResult(), {rows.unit, rows.times, rows.shards}, layout, dim);
      }
    return buffers_[value] = place(value, rows, layout, dim, dims, elements, parent);
  }

  Value place(Value value, Rows rows, planir::LayoutKind layout, int64_t dim, ArrayRef<int64_t> dims, int64_t elements,
              Value parent) {
    llm::DType dtype = llm::dtypeOf(getElementTypeOrSelf(value));
    int64_t maxRows = (rows.unit == planir::RowUnit::Tokens ? maxTokens_ : maxOutputs_) * rows.times;
    maxRows = llvm::divideCeil(maxRows, rows.shards);
    OpBuilder::InsertionGuard guard(builder_);
    if (lastBuffer_)
      builder_.setInsertionPointAfter(lastBuffer_);
    else
      builder_.setInsertionPointToStart(builder_.getBlock());
    auto buffer = planir::BufferOp::create(
        builder_, value.getLoc(), planir::BufferType::get(ctx()), labelOf(value), rows.unit, dims, layout, dim, dtype,
        elements, llvm::divideCeil(maxRows, rows.chunks) * elements * dtypeBytes(static_cast<plan::DType>(dtype)),
        IntegerAttr(), rows.times, rows.shards, rows.chunk, rows.chunks, parent);
    lastBuffer_ = buffer;
    return buffer;
  }

  MLIRContext *ctx() { return builder_.getContext(); }
  planir::BufferOp bufferOf(Value value) { return cast<planir::BufferOp>(buffers_.lookup(value).getDefiningOp()); }

  // A result that lies as `input` does.
  Value like(Value value, Value input) {
    planir::BufferOp from = bufferOf(input);
    return declare(value, rowsOf(from), from.getLayout(), from.getDim());
  }
  Rows outputRows() const { return {decode_ ? planir::RowUnit::Tokens : planir::RowUnit::Outputs}; }

  // Instructions ------------------------------------------------------------------------------------------------------

  template <typename Op, typename... Args> Op emit(Operation *from, Args &&...args) {
    auto op = Op::create(builder_, from->getLoc(), builder_.getI64IntegerAttr(nextId_++), std::forward<Args>(args)...,
                         builder_.getI64IntegerAttr(0), builder_.getDenseI64ArrayAttr({}), IntegerAttr(),
                         builder_.getStringAttr(labelOf(from)));
    return op;
  }
  template <typename Op, typename... Args>
  Op emitComm(Operation *from, dist::Group group, bool numbered, Args &&...args) {
    int64_t peer = group == dist::Group::TP ? -1 : peer_;
    int64_t &sequence = sequences_[{static_cast<int>(group), peer, numbered}];
    Op op = emit<Op>(from, FlatSymbolRefAttr::get(ctx(), dist::stringifyGroup(group)),
                     builder_.getI64IntegerAttr(sequence++), std::forward<Args>(args)...);
    op.setQueue(1);
    return op;
  }
  IntegerAttr i64(int64_t value) { return builder_.getI64IntegerAttr(value); }
  planir::ReduceKindAttr reduceKind(dist::Reduction reduction) {
    return planir::ReduceKindAttr::get(ctx(), static_cast<planir::ReduceKind>(reduction));
  }

  llm::ParamOp paramOf(StringRef name) { return symbols_.lookup<llm::ParamOp>(name); }

  LogicalResult convertOp(Operation *op) {
    return TypeSwitch<Operation *, LogicalResult>(op)
        .Case([&](llm::EmbeddingOp x) {
          auto layout =
              paramOf(x.getWeight()).getSplitDim() ? planir::LayoutKind::Partial : planir::LayoutKind::Replicated;
          Value out = declare(x, {planir::RowUnit::Tokens}, layout);
          emit<planir::EmbeddingOp>(x, x.getWeightAttr(), i64(0), out);
          return success();
        })
        .Case([&](llm::RmsNormOp x) {
          Value in = buffers_[x.getInput()];
          Value squares = x.getSquares() ? buffers_[x.getSquares()] : Value();
          emit<planir::RmsNormOp>(x, in, x.getWeightAttr(), x.getEpsAttr(), x.getOffsetAttr(), squares,
                                  x.getColumnAttr(), x.getElementsAttr(), like(x, x.getInput()));
          return success();
        })
        .Case([&](llm::SquareSumOp x) {
          Value a = buffers_[x.getInputs()[0]], b = x.getInputs().size() > 1 ? buffers_[x.getInputs()[1]] : Value();
          planir::BufferOp from = bufferOf(x.getInputs()[0]);
          auto layout = from.getLayout() == planir::LayoutKind::Split ? planir::LayoutKind::Partial : from.getLayout();
          emit<planir::SquareSumOp>(x, a, b, declare(x, rowsOf(from), layout));
          return success();
        })
        .Case([&](llm::ScaleOp x) {
          Value in = buffers_[x.getInput()];
          emit<planir::ScaleOp>(x, in, x.getFactorAttr(), like(x, x.getInput()));
          return success();
        })
        .Case([&](llm::SoftCapOp x) {
          Value in = buffers_[x.getInput()];
          emit<planir::SoftCapOp>(x, in, x.getCapAttr(), like(x, x.getInput()));
          return success();
        })
        .Case([&](llm::LayerNormOp x) {
          Value in = buffers_[x.getInput()];
          emit<planir::LayerNormOp>(x, in, x.getWeightAttr(), x.getBiasAttr(), x.getEpsAttr(), like(x, x.getInput()));
          return success();
        })
        .Case([&](llm::PositionEmbeddingOp x) {
          Value in = buffers_[x.getInput()];
          emit<planir::PositionEmbeddingOp>(x, in, x.getWeightAttr(), like(x, x.getInput()));
          return success();
        })
        .Case([&](llm::ActivateOp x) {
          Value in = buffers_[x.getInput()];
          emit<planir::ActivateOp>(x, x.getActivationAttr(), in, like(x, x.getInput()));
          return success();
        })
        .Case([&](llm::LinearOp x) { return convertLinear(x); })
        .Case([&](llm::RopeOp x) {
          ArrayRef<int64_t> shape = cast<RankedTensorType>(x.getInput().getType()).getShape();
          Value in = buffers_[x.getInput()];
          emit<planir::RopeOp>(x, in, x.getTableAttr(), x.getStyleAttr(), i64(shape[1]), i64(shape[2]),
                               like(x, x.getInput()));
          return success();
        })
        .Case([&](llm::KvAppendOp x) {
          emit<planir::KvAppendOp>(x, buffers_[x.getK()], buffers_[x.getV()], x.getCacheAttr());
          return success();
        })
        .Case([&](llm::AttentionOp x) {
          int64_t heads = cast<RankedTensorType>(x.getQ().getType()).getShape()[1];
          Value in = buffers_[x.getQ()];
          emit<planir::AttentionOp>(x, in, x.getCacheAttr(), i64(heads), x.getScaleAttr(), x.getWindowAttr(),
                                    x.getSoftCapAttr(), like(x, x.getQ()));
          return success();
        })
        .Case([&](llm::AddOp x) {
          Value a = buffers_[x.getLhs()], b = buffers_[x.getRhs()];
          emit<planir::AddOp>(x, a, b, like(x, x.getLhs()));
          return success();
        })
        .Case([&](llm::GluOp x) {
          Value gate = buffers_[x.getGate()], up = buffers_[x.getUp()];
          emit<planir::GluOp>(x, x.getActivationAttr(), gate, up, like(x, x.getGate()));
          return success();
        })
        .Case([&](llm::RouteOp x) {
          Value in = buffers_[x.getLogits()];
          emit<planir::RouteOp>(x, in, x.getCountAttr(), x.getNormalizeAttr(), like(x, x.getLogits()));
          return success();
        })
        .Case([&](llm::ExpertLinearOp x) {
          std::optional<unsigned> split = paramOf(x.getWeight()).getSplitDim();
          auto layout = !split        ? planir::LayoutKind::Replicated
                        : *split == 2 ? planir::LayoutKind::Partial
                                      : planir::LayoutKind::Split;
          planir::BufferOp in = bufferOf(x.getInput());
          Value routes = buffers_[x.getRoutes()],
                out = declare(x, rowsOf(in), layout, layout == planir::LayoutKind::Split ? 2 : -1);
          emit<planir::ExpertLinearOp>(x, in.getBuffer(), routes, x.getWeightAttr(), out);
          return success();
        })
        .Case([&](llm::CombineOp x) {
          Value in = buffers_[x.getInput()], routes = buffers_[x.getRoutes()];
          emit<planir::CombineOp>(x, in, routes, like(x, x.getInput()));
          return success();
        })
        .Case([&](llm::SelectOutputsOp x) {
          Value in = buffers_[x.getInput()];
          emit<planir::SelectRowsOp>(x, in, declare(x, {planir::RowUnit::Outputs}, planir::LayoutKind::Replicated));
          return success();
        })
        .Case([&](llm::TopCandidatesOp x) {
          Value in = buffers_[x.getLogits()];
          bool split = bufferOf(x.getLogits()).getLayout() == planir::LayoutKind::Split;
          Value out = declare(x, outputRows(), split ? planir::LayoutKind::Split : planir::LayoutKind::Replicated,
                              split ? 0 : -1);
          emit<planir::TopCandidatesOp>(x, in, i64(0), i64(std::min(vocabulary_, width(x.getLogits()))),
                                        x.getCountAttr(), out);
          return success();
        })
        .Case([&](llm::SampleOp x) {
          planir::BufferOp in = bufferOf(x.getCandidates());
          Value out = declare(x, outputRows(), planir::LayoutKind::Replicated);
          emit<planir::SampleOp>(x, in.getBuffer(), i64(in.getTimes()), i64(in.getDims()[0] - 2), out);
          return success();
        })
        .Case([&](dist::AllReduceStartOp x) {
          Value in = buffers_[x.getInput()];
          Value out = declare(waited(x), rowsOf(bufferOf(x.getInput())), planir::LayoutKind::Replicated);
          emitComm<planir::AllReduceOp>(x, x.getGroup(), true, in, reduceKind(x.getReduction()), out);
          return success();
        })
        .Case([&](dist::ReduceScatterStartOp x) {
          Value in = buffers_[x.getInput()];
          Value out = declare(waited(x), rowsOf(bufferOf(x.getInput())), planir::LayoutKind::Split, 0);
          emitComm<planir::ReduceScatterOp>(x, x.getGroup(), true, in, reduceKind(x.getReduction()), out);
          return success();
        })
        .Case([&](dist::AllGatherStartOp x) {
          Value in = buffers_[x.getInput()];
          Value out = declare(
              waited(x), {bufferOf(x.getInput()).getRows(), llm::isScattered(x.getInput().getType()) ? 1 : mesh_.tp},
              planir::LayoutKind::Replicated);
          emitComm<planir::AllGatherOp>(x, x.getGroup(), true, in, out);
          return success();
        })
        .Case([&](dist::SendStartOp x) {
          peer_ = x.getPeer();
          emitComm<planir::SendOp>(x, x.getGroup(), true, x.getPeerAttr(), buffers_[x.getInput()]);
          return success();
        })
        .Case([&](dist::RecvStartOp x) {
          Value value = waited(x);
          bool ids = getElementTypeOrSelf(value).isInteger(32);
          Value out =
              declare(value, ids ? outputRows() : Rows{planir::RowUnit::Tokens}, planir::LayoutKind::Replicated);
          peer_ = x.getPeer();
          emitComm<planir::RecvOp>(x, x.getGroup(), false, x.getPeerAttr(), out);
          return success();
        })
        .Case([&](dist::ChunkOp x) {
          planir::BufferOp from = bufferOf(x.getInput());
          Rows rows = rowsOf(from);
          rows.chunk = x.getChunk();
          rows.chunks = x.getChunks();
          buffers_[x.getResult()] =
              place(x, rows, from.getLayout(), from.getDim(), from.getDims(), from.getRowElements(), from.getBuffer());
          return success();
        })
        .Case([&](dist::ConcatOp x) -> LogicalResult { // its parts have been made in their places
          if (buffers_.lookup(x.getResult()))
            return success();
          return x.emitOpError() << "joins chunks of a value that is whole";
        })
        .Case([&](dist::WaitOp) { return success(); }) // its value is the start's; order() makes the event
        .Case([&](func::ReturnOp x) {
          for (Value value : x.getOperands()) {
            Value in = buffers_[value];
            if (getElementTypeOrSelf(value).isInteger(32))
              emit<planir::EmitIdsOp>(value.getDefiningOp(), in);
            else
              emit<planir::EmitLogitsOp>(value.getDefiningOp(), in, i64(0), i64(std::min(vocabulary_, width(value))));
          }
          return success();
        })
        .Default([](Operation *other) { return other->emitOpError() << "has no plan instruction"; });
  }

  LogicalResult convertLinear(llm::LinearOp x) {
    llm::ParamOp weight = paramOf(x.getWeight());
    unsigned outRank = cast<RankedTensorType>(x.getType()).getRank() - 1;
    std::optional<unsigned> split = weight.getSplitDim();
    auto layout = !split              ? planir::LayoutKind::Replicated
                  : *split >= outRank ? planir::LayoutKind::Partial
                                      : planir::LayoutKind::Split;
    planir::BufferOp in = bufferOf(x.getInput());
    Value out =
        declare(x, rowsOf(in), layout, layout == planir::LayoutKind::Split ? static_cast<int64_t>(*split) + 1 : -1);
    emit<planir::LinearOp>(x, in.getBuffer(), x.getWeightAttr(), x.getBiasAttr(), out);
    return success();
  }

  static Value waited(Operation *start) {
    return cast<dist::WaitOp>(*start->getResult(0).getUsers().begin()).getResult();
  }
  static int64_t width(Value value) { return cast<RankedTensorType>(value.getType()).getShape()[1]; }

  // Events: where an instruction reads what the other queue has written and that is not yet ordered.
  void order(planir::ProgramOp program) {
    DenseMap<Value, SmallVector<std::pair<planir::BufferOp, planir::InstructionOpInterface>>>
        writers; // by whose memory
    int64_t events = 0, queues = 1;
    std::map<std::pair<uint64_t, int64_t>, bool> seen; // queue, event
    for (auto instruction : program.getBody().getOps<planir::InstructionOpInterface>()) {
      uint64_t queue = instruction.getQueue();
      queues = std::max<int64_t>(queues, queue + 1);
      SmallVector<int64_t> waits;
      for (Value read : instruction.getReads()) {
        auto buffer = cast<planir::BufferOp>(read.getDefiningOp());
        for (auto [written, writer] : writers[buffer.getMemory()]) {
          if (writer.getQueue() == queue || written.hasOtherRowsThan(buffer))
            continue;
          if (!writer.getSignal())
            writer->setAttr("signal", builder_.getI64IntegerAttr(events++));
          int64_t event = *writer.getSignal();
          if (!std::exchange(seen[{queue, event}], true))
            waits.push_back(event);
        }
      }
      if (!waits.empty())
        instruction->setAttr("waits", builder_.getDenseI64ArrayAttr(waits));
      if (Value out = instruction.getWritten()) {
        auto buffer = cast<planir::BufferOp>(out.getDefiningOp());
        writers[buffer.getMemory()].push_back({buffer, instruction});
      }
    }
    program.setEvents(events);
    program.setQueues(queues);
  }

  OpBuilder builder_;
  planir::RankOp rank_;
  SymbolTable &symbols_;
  MeshShape mesh_;
  DictionaryAttr limits_;
  int64_t vocabulary_;
  const DistToPlanOptions &options_;
  int64_t maxTokens_ = 0, maxOutputs_ = 0, nextId_ = 0, peer_ = -1;
  bool decode_ = false;
  Operation *lastBuffer_ = nullptr;
  DenseMap<Value, Value> buffers_; // looked up only
  std::map<std::tuple<int, int64_t, bool>, int64_t> sequences_;
};

struct DistToPlanPass : distc::impl::DistToPlanBase<DistToPlanPass> {
  using DistToPlanBase::DistToPlanBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (microBatches < 1 || decodeMicroBatches < 1) {
      module.emitError() << "expected at least 1 micro-batch, got " << microBatches << " and " << decodeMicroBatches;
      return signalPassFailure();
    }
    FailureOr<MeshShape> mesh = getMesh(module);
    if (failed(mesh))
      return signalPassFailure();
    auto info = module->getAttrOfType<DictionaryAttr>("llm.model");
    auto limits = module->getAttrOfType<DictionaryAttr>("llm.limits");
    if (!info || !limits) {
      module.emitError() << "expected attributes llm.model and llm.limits";
      return signalPassFailure();
    }
    SymbolTable table(module);
    int64_t firstLayer = 0;
    for (int64_t stage = 0; stage < mesh->pp; ++stage)
      if (failed(convertStage(module, table, *mesh, info, limits, stage, firstLayer)))
        return signalPassFailure();
  }

  LogicalResult convertStage(ModuleOp module, SymbolTable &table, MeshShape mesh, DictionaryAttr info,
                             DictionaryAttr limits, int64_t stage, int64_t &firstLayer) {
    SmallVector<func::FuncOp> programs;
    for (auto function : module.getOps<func::FuncOp>())
      if (auto at = function->getAttrOfType<IntegerAttr>("dist.stage"); at && at.getInt() == stage)
        programs.push_back(function);

    OpBuilder builder(module.getBody(), module.getBody()->end());
    auto target = module->getAttrOfType<StringAttr>("llm.target");
    auto rank =
        planir::RankOp::create(builder, module.getLoc(), "rank" + std::to_string(stage * mesh.tp),
                               "distc " DISTC_VERSION, target ? target.getValue() : "cpu", builder.getStrArrayAttr({}));
    builder.setInsertionPointToStart(&rank.getBody().emplaceBlock());
    Location loc = module.getLoc();
    auto text = [&](StringRef name) { return info.getAs<StringAttr>(name); };
    planir::ModelOp::create(builder, loc, text("name"), text("family"), number(builder, info, "vocabulary"),
                            number(builder, info, "hidden"), number(builder, info, "layers"),
                            number(builder, info, "parameters"), number(builder, info, "context"), text("tokenizer"));

    // What the programs use, in the order of use.
    llvm::SetVector<Operation *> symbols;
    for (func::FuncOp program : programs)
      program.walk([&](Operation *op) {
        for (NamedAttribute attribute : op->getAttrs())
          if (auto symbol = dyn_cast<FlatSymbolRefAttr>(attribute.getValue()))
            symbols.insert(table.lookup(symbol.getAttr()));
      });
    int64_t layers = llvm::count_if(symbols, [](Operation *op) { return isa<llm::KvCacheOp>(op); });
    planir::MeshOp::create(builder, loc, mesh.tp, mesh.pp, stage * mesh.tp, stage, 0, firstLayer, layers);
    firstLayer += layers;
    int64_t sequence = attr(limits, "max_sequence"), block = attr(limits, "kv_block"),
            batch = attr(limits, "max_batch");
    planir::LimitsOp::create(builder, loc, batch, attr(limits, "max_tokens"), sequence, block);
    auto ledger = planir::LedgerOp::create(builder, loc, 0, 0, 0, 0, 0);
    SmallVector<int64_t> tpRanks, ppRanks;
    for (int64_t t = 0; t < mesh.tp; ++t)
      tpRanks.push_back(stage * mesh.tp + t);
    for (int64_t s = 0; s < mesh.pp; ++s)
      ppRanks.push_back(s * mesh.tp);
    planir::GroupOp::create(builder, loc, "tp", tpRanks);
    planir::GroupOp::create(builder, loc, "pp", ppRanks);

    int64_t perSequence = llvm::divideCeil(sequence, block), blocks = perSequence * batch, kvBytes = 0, tables = 0;
    planir::KvPoolOp::create(builder, loc, block, blocks, perSequence);
    SmallVector<llm::ParamOp> params;
    for (Operation *symbol : symbols) {
      if (auto param = dyn_cast<llm::ParamOp>(symbol)) {
        params.push_back(param);
      } else if (auto cache = dyn_cast<llm::KvCacheOp>(symbol)) {
        llm::KvCacheType type = cache.getCacheType();
        llm::DType dtype = llm::dtypeOf(type.getElementType());
        int64_t bytes =
            blocks * 2 * type.getHeads() * block * type.getHeadDim() * dtypeBytes(static_cast<plan::DType>(dtype));
        int64_t offset = llvm::alignTo(kvBytes, kCacheAlignment);
        planir::KvCacheOp::create(builder, cache.getLoc(), cache.getSymName(), cache.getLayer(), type.getHeads(),
                                  type.getHeadDim(), dtype, offset, bytes);
        kvBytes = offset + bytes;
      } else if (auto table = dyn_cast<llm::RopeTableOp>(symbol)) {
        planir::RopeTableOp::create(builder, table.getLoc(), table.getSymName(), table.getInvFreq(),
                                    table.getMagnitude(), table.getOver());
        tables += sequence * table.getInvFreq().size() * 2 * sizeof(float);
      }
    }
    ledger.setKv(kvBytes);
    ledger.setTables(tables);
    declareWeights(rank, params, table, mesh.tp, 0);

    int64_t nextId = 0;
    DistToPlanOptions options;
    options.microBatches = microBatches;
    options.decodeMicroBatches = decodeMicroBatches;
    for (func::FuncOp program : programs)
      if (failed(
              ProgramConverter(rank, table, mesh, limits, attr(info, "vocabulary"), options).convert(program, nextId)))
        return failure();
    return success();
  }

  static IntegerAttr number(OpBuilder &builder, DictionaryAttr info, StringRef name) {
    return builder.getI64IntegerAttr(attr(info, name));
  }
};

} // namespace
