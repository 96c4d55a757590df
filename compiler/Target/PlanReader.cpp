#include "compiler/Target/PlanTarget.h"

using namespace mlir;

namespace distc {

namespace {

template <typename To, typename From> To as(From value) { return static_cast<To>(static_cast<uint32_t>(value)); }

template <typename Vector> SmallVector<int64_t> signedOf(const Vector *values) {
  SmallVector<int64_t> result;
  for (auto value : *values)
    result.push_back(static_cast<int64_t>(value));
  return result;
}

// A plan that has been verified: indices are in range.
class PlanReader {
public:
  PlanReader(const plan::Plan &plan, ModuleOp module)
      : plan_(plan), builder_(module.getContext()), loc_(UnknownLoc::get(module.getContext())) {
    builder_.setInsertionPointToEnd(module.getBody());
  }

  void read() {
    SmallVector<StringRef> passes;
    if (plan_.passes())
      for (const flatbuffers::String *pass : *plan_.passes())
        passes.push_back(text(pass));
    auto rank = planir::RankOp::create(builder_, loc_, "rank" + std::to_string(plan_.mesh()->rank()),
                                       text(plan_.producer()), text(plan_.target()), builder_.getStrArrayAttr(passes));
    builder_.setInsertionPointToStart(&rank.getBody().emplaceBlock());
    readHeader();
    readWeights();
    readTables();
    for (const plan::Program *program : *plan_.programs())
      readProgram(*program);
  }

private:
  static StringRef text(const flatbuffers::String *string) { return {string->c_str(), string->size()}; }
  FlatSymbolRefAttr symbol(const Twine &name) { return FlatSymbolRefAttr::get(builder_.getContext(), name.str()); }
  FlatSymbolRefAttr weight(uint32_t index) { return symbol(text(plan_.weights()->Get(index)->name())); }
  FlatSymbolRefAttr group(uint32_t index) { return symbol(text(plan_.groups()->Get(index)->name())); }
  std::string cacheName(uint32_t index) {
    return "layers." + std::to_string(plan_.kv()->caches()->Get(index)->layer()) + ".kv";
  }
  // The first table is @rope, as Import names it.
  static std::string tableName(uint32_t index) { return index == 0 ? "rope" : "rope" + std::to_string(index); }
  IntegerAttr i64(int64_t value) { return builder_.getI64IntegerAttr(value); }
  FloatAttr f32(float value) { return builder_.getF32FloatAttr(value); }

  void readHeader() {
    const plan::ModelInfo &model = *plan_.model();
    StringAttr tokenizer;
    if (model.tokenizer() && model.tokenizer()->size() > 0)
      tokenizer = builder_.getStringAttr(text(model.tokenizer()));
    planir::ModelOp::create(builder_, loc_, builder_.getStringAttr(text(model.name())),
                            builder_.getStringAttr(text(model.family())), i64(model.vocabulary()), i64(model.hidden()),
                            i64(model.layers()), i64(model.parameters()), i64(model.context()), tokenizer);
    const plan::Mesh &mesh = *plan_.mesh();
    planir::MeshOp::create(builder_, loc_, mesh.tp(), mesh.pp(), mesh.rank(), mesh.stage(), mesh.tp_index(),
                           mesh.first_layer(), mesh.layers());
    const plan::Limits &limits = *plan_.limits();
    planir::LimitsOp::create(builder_, loc_, limits.max_batch(), limits.max_tokens(), limits.max_sequence(),
                             limits.kv_block());
    const plan::Ledger &ledger = *plan_.ledger();
    planir::LedgerOp::create(builder_, loc_, ledger.weights_loaded(), ledger.weights_mapped(), ledger.kv(),
                             ledger.arena(), ledger.tables());
    for (const plan::Group *group : *plan_.groups())
      planir::GroupOp::create(builder_, loc_, text(group->name()), signedOf(group->ranks()));
  }

  void readWeights() {
    for (auto [index, file] : llvm::enumerate(*plan_.files()))
      planir::FileOp::create(builder_, loc_, "file" + std::to_string(index), text(file->path()), file->size(),
                             file->header_bytes(), static_cast<int64_t>(file->header_hash()));
    for (const plan::SourceTensor *tensor : *plan_.tensors())
      planir::TensorOp::create(builder_, loc_, builder_.getStringAttr(text(tensor->name())),
                               builder_.getDenseI64ArrayAttr(signedOf(tensor->shape())),
                               llm::DTypeAttr::get(builder_.getContext(), as<llm::DType>(tensor->dtype())),
                               tensor->file() < 0 ? FlatSymbolRefAttr() : symbol("file" + Twine(tensor->file())),
                               i64(tensor->offset()), i64(tensor->bytes()));
    for (const plan::Weight *weight : *plan_.weights()) {
      SmallVector<Attribute> sources;
      for (const plan::WeightSource *source : *weight->sources()) {
        SmallVector<DenseI64ArrayAttr> slices;
        for (const plan::DimSlice *dim : *source->dims()) {
          SmallVector<int64_t> segments;
          for (const plan::Segment *segment : *dim->segments())
            segments.append({segment->begin() == kZeroFill ? llm::SourceAttr::kZero : int64_t(segment->begin()),
                             static_cast<int64_t>(segment->count())});
          slices.push_back(builder_.getDenseI64ArrayAttr(segments));
        }
        sources.push_back(llm::SourceAttr::get(builder_.getContext(),
                                               symbol(text(plan_.tensors()->Get(source->tensor())->name())),
                                               signedOf(source->view()), slices, source->transposed()));
      }
      planir::WeightOp::create(builder_, loc_, text(weight->name()), signedOf(weight->shape()),
                               as<llm::DType>(weight->dtype()), as<planir::Placement>(weight->placement()),
                               weight->offset(), weight->bytes(), weight->row_stride(), weight->copies(),
                               as<llm::Init>(weight->init()), llvm::APFloat(weight->init_scale()),
                               builder_.getArrayAttr(sources));
    }
  }

  void readTables() {
    const plan::KvPool &pool = *plan_.kv();
    planir::KvPoolOp::create(builder_, loc_, pool.block_tokens(), pool.blocks(), pool.blocks_per_sequence());
    for (auto [index, cache] : llvm::enumerate(*pool.caches()))
      planir::KvCacheOp::create(builder_, loc_, cacheName(index), cache->layer(), cache->heads(), cache->head_dim(),
                                as<llm::DType>(cache->dtype()), cache->offset(), cache->bytes());
    for (auto [index, table] : llvm::enumerate(*plan_.rope_tables()))
      planir::RopeTableOp::create(
          builder_, loc_, tableName(index),
          builder_.getF64ArrayAttr(SmallVector<double>(table->inv_freq()->begin(), table->inv_freq()->end())),
          llvm::APFloat(table->magnitude()),
          builder_.getDenseI64ArrayAttr(table->over()
                                            ? SmallVector<int64_t>(table->over()->begin(), table->over()->end())
                                            : SmallVector<int64_t>()));
  }

  void readProgram(const plan::Program &program) {
    OpBuilder::InsertionGuard guard(builder_);
    auto op = planir::ProgramOp::create(builder_, loc_, as<planir::Regime>(program.regime()), program.max_tokens(),
                                        program.max_sequences(), program.max_outputs(), program.queues(),
                                        program.events(), program.micro_batches(), program.arena_bytes());
    builder_.setInsertionPointToStart(&op.getBody().emplaceBlock());
    buffers_.clear();
    for (uint32_t i = 0; i < program.buffers()->size(); ++i) {
      const plan::Buffer &buffer = *program.buffers()->Get(i);
      const plan::ValueInfo *info = program.values() ? program.values()->Get(i) : nullptr;
      buffers_.push_back(planir::BufferOp::create(
          builder_, loc_, planir::BufferType::get(builder_.getContext()), info ? text(info->name()) : StringRef(),
          as<planir::RowUnit>(buffer.rows()), info && info->dims() ? signedOf(info->dims()) : SmallVector<int64_t>(),
          info ? as<planir::LayoutKind>(info->layout()) : planir::LayoutKind::Replicated, info ? info->dim() : -1,
          as<llm::DType>(buffer.dtype()), buffer.row_elements(), buffer.bytes(), i64(buffer.offset()), buffer.times(),
          buffer.shards(), buffer.chunk(), buffer.chunks(), buffer.parent() < 0 ? Value() : buffers_[buffer.parent()]));
    }
    for (uint32_t i = 0; i < program.instructions()->size(); ++i)
      readInstruction(*program.instructions()->Get(i), program.labels() ? text(program.labels()->Get(i)) : StringRef());
    const plan::TileSchedule *schedule = program.schedule();
    if (!schedule)
      return;
    planir::ScheduleOp::create(builder_, loc_, schedule->sms(), schedule->ring_bytes());
    for (const plan::StageTiles *stage : *schedule->stages())
      planir::StageOp::create(builder_, loc_, as<planir::StageKind>(stage->kind()), stage->instruction(),
                              stage->count(), stage->waits() ? signedOf(stage->waits()) : SmallVector<int64_t>(),
                              signedOf(stage->bounds()));
  }

  template <typename Op, typename... Args> void emit(Args &&...args) {
    Op::create(
        builder_, loc_, i64(instruction_->id()), std::forward<Args>(args)..., i64(instruction_->queue()),
        builder_.getDenseI64ArrayAttr(instruction_->waits() ? signedOf(instruction_->waits()) : SmallVector<int64_t>()),
        instruction_->signal() < 0 ? IntegerAttr() : i64(instruction_->signal()), builder_.getStringAttr(label_));
  }

  void readInstruction(const plan::Instruction &instruction, StringRef label) {
    instruction_ = &instruction;
    label_ = label;
    MLIRContext *context = builder_.getContext();
    auto b = [&](uint32_t index) { return buffers_[index]; };
    auto reduce = [&](plan::ReduceOp op) { return planir::ReduceKindAttr::get(context, as<planir::ReduceKind>(op)); };
    switch (instruction.op_type()) {
    case plan::Op::NONE:
      return;
    case plan::Op::Embedding: {
      auto &x = *instruction.op_as_Embedding();
      return emit<planir::EmbeddingOp>(weight(x.weight()), i64(x.first_row()), b(x.out()));
    }
    case plan::Op::RmsNorm: {
      auto &x = *instruction.op_as_RmsNorm();
      return emit<planir::RmsNormOp>(b(x.input()), weight(x.weight()), f32(x.eps()), f32(x.weight_offset()),
                                     x.squares() < 0 ? Value() : b(static_cast<uint32_t>(x.squares())), i64(x.column()),
                                     i64(x.elements()), b(x.out()));
    }
    case plan::Op::LayerNorm: {
      auto &x = *instruction.op_as_LayerNorm();
      return emit<planir::LayerNormOp>(b(x.input()), weight(x.weight()),
                                       x.bias() < 0 ? FlatSymbolRefAttr() : weight(x.bias()), f32(x.eps()), b(x.out()));
    }
    case plan::Op::PositionEmbedding: {
      auto &x = *instruction.op_as_PositionEmbedding();
      return emit<planir::PositionEmbeddingOp>(b(x.input()), weight(x.weight()), b(x.out()));
    }
    case plan::Op::Activate: {
      auto &x = *instruction.op_as_Activate();
      return emit<planir::ActivateOp>(llm::ActivationAttr::get(context, as<llm::Activation>(x.activation())),
                                      b(x.input()), b(x.out()));
    }
    case plan::Op::Linear: {
      auto &x = *instruction.op_as_Linear();
      return emit<planir::LinearOp>(b(x.input()), weight(x.weight()),
                                    x.bias() < 0 ? FlatSymbolRefAttr() : weight(x.bias()), b(x.out()));
    }
    case plan::Op::Rope: {
      auto &x = *instruction.op_as_Rope();
      return emit<planir::RopeOp>(b(x.input()), symbol(tableName(x.table())),
                                  llm::RopeStyleAttr::get(context, as<llm::RopeStyle>(x.style())), i64(x.heads()),
                                  i64(x.head_dim()), b(x.out()));
    }
    case plan::Op::KvAppend: {
      auto &x = *instruction.op_as_KvAppend();
      return emit<planir::KvAppendOp>(b(x.k()), b(x.v()), symbol(cacheName(x.cache())));
    }
    case plan::Op::Attention: {
      auto &x = *instruction.op_as_Attention();
      return emit<planir::AttentionOp>(b(x.q()), symbol(cacheName(x.cache())), i64(x.heads()), f32(x.scale()),
                                       i64(x.window()), f32(x.soft_cap()), b(x.out()));
    }
    case plan::Op::Add: {
      auto &x = *instruction.op_as_Add();
      return emit<planir::AddOp>(b(x.a()), b(x.b()), b(x.out()));
    }
    case plan::Op::Glu: {
      auto &x = *instruction.op_as_Glu();
      return emit<planir::GluOp>(llm::ActivationAttr::get(context, as<llm::Activation>(x.activation())), b(x.gate()),
                                 b(x.up()), b(x.out()));
    }
    case plan::Op::SelectRows: {
      auto &x = *instruction.op_as_SelectRows();
      return emit<planir::SelectRowsOp>(b(x.input()), b(x.out()));
    }
    case plan::Op::TopCandidates: {
      auto &x = *instruction.op_as_TopCandidates();
      return emit<planir::TopCandidatesOp>(b(x.logits()), i64(x.first_id()), i64(x.valid()), i64(x.count()),
                                           b(x.out()));
    }
    case plan::Op::Sample: {
      auto &x = *instruction.op_as_Sample();
      return emit<planir::SampleOp>(b(x.candidates()), i64(x.shards()), i64(x.count()), b(x.out()));
    }
    case plan::Op::AllReduce: {
      auto &x = *instruction.op_as_AllReduce();
      return emit<planir::AllReduceOp>(group(x.group()), i64(x.sequence()), b(x.input()), reduce(x.op()), b(x.out()));
    }
    case plan::Op::AllGather: {
      auto &x = *instruction.op_as_AllGather();
      return emit<planir::AllGatherOp>(group(x.group()), i64(x.sequence()), b(x.input()), b(x.out()));
    }
    case plan::Op::ReduceScatter: {
      auto &x = *instruction.op_as_ReduceScatter();
      return emit<planir::ReduceScatterOp>(group(x.group()), i64(x.sequence()), b(x.input()), reduce(x.op()),
                                           b(x.out()));
    }
    case plan::Op::Send: {
      auto &x = *instruction.op_as_Send();
      return emit<planir::SendOp>(group(x.group()), i64(x.sequence()), i64(x.peer()), b(x.input()));
    }
    case plan::Op::Recv: {
      auto &x = *instruction.op_as_Recv();
      return emit<planir::RecvOp>(group(x.group()), i64(x.sequence()), i64(x.peer()), b(x.out()));
    }
    case plan::Op::EmitIds:
      return emit<planir::EmitIdsOp>(b(instruction.op_as_EmitIds()->input()));
    case plan::Op::EmitLogits: {
      auto &x = *instruction.op_as_EmitLogits();
      return emit<planir::EmitLogitsOp>(b(x.input()), i64(x.first_column()), i64(x.valid()));
    }
    case plan::Op::Scale: {
      auto &x = *instruction.op_as_Scale();
      return emit<planir::ScaleOp>(b(x.input()), f32(x.factor()), b(x.out()));
    }
    case plan::Op::SoftCap: {
      auto &x = *instruction.op_as_SoftCap();
      return emit<planir::SoftCapOp>(b(x.input()), f32(x.cap()), b(x.out()));
    }
    case plan::Op::SquareSum: {
      auto &x = *instruction.op_as_SquareSum();
      return emit<planir::SquareSumOp>(b(x.a()), x.b() < 0 ? Value() : b(static_cast<uint32_t>(x.b())), b(x.out()));
    }
    case plan::Op::Route: {
      auto &x = *instruction.op_as_Route();
      return emit<planir::RouteOp>(b(x.logits()), i64(x.count()), x.normalize() ? builder_.getUnitAttr() : UnitAttr(),
                                   b(x.out()));
    }
    case plan::Op::ExpertLinear: {
      auto &x = *instruction.op_as_ExpertLinear();
      return emit<planir::ExpertLinearOp>(b(x.input()), b(x.routes()), weight(x.weight()), b(x.out()));
    }
    case plan::Op::Combine: {
      auto &x = *instruction.op_as_Combine();
      return emit<planir::CombineOp>(b(x.input()), b(x.routes()), b(x.out()));
    }
    }
  }

  const plan::Plan &plan_;
  OpBuilder builder_;
  Location loc_;
  std::vector<Value> buffers_;
  const plan::Instruction *instruction_ = nullptr;
  StringRef label_;
};

} // namespace

void fromPlan(const plan::Plan &plan, ModuleOp module) { PlanReader(plan, module).read(); }

} // namespace distc
