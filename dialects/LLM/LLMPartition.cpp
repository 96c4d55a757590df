// How each op is split over the tensor-parallel ranks (Shoeybi et al., Megatron-LM, arXiv:1909.08053).
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
  }
  return "";
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
  case Layout::Partial:
    break;
  }
  Value &whole = replicated_[value];
  if (!whole) {
    OpBuilder builder(operand.getOwner());
    whole = shard::AllReduceOp::create(builder, value.getLoc(), value.getType(), grid_, ArrayRef<int16_t>{axis_}, value,
                                       shard::ReductionKind::Sum);
    setLayout(whole, Layout::replicated());
  }
  operand.set(whole);
  return success();
}

LogicalResult PartitionContext::gatherRows(OpOperand &operand) {
  Value value = operand.get();
  if (!(layout(value) == Layout::split(0)))
    return requireReplicated(operand);
  OpBuilder builder(operand.getOwner());
  Value whole = shard::AllGatherOp::create(builder, value.getLoc(), value.getType(), grid_, ArrayRef<int16_t>{axis_},
                                           value, APInt(64, 0));
  setLayout(whole, Layout::replicated());
  operand.set(whole);
  return success();
}

// Rules ---------------------------------------------------------------------------------------------------------------

// Elementwise over rows and heads: whatever the operand is, so is the result.
static FailureOr<Layout> sameAsInput(PartitionContext &context, OpOperand &input) {
  if (context.layout(input.get()).kind == Layout::Partial && failed(context.requireReplicated(input)))
    return failure();
  return context.layout(input.get());
}

// All operands in one layout; partial sums are completed first.
static FailureOr<Layout> allTheSame(PartitionContext &context, Operation *op) {
  std::optional<Layout> common;
  for (OpOperand &operand : op->getOpOperands()) {
    FailureOr<Layout> layout = sameAsInput(context, operand);
    if (failed(layout))
      return failure();
    if (common && !(*common == *layout))
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

FailureOr<Layout> RmsNormOp::partition(PartitionContext &context) {
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

FailureOr<Layout> RopeOp::partition(PartitionContext &context) { return sameAsInput(context, getInputMutable()); }

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
FailureOr<Layout> LayerOp::partition(PartitionContext &context) { return sameAsInput(context, getInputMutable()); }

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
