// How each op is split over the tensor-parallel ranks (Shoeybi et al., Megatron-LM, arXiv:1909.08053), and over the
// rows between them (Korthikanti et al., Reducing Activation Recomputation, arXiv:2205.05198).
#include "dialects/LLM/LLMDialect.h"

using namespace mlir;
using namespace distc::llm;

std::string Layout::str() const {
  switch (kind) {
  case Replicated:
    return "replicated";
  case Partial:
    return "a partial sum";
  case Split:
    return dim == 0 ? "split along the rows" : "split along dimension " + std::to_string(dim);
  case Scattered:
    return "scattered by rows";
  }
  return "";
}

RankedTensorType distc::llm::scatteredType(RankedTensorType type, int16_t axis) {
  MLIRContext *context = type.getContext();
  return type.cloneWithEncoding(
      shard::GridAxesArrayAttr::get(context, {shard::GridAxesAttr::get(context, ArrayRef<int16_t>{axis})}));
}

bool distc::llm::isScattered(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && isa_and_nonnull<shard::GridAxesArrayAttr>(tensor.getEncoding());
}

// Context -------------------------------------------------------------------------------------------------------------

LogicalResult PartitionContext::noRule(Operation *op) {
  InFlightDiagnostic error = op->emitOpError() << "has no sharding rule for";
  bool first = true;
  for (Value operand : op->getOperands())
    if (isa<RankedTensorType>(operand.getType())) {
      error << (first ? " " : " and ") << operand.getType() << " " << layout(operand).str();
      first = false;
    }
  return error;
}

LogicalResult PartitionContext::requireReplicated(OpOperand &operand) {
  Value value = operand.get();
  switch (layout(value).kind) {
  case Layout::Replicated:
    return success();
  case Layout::Split:
    return noRule(operand.getOwner());
  case Layout::Scattered:
  case Layout::Partial:
    break;
  }
  Value &whole = replicated_[value];
  if (!whole && layout(value).kind == Layout::Scattered) {
    whole = gather(operand);
  } else if (!whole) {
    OpBuilder builder(operand.getOwner());
    whole = shard::AllReduceOp::create(builder, value.getLoc(), value.getType(), grid_, ArrayRef<int16_t>{axis_}, value,
                                       shard::ReductionKind::Sum);
    setLayout(whole, Layout::replicated());
  }
  operand.set(whole);
  return success();
}

LogicalResult PartitionContext::requireComplete(OpOperand &operand) {
  Value value = operand.get();
  if (layout(value).kind != Layout::Partial)
    return success();
  if (!scatter_)
    return requireReplicated(operand);
  Value &rows = scattered_[value];
  if (!rows) {
    OpBuilder builder(operand.getOwner());
    rows = shard::ReduceScatterOp::create(builder, value.getLoc(),
                                          scatteredType(cast<RankedTensorType>(value.getType()), axis_), grid_,
                                          ArrayRef<int16_t>{axis_}, value, shard::ReductionKind::Sum, APInt(64, 0));
    setLayout(rows, Layout::scattered());
  }
  operand.set(rows);
  return success();
}

LogicalResult PartitionContext::gatherRows(OpOperand &operand) {
  Value value = operand.get();
  if (!(layout(value) == Layout::split(0)))
    return requireReplicated(operand);
  operand.set(gather(operand));
  return success();
}

Value PartitionContext::gather(OpOperand &operand) {
  Value value = operand.get();
  OpBuilder builder(operand.getOwner());
  Value whole =
      shard::AllGatherOp::create(builder, value.getLoc(), cast<RankedTensorType>(value.getType()).dropEncoding(), grid_,
                                 ArrayRef<int16_t>{axis_}, value, APInt(64, 0));
  setLayout(whole, Layout::replicated());
  return whole;
}

// Rules ---------------------------------------------------------------------------------------------------------------

// All operands in one layout; partial sums are completed first, as the others lie.
static FailureOr<Layout> allTheSame(PartitionContext &context, Operation *op) {
  bool whole = llvm::is_contained(llvm::map_range(op->getOperands(), [&](Value v) { return context.layout(v); }),
                                  Layout::replicated());
  std::optional<Layout> common;
  for (OpOperand &operand : op->getOpOperands()) {
    if (failed(whole ? context.requireReplicated(operand) : context.requireComplete(operand)))
      return failure();
    Layout layout = context.layout(operand.get());
    if (common && !(*common == layout))
      return context.noRule(op);
    common = layout;
  }
  return *common;
}

FailureOr<Layout> EmbeddingOp::partition(PartitionContext &context) {
  FailureOr<ParamOp> weight = context.scope.param(*this, getWeightAttr());
  if (failed(weight))
    return failure();
  std::optional<unsigned> split = weight->getSplitDim();
  if (!split)
    return Layout::replicated();
  return *split == 0 ? Layout::partial() : Layout::split(1);
}

// How many elements of the checkpoint all ranks hold of a param, copies of heads among them.
static int64_t elementsHeld(ParamOp param) {
  int64_t elements = 1;
  for (DenseI64ArrayAttr slice : cast<SourceAttr>(param.getSources()[0]).getSlices()) {
    int64_t held = 0;
    for (int64_t i = 0; i < slice.size(); i += 2)
      held += slice[i] == SourceAttr::kZero ? 0 : slice[i + 1];
    elements *= held;
  }
  return elements;
}

// Heads that have a norm each may be split. Where all of them are one norm, the ranks exchange their sums of squares;
// those of the next norm, of keys after that of queries, go with them.
FailureOr<Layout> RmsNormOp::partition(PartitionContext &context) {
  const Layout layout = context.layout(getInput());
  auto isSplit = [&](RmsNormOp op) {
    FailureOr<ParamOp> weight = context.scope.param(op, op.getWeightAttr());
    return context.layout(op.getInput()) == Layout::split(1) && succeeded(weight) && weight->getSplitDim() == 0u &&
           weight->getSources().size() == 1;
  };
  if (layout.kind != Layout::Split)
    return allTheSame(context, *this);
  if (!isSplit(*this)) {
    if (layout.dim + 1 >= static_cast<unsigned>(cast<RankedTensorType>(getInput().getType()).getRank()))
      return context.noRule(*this);
    return layout;
  }
  if (!getSquares()) {
    SmallVector<RmsNormOp> norms{*this};
    for (Operation *next = (*this)->getNextNode(); next && norms.size() == 1; next = next->getNextNode())
      if (auto other = dyn_cast<RmsNormOp>(next)) {
        Operation *input = other.getInput().getDefiningOp();
        if (!input || !input->isBeforeInBlock(*this) || !isSplit(other))
          break;
        norms.push_back(other);
      }
    OpBuilder builder(*this);
    SmallVector<Value> inputs;
    for (RmsNormOp norm : norms)
      inputs.push_back(norm.getInput());
    auto type = RankedTensorType::get({ShapedType::kDynamic, static_cast<int64_t>(norms.size())}, builder.getF32Type());
    auto name = StringAttr::get(getContext(), "squares");
    if (auto own = dyn_cast<NameLoc>(getLoc()))
      name = StringAttr::get(getContext(), own.getName().getValue() + ".squares");
    auto squares = SquareSumOp::create(builder, NameLoc::get(name, getLoc()), type, inputs);
    context.setLayout(squares, Layout::partial());
    for (auto [column, norm] : llvm::enumerate(norms)) {
      norm.getSquaresMutable().assign(squares);
      norm.setColumn(static_cast<int64_t>(column));
      norm.setElements(elementsHeld(*context.scope.param(norm, norm.getWeightAttr())));
    }
  }
  if (failed(context.requireReplicated(*getSquaresMutable().begin())))
    return failure();
  return layout;
}

FailureOr<Layout> SquareSumOp::partition(PartitionContext &context) {
  Layout common = context.layout(getInputs()[0]);
  for (OpOperand &operand : getInputsMutable()) {
    if (context.layout(operand.get()).kind != Layout::Split && failed(context.requireReplicated(operand)))
      return failure();
    if (!(context.layout(operand.get()) == common) && common.kind == Layout::Split)
      return context.noRule(*this);
  }
  return common.kind == Layout::Split ? Layout::partial() : Layout::replicated();
}

// A share of a sum is scaled as it is.
FailureOr<Layout> ScaleOp::partition(PartitionContext &context) { return context.layout(getInput()); }
FailureOr<Layout> SoftCapOp::partition(PartitionContext &context) {
  return context.layout(getInput()).kind == Layout::Split ? FailureOr<Layout>(context.layout(getInput()))
                                                          : allTheSame(context, *this);
}

FailureOr<Layout> LayerNormOp::partition(PartitionContext &context) {
  if (context.layout(getInput()).kind == Layout::Split)
    return context.noRule(*this);
  return allTheSame(context, *this);
}

// One rank adds the rows to its share of a sum. Scattered rows are not at the positions of the batch's first ones.
FailureOr<Layout> PositionEmbeddingOp::partition(PartitionContext &context) {
  FailureOr<ParamOp> weight = context.scope.param(*this, getWeightAttr());
  if (failed(weight))
    return failure();
  if (context.layout(getInput()).kind == Layout::Partial) {
    weight->setFirstOnly(true);
    return Layout::partial();
  }
  if (failed(context.requireReplicated(getInputMutable())))
    return failure();
  return Layout::replicated();
}

FailureOr<Layout> LinearOp::partition(PartitionContext &context) {
  FailureOr<ParamOp> weight = context.scope.param(*this, getWeightAttr());
  if (failed(weight))
    return failure();
  unsigned inRank = cast<RankedTensorType>(getInput().getType()).getRank() - 1;
  unsigned outRank = weight->getTensorType().getRank() - inRank;
  std::optional<unsigned> split = weight->getSplitDim();
  if (!split || *split < outRank) { // whole, or column parallel
    if (failed(context.requireReplicated(getInputMutable())))
      return failure();
    return split ? Layout::split(*split + 1) : Layout::replicated();
  }
  // Row parallel. Each rank holds a partial sum, so a bias must come in once.
  if (!(context.layout(getInput()) == Layout::split(*split - outRank + 1)))
    return context.noRule(*this);
  if (FlatSymbolRefAttr name = getBiasAttr()) {
    FailureOr<ParamOp> bias = context.scope.param(*this, name);
    if (failed(bias))
      return failure();
    bias->setFirstOnly(true);
  }
  return Layout::partial();
}

// Heads may be split; positions are those of all rows.
FailureOr<Layout> RopeOp::partition(PartitionContext &context) {
  if (context.layout(getInput()).kind != Layout::Split && failed(context.requireReplicated(getInputMutable())))
    return failure();
  return context.layout(getInput());
}

FailureOr<Layout> KvAppendOp::partition(PartitionContext &context) {
  FailureOr<KvCacheOp> cache = context.scope.cache(*this, getCacheAttr());
  if (failed(cache))
    return failure();
  Layout wanted = cache->getSharded() ? Layout::split(1) : Layout::replicated();
  if (!(context.layout(getK()) == wanted) || !(context.layout(getV()) == wanted))
    return context.noRule(*this);
  return Layout::replicated();
}

FailureOr<Layout> AttentionOp::partition(PartitionContext &context) {
  FailureOr<KvCacheOp> cache = context.scope.cache(*this, getCacheAttr());
  if (failed(cache))
    return failure();
  Layout wanted = cache->getSharded() ? Layout::split(1) : Layout::replicated();
  if (!(context.layout(getQ()) == wanted))
    return context.noRule(*this);
  return wanted;
}

FailureOr<Layout> AddOp::partition(PartitionContext &context) { return allTheSame(context, *this); }
FailureOr<Layout> GluOp::partition(PartitionContext &context) { return allTheSame(context, *this); }
FailureOr<Layout> ActivateOp::partition(PartitionContext &context) { return allTheSame(context, *this); }

// Every rank chooses for itself, and all must choose alike.
FailureOr<Layout> RouteOp::partition(PartitionContext &context) {
  if (failed(context.requireReplicated(getLogitsMutable())))
    return failure();
  return Layout::replicated();
}

// Every rank has its part of each expert.
FailureOr<Layout> ExpertLinearOp::partition(PartitionContext &context) {
  FailureOr<ParamOp> weight = context.scope.param(*this, getWeightAttr());
  if (failed(weight) || failed(context.requireReplicated(getRoutesMutable())))
    return failure();
  std::optional<unsigned> split = weight->getSplitDim();
  if (!split || *split == 1) { // whole, or column parallel
    if (failed(context.requireReplicated(getInputMutable())))
      return failure();
    return split ? Layout::split(2) : Layout::replicated();
  }
  unsigned last = cast<RankedTensorType>(getInput().getType()).getRank() - 1;
  if (*split != 2 || !(context.layout(getInput()) == Layout::split(last)))
    return context.noRule(*this);
  return Layout::partial();
}

// A sum of partial sums is one: it is completed once for all experts of a row.
FailureOr<Layout> CombineOp::partition(PartitionContext &context) {
  if (failed(context.requireReplicated(getRoutesMutable())))
    return failure();
  Layout layout = context.layout(getInput());
  if (layout.kind != Layout::Replicated && layout.kind != Layout::Partial)
    return context.noRule(*this);
  return layout;
}

FailureOr<Layout> LayerOp::partition(PartitionContext &context) { return allTheSame(context, *this); }

FailureOr<Layout> SelectOutputsOp::partition(PartitionContext &context) {
  if (failed(context.requireReplicated(getInputMutable())))
    return failure();
  return Layout::replicated();
}

FailureOr<Layout> TopCandidatesOp::partition(PartitionContext &context) {
  Layout layout = context.layout(getLogits());
  if (layout == Layout::split(1))
    return Layout::split(0);
  if (failed(context.requireReplicated(getLogitsMutable())))
    return failure();
  return Layout::replicated();
}

FailureOr<Layout> SampleOp::partition(PartitionContext &context) {
  if (failed(context.gatherRows(getCandidatesMutable())))
    return failure();
  return Layout::replicated();
}
