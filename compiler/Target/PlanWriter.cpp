#include "compiler/Target/PlanTarget.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace distc {

namespace {

// The dialects' enums are the schema's: the same cases under the same numbers.
template <typename Schema> constexpr bool hasCases(unsigned last) { return static_cast<unsigned>(Schema::MAX) == last; }
static_assert(hasCases<plan::DType>(llm::getMaxEnumValForDType()) &&
              hasCases<plan::Init>(llm::getMaxEnumValForInit()) &&
              hasCases<plan::RopeStyle>(llm::getMaxEnumValForRopeStyle()) &&
              hasCases<plan::Activation>(llm::getMaxEnumValForActivation()) &&
              hasCases<plan::RowUnit>(planir::getMaxEnumValForRowUnit()) &&
              hasCases<plan::LayoutKind>(planir::getMaxEnumValForLayoutKind()) &&
              hasCases<plan::Regime>(planir::getMaxEnumValForRegime()) &&
              hasCases<plan::Placement>(planir::getMaxEnumValForPlacement()) &&
              hasCases<plan::ReduceOp>(planir::getMaxEnumValForReduceKind()) &&
              hasCases<plan::StageKind>(planir::getMaxEnumValForStageKind()));

template <typename To, typename From> To as(From value) { return static_cast<To>(static_cast<uint32_t>(value)); }

std::vector<uint64_t> unsignedOf(ArrayRef<int64_t> values) { return {values.begin(), values.end()}; }

class PlanWriter {
public:
  PlanWriter(planir::RankOp rank) : rank_(rank) {}

  FailureOr<plan::PlanT> write() {
    plan_.producer = rank_.getProducer().str();
    plan_.target = rank_.getTarget().str();
    for (StringRef pass : rank_.getPasses().getAsValueRange<StringAttr>())
      plan_.passes.push_back(pass.str());
    writeHeader();
    for (Operation &op : rank_.getBody().front())
      if (failed(writeDeclaration(&op)))
        return failure();
    return std::move(plan_);
  }

private:
  void writeHeader() {
    auto model = rank_.get<planir::ModelOp>();
    plan_.model = std::make_unique<plan::ModelInfoT>();
    plan_.model->name = model.getModel().str();
    plan_.model->family = model.getFamily().str();
    plan_.model->vocabulary = model.getVocabulary();
    plan_.model->hidden = model.getHidden();
    plan_.model->layers = model.getLayers();
    plan_.model->parameters = model.getParameters();
    plan_.model->context = model.getContext();
    plan_.model->tokenizer = model.getTokenizer().value_or("").str();
    auto mesh = rank_.get<planir::MeshOp>();
    plan_.mesh = std::make_unique<plan::MeshT>();
    plan_.mesh->tp = mesh.getTp();
    plan_.mesh->pp = mesh.getPp();
    plan_.mesh->rank = mesh.getRank();
    plan_.mesh->stage = mesh.getStage();
    plan_.mesh->tp_index = mesh.getTpIndex();
    plan_.mesh->first_layer = mesh.getFirstLayer();
    plan_.mesh->layers = mesh.getLayers();
    auto limits = rank_.get<planir::LimitsOp>();
    plan_.limits = std::make_unique<plan::LimitsT>();
    plan_.limits->max_batch = limits.getMaxBatch();
    plan_.limits->max_tokens = limits.getMaxTokens();
    plan_.limits->max_sequence = limits.getMaxSequence();
    plan_.limits->kv_block = limits.getKvBlock();
    auto ledger = rank_.get<planir::LedgerOp>();
    plan_.ledger = std::make_unique<plan::LedgerT>();
    plan_.ledger->weights_loaded = ledger.getWeightsLoaded();
    plan_.ledger->weights_mapped = ledger.getWeightsMapped();
    plan_.ledger->kv = ledger.getKv();
    plan_.ledger->arena = ledger.getArena();
    plan_.ledger->tables = ledger.getTables();
    auto pool = rank_.get<planir::KvPoolOp>();
    plan_.kv = std::make_unique<plan::KvPoolT>();
    plan_.kv->block_tokens = pool.getBlockTokens();
    plan_.kv->blocks = pool.getBlocks();
    plan_.kv->blocks_per_sequence = pool.getBlocksPerSequence();
  }

  // An entry of one of the plan's lists, remembered by its symbol.
  template <typename T>
  T &entry(std::vector<std::unique_ptr<T>> &list, std::map<std::string, uint32_t> &index, StringRef name) {
    index[name.str()] = list.size();
    return *list.emplace_back(std::make_unique<T>());
  }

  FailureOr<uint32_t> indexOf(Operation *user, const std::map<std::string, uint32_t> &index, StringRef name) {
    auto it = index.find(name.str());
    if (it != index.end())
      return it->second;
    return user->emitOpError() << "refers to @" << name << ", which the plan does not declare before it";
  }

  LogicalResult writeDeclaration(Operation *op) {
    return TypeSwitch<Operation *, LogicalResult>(op)
        .Case([&](planir::GroupOp group) {
          plan::GroupT &entry = this->entry(plan_.groups, groups_, group.getSymName());
          entry.name = group.getSymName().str();
          entry.ranks.assign(group.getRanks().begin(), group.getRanks().end());
          return success();
        })
        .Case([&](planir::FileOp file) {
          plan::SourceFileT &entry = this->entry(plan_.files, files_, file.getSymName());
          entry.path = file.getPath().str();
          entry.size = file.getSize();
          entry.header_bytes = file.getHeaderBytes();
          entry.header_hash = file.getHeaderHash();
          return success();
        })
        .Case([&](planir::TensorOp tensor) { return writeTensor(tensor); })
        .Case([&](planir::WeightOp weight) { return writeWeight(weight); })
        .Case([&](planir::KvCacheOp cache) {
          plan::KvCacheT &entry = this->entry(plan_.kv->caches, caches_, cache.getSymName());
          entry.layer = cache.getLayer();
          entry.heads = cache.getHeads();
          entry.head_dim = cache.getHeadDim();
          entry.dtype = as<plan::DType>(cache.getDtype());
          entry.offset = cache.getOffset();
          entry.bytes = cache.getBytes();
          return success();
        })
        .Case([&](planir::RopeTableOp table) {
          plan::RopeTableT &entry = this->entry(plan_.rope_tables, tables_, table.getSymName());
          for (auto frequency : table.getInvFreq().getAsRange<FloatAttr>())
            entry.inv_freq.push_back(frequency.getValueAsDouble());
          entry.magnitude = table.getMagnitude().convertToDouble();
          entry.over.assign(table.getOver().begin(), table.getOver().end());
          return success();
        })
        .Case([&](planir::ProgramOp program) { return writeProgram(program); })
        .Default([](Operation *) { return success(); });
  }

  LogicalResult writeTensor(planir::TensorOp tensor) {
    plan::SourceTensorT &entry = this->entry(plan_.tensors, tensors_, tensor.getSymName());
    entry.name = tensor.getSymName().str();
    entry.dtype = as<plan::DType>(tensor.getDtype());
    entry.shape = unsignedOf(tensor.getShape());
    entry.offset = tensor.getOffset();
    entry.bytes = tensor.getBytes();
    entry.file = -1;
    if (std::optional<StringRef> name = tensor.getFile()) {
      FailureOr<uint32_t> file = indexOf(tensor, files_, *name);
      if (failed(file))
        return failure();
      entry.file = *file;
    }
    return success();
  }

  LogicalResult writeWeight(planir::WeightOp weight) {
    plan::WeightT &entry = this->entry(plan_.weights, weights_, weight.getSymName());
    entry.name = weight.getSymName().str();
    entry.dtype = as<plan::DType>(weight.getDtype());
    entry.shape = unsignedOf(weight.getShape());
    entry.placement = as<plan::Placement>(weight.getPlacement());
    entry.offset = weight.getOffset();
    entry.bytes = weight.getBytes();
    entry.row_stride = weight.getRowStride();
    entry.copies = weight.getCopies();
    entry.init = as<plan::Init>(weight.getInit());
    entry.init_scale = weight.getInitScale().convertToFloat();
    for (auto source : weight.getSources().getAsRange<llm::SourceAttr>()) {
      FailureOr<uint32_t> tensor = indexOf(weight, tensors_, source.getTensor().getValue());
      if (failed(tensor))
        return failure();
      auto &part = entry.sources.emplace_back(std::make_unique<plan::WeightSourceT>());
      part->tensor = *tensor;
      part->view = unsignedOf(source.getView());
      part->transposed = source.getTransposed();
      for (DenseI64ArrayAttr slice : source.getSlices()) {
        auto &dim = part->dims.emplace_back(std::make_unique<plan::DimSliceT>());
        for (int64_t i = 0; i < slice.size(); i += 2)
          dim->segments.emplace_back(slice[i] == llm::SourceAttr::kZero ? kZeroFill : slice[i], slice[i + 1]);
      }
    }
    return success();
  }

  LogicalResult writeProgram(planir::ProgramOp program) {
    plan::ProgramT &entry = *plan_.programs.emplace_back(std::make_unique<plan::ProgramT>());
    entry.regime = as<plan::Regime>(program.getRegime());
    entry.max_tokens = program.getMaxTokens();
    entry.max_sequences = program.getMaxSequences();
    entry.max_outputs = program.getMaxOutputs();
    entry.queues = program.getQueues();
    entry.events = program.getEvents();
    entry.micro_batches = program.getMicroBatches();
    entry.arena_bytes = program.getArenaBytes();
    buffers_.clear();
    for (Operation &op : program.getBody().front()) {
      if (auto buffer = dyn_cast<planir::BufferOp>(op)) {
        if (failed(writeBuffer(buffer, entry)))
          return failure();
      } else if (auto instruction = dyn_cast<planir::InstructionOpInterface>(op)) {
        plan::InstructionT &record = *entry.instructions.emplace_back(std::make_unique<plan::InstructionT>());
        record.id = instruction.getId();
        record.queue = instruction.getQueue();
        record.waits.assign(instruction.getWaits().begin(), instruction.getWaits().end());
        record.signal = instruction.getSignal() ? static_cast<int32_t>(*instruction.getSignal()) : -1;
        entry.labels.push_back(instruction.getLabel().str());
        if (failed(writeOp(&op, record.op)))
          return failure();
      } else if (auto schedule = dyn_cast<planir::ScheduleOp>(op)) {
        entry.schedule = std::make_unique<plan::TileScheduleT>();
        entry.schedule->sms = schedule.getSms();
        entry.schedule->ring_bytes = schedule.getRingBytes();
      } else if (auto stage = dyn_cast<planir::StageOp>(op)) {
        if (!entry.schedule)
          return stage.emitOpError() << "stands before the program's plan.schedule";
        plan::StageTilesT &record = *entry.schedule->stages.emplace_back(std::make_unique<plan::StageTilesT>());
        record.kind = as<plan::StageKind>(stage.getKind());
        record.instruction = stage.getInstruction();
        record.count = stage.getCount();
        record.waits.assign(stage.getWaits().begin(), stage.getWaits().end());
        record.bounds.assign(stage.getBounds().begin(), stage.getBounds().end());
      }
    }
    return success();
  }

  LogicalResult writeBuffer(planir::BufferOp buffer, plan::ProgramT &program) {
    if (!buffer.getOffset() && !buffer.getParent())
      return buffer.emitOpError() << "has no place in the arena; run plan-memory first";
    buffers_[buffer] = program.buffers.size();
    program.buffers.emplace_back(buffer.getOffset().value_or(0), buffer.getBytes(), buffer.getRowElements(),
                                 buffer.getParent() ? static_cast<int32_t>(buffers_.at(buffer.getParent())) : -1,
                                 buffer.getTimes(), buffer.getShards(), buffer.getChunk(), buffer.getChunks(),
                                 as<plan::RowUnit>(buffer.getRows()), as<plan::DType>(buffer.getDtype()));
    plan::ValueInfoT &info = *program.values.emplace_back(std::make_unique<plan::ValueInfoT>());
    info.name = buffer.getValue().str();
    info.dims = unsignedOf(buffer.getDims());
    info.layout = as<plan::LayoutKind>(buffer.getLayout());
    info.dim = static_cast<int32_t>(buffer.getDim());
    return success();
  }

  uint32_t buffer(Value value) { return buffers_.at(value); }

  LogicalResult writeOp(Operation *op, plan::OpUnion &out) {
    bool found = true;
    auto symbol = [&](const std::map<std::string, uint32_t> &index, StringRef name) -> uint32_t {
      FailureOr<uint32_t> at = indexOf(op, index, name);
      found &= succeeded(at);
      return succeeded(at) ? *at : 0;
    };
    LogicalResult result =
        TypeSwitch<Operation *, LogicalResult>(op)
            .Case([&](planir::EmbeddingOp x) {
              plan::EmbeddingT t;
              t.weight = symbol(weights_, x.getWeight());
              t.out = buffer(x.getOut());
              t.first_row = x.getFirstRow();
              return set(out, t);
            })
            .Case([&](planir::RmsNormOp x) {
              plan::RmsNormT t;
              t.input = buffer(x.getInput());
              t.weight = symbol(weights_, x.getWeight());
              t.out = buffer(x.getOut());
              t.eps = x.getEps().convertToFloat();
              t.weight_offset = x.getWeightOffset().convertToFloat();
              t.squares = x.getSquares() ? static_cast<int32_t>(buffer(x.getSquares())) : -1;
              t.column = x.getColumn();
              t.elements = x.getElements();
              return set(out, t);
            })
            .Case([&](planir::ScaleOp x) {
              plan::ScaleT t;
              t.input = buffer(x.getInput());
              t.out = buffer(x.getOut());
              t.factor = x.getFactor().convertToFloat();
              return set(out, t);
            })
            .Case([&](planir::SoftCapOp x) {
              plan::SoftCapT t;
              t.input = buffer(x.getInput());
              t.out = buffer(x.getOut());
              t.cap = x.getCap().convertToFloat();
              return set(out, t);
            })
            .Case([&](planir::SquareSumOp x) {
              plan::SquareSumT t;
              t.a = buffer(x.getA());
              t.b = x.getB() ? static_cast<int32_t>(buffer(x.getB())) : -1;
              t.out = buffer(x.getOut());
              return set(out, t);
            })
            .Case([&](planir::LayerNormOp x) {
              plan::LayerNormT t;
              t.input = buffer(x.getInput());
              t.weight = symbol(weights_, x.getWeight());
              t.bias = x.getBias() ? static_cast<int32_t>(symbol(weights_, *x.getBias())) : -1;
              t.out = buffer(x.getOut());
              t.eps = x.getEps().convertToFloat();
              return set(out, t);
            })
            .Case([&](planir::PositionEmbeddingOp x) {
              plan::PositionEmbeddingT t;
              t.input = buffer(x.getInput());
              t.weight = symbol(weights_, x.getWeight());
              t.out = buffer(x.getOut());
              return set(out, t);
            })
            .Case([&](planir::ActivateOp x) {
              plan::ActivateT t;
              t.input = buffer(x.getInput());
              t.out = buffer(x.getOut());
              t.activation = as<plan::Activation>(x.getActivation());
              return set(out, t);
            })
            .Case([&](planir::LinearOp x) {
              plan::LinearT t;
              t.input = buffer(x.getInput());
              t.weight = symbol(weights_, x.getWeight());
              t.bias = x.getBias() ? static_cast<int32_t>(symbol(weights_, *x.getBias())) : -1;
              t.out = buffer(x.getOut());
              return set(out, t);
            })
            .Case([&](planir::RopeOp x) {
              plan::RopeT t;
              t.input = buffer(x.getInput());
              t.out = buffer(x.getOut());
              t.table = symbol(tables_, x.getTable());
              t.heads = x.getHeads();
              t.head_dim = x.getHeadDim();
              t.style = as<plan::RopeStyle>(x.getStyle());
              return set(out, t);
            })
            .Case([&](planir::KvAppendOp x) {
              plan::KvAppendT t;
              t.k = buffer(x.getK());
              t.v = buffer(x.getV());
              t.cache = symbol(caches_, x.getCache());
              return set(out, t);
            })
            .Case([&](planir::AttentionOp x) {
              plan::AttentionT t;
              t.q = buffer(x.getQ());
              t.out = buffer(x.getOut());
              t.cache = symbol(caches_, x.getCache());
              t.heads = x.getHeads();
              t.scale = x.getScale().convertToFloat();
              t.window = x.getWindow();
              t.soft_cap = x.getSoftCap().convertToFloat();
              return set(out, t);
            })
            .Case([&](planir::AddOp x) {
              plan::AddT t;
              t.a = buffer(x.getA());
              t.b = buffer(x.getB());
              t.out = buffer(x.getOut());
              return set(out, t);
            })
            .Case([&](planir::GluOp x) {
              plan::GluT t;
              t.gate = buffer(x.getGate());
              t.up = buffer(x.getUp());
              t.out = buffer(x.getOut());
              t.activation = as<plan::Activation>(x.getActivation());
              return set(out, t);
            })
            .Case([&](planir::SelectRowsOp x) {
              plan::SelectRowsT t;
              t.input = buffer(x.getInput());
              t.out = buffer(x.getOut());
              return set(out, t);
            })
            .Case([&](planir::TopCandidatesOp x) {
              plan::TopCandidatesT t;
              t.logits = buffer(x.getLogits());
              t.out = buffer(x.getOut());
              t.first_id = x.getFirstId();
              t.valid = x.getValid();
              t.count = x.getCount();
              return set(out, t);
            })
            .Case([&](planir::SampleOp x) {
              plan::SampleT t;
              t.candidates = buffer(x.getCandidates());
              t.out = buffer(x.getOut());
              t.shards = x.getShards();
              t.count = x.getCount();
              return set(out, t);
            })
            .Case([&](planir::AllReduceOp x) {
              plan::AllReduceT t;
              t.group = symbol(groups_, x.getGroup());
              t.sequence = x.getSequence();
              t.input = buffer(x.getInput());
              t.out = buffer(x.getOut());
              t.op = as<plan::ReduceOp>(x.getOp());
              return set(out, t);
            })
            .Case([&](planir::AllGatherOp x) {
              plan::AllGatherT t;
              t.group = symbol(groups_, x.getGroup());
              t.sequence = x.getSequence();
              t.input = buffer(x.getInput());
              t.out = buffer(x.getOut());
              return set(out, t);
            })
            .Case([&](planir::ReduceScatterOp x) {
              plan::ReduceScatterT t;
              t.group = symbol(groups_, x.getGroup());
              t.sequence = x.getSequence();
              t.input = buffer(x.getInput());
              t.out = buffer(x.getOut());
              t.op = as<plan::ReduceOp>(x.getOp());
              return set(out, t);
            })
            .Case([&](planir::SendOp x) {
              plan::SendT t;
              t.group = symbol(groups_, x.getGroup());
              t.peer = x.getPeer();
              t.sequence = x.getSequence();
              t.input = buffer(x.getInput());
              return set(out, t);
            })
            .Case([&](planir::RecvOp x) {
              plan::RecvT t;
              t.group = symbol(groups_, x.getGroup());
              t.peer = x.getPeer();
              t.sequence = x.getSequence();
              t.out = buffer(x.getOut());
              return set(out, t);
            })
            .Case([&](planir::EmitIdsOp x) {
              plan::EmitIdsT t;
              t.input = buffer(x.getInput());
              return set(out, t);
            })
            .Case([&](planir::EmitLogitsOp x) {
              plan::EmitLogitsT t;
              t.input = buffer(x.getInput());
              t.first_column = x.getFirstColumn();
              t.valid = x.getValid();
              return set(out, t);
            })
            .Case([&](planir::RouteOp x) {
              plan::RouteT t;
              t.logits = buffer(x.getLogits());
              t.out = buffer(x.getOut());
              t.count = x.getCount();
              t.normalize = x.getNormalize();
              return set(out, t);
            })
            .Case([&](planir::ExpertLinearOp x) {
              plan::ExpertLinearT t;
              t.input = buffer(x.getInput());
              t.routes = buffer(x.getRoutes());
              t.weight = symbol(weights_, x.getWeight());
              t.out = buffer(x.getOut());
              return set(out, t);
            })
            .Case([&](planir::CombineOp x) {
              plan::CombineT t;
              t.input = buffer(x.getInput());
              t.routes = buffer(x.getRoutes());
              t.out = buffer(x.getOut());
              return set(out, t);
            })
            .Default([](Operation *other) { return other->emitOpError() << "has no form in a plan file"; });
    return success(succeeded(result) && found);
  }

  template <typename T> LogicalResult set(plan::OpUnion &out, T &value) {
    out.Set(std::move(value));
    return success();
  }

  planir::RankOp rank_;
  plan::PlanT plan_;
  std::map<std::string, uint32_t> groups_, files_, tensors_, weights_, caches_, tables_;
  struct ByValue {
    bool operator()(Value a, Value b) const { return a.getAsOpaquePointer() < b.getAsOpaquePointer(); }
  };
  std::map<Value, uint32_t, ByValue> buffers_; // looked up only
};

} // namespace

FailureOr<plan::PlanT> toPlan(planir::RankOp rank) { return PlanWriter(rank).write(); }

FailureOr<std::vector<std::vector<uint8_t>>> writePlanSet(ModuleOp module) {
  std::vector<std::vector<uint8_t>> payloads, files;
  for (auto rank : module.getOps<planir::RankOp>()) {
    FailureOr<plan::PlanT> plan = toPlan(rank);
    if (failed(plan))
      return failure();
    payloads.push_back(packPayload(*plan));
  }
  uint64_t hash = planSetHash(payloads);
  for (const std::vector<uint8_t> &payload : payloads)
    files.push_back(framePayload(payload, hash));
  return files;
}

} // namespace distc
