// Shape rules and verifiers. The sharding rules are in LLMPartition.cpp.
#include "dialects/LLM/LLMDialect.h"

using namespace mlir;
using namespace distc::llm;

#include "dialects/LLM/LLMInterfaces.cpp.inc"
#define GET_OP_CLASSES
#include "dialects/LLM/LLMOps.cpp.inc"

// Symbols -------------------------------------------------------------------------------------------------------------

template <typename Op> FailureOr<Op> ParamScope::find(Operation *user, FlatSymbolRefAttr name) {
  Operation *symbol = tables_.lookupNearestSymbolFrom(user, name);
  if (!symbol) {
    user->emitOpError() << "refers to " << name << ", which does not exist";
    return failure();
  }
  if (auto op = dyn_cast<Op>(symbol))
    return op;
  user->emitOpError() << "refers to " << name << ", expected a '" << Op::getOperationName() << "', got a '"
                      << symbol->getName() << "'";
  return failure();
}

FailureOr<ParamOp> ParamScope::param(Operation *user, FlatSymbolRefAttr name) { return find<ParamOp>(user, name); }
FailureOr<KvCacheOp> ParamScope::cache(Operation *user, FlatSymbolRefAttr name) { return find<KvCacheOp>(user, name); }
FailureOr<RopeTableOp> ParamScope::ropeTable(Operation *user, FlatSymbolRefAttr name) {
  return find<RopeTableOp>(user, name);
}

LogicalResult distc::llm::verifyInferredType(Operation *op, SymbolTableCollection &tables) {
  ParamScope scope(tables);
  FailureOr<Type> expected = cast<TensorParallelOpInterface>(op).inferType(scope);
  if (failed(expected))
    return failure();
  // The partition gives whole rows to all but these.
  if (!isa<RmsNormOp, LayerNormOp, AddOp, GluOp, ActivateOp, LayerOp, ScaleOp, SoftCapOp>(op))
    for (Type operand : op->getOperandTypes())
      if (isScattered(operand))
        return op->emitOpError() << "expected whole rows, got " << operand;
  if (op->getNumResults() == 1 && op->getResult(0).getType() != *expected)
    return op->emitOpError() << "expected result type " << *expected << ", got " << op->getResult(0).getType();
  return success();
}

// Params --------------------------------------------------------------------------------------------------------------

SmallVector<int64_t> ParamOp::getLogicalShape() {
  SmallVector<int64_t> shape;
  for (auto source : getSources().getAsRange<SourceAttr>()) {
    SmallVector<int64_t> part = source.getShape();
    if (shape.empty())
      shape = part;
    else
      shape[0] += part[0];
  }
  return shape;
}

std::optional<unsigned> ParamOp::getSplitDim() {
  if (!getSharding())
    return std::nullopt;
  for (auto [dim, axes] : llvm::enumerate(getSharding()->getAxes()))
    if (!axes.empty())
      return dim;
  return std::nullopt;
}

LogicalResult ParamOp::verify() {
  RankedTensorType type = getTensorType();
  if (!type.hasStaticShape())
    return emitOpError() << "expected a static shape, got " << type;
  if (getDims().size() != static_cast<size_t>(type.getRank()))
    return emitOpError() << "expected a name for each of " << type.getRank() << " dimensions, got " << getDims().size();
  if (getSources().empty())
    return emitOpError() << "expected at least one source";
  SmallVector<int64_t> first;
  for (auto source : getSources().getAsRange<SourceAttr>()) {
    SmallVector<int64_t> shape = source.getShape();
    if (shape.size() != static_cast<size_t>(type.getRank()))
      return emitOpError() << "source " << source.getTensor() << " has " << shape.size() << " dimensions, expected "
                           << type.getRank();
    if (first.empty())
      first = shape;
    else if (!std::equal(shape.begin() + 1, shape.end(), first.begin() + 1))
      return emitOpError() << "source " << source.getTensor() << " differs from the first in a dimension after 0";
  }
  if (getSharding() && getSharding()->size() > static_cast<size_t>(type.getRank()))
    return emitOpError() << "is sharded along " << getSharding()->size() << " dimensions, expected at most "
                         << type.getRank();
  std::optional<unsigned> split = getSplitDim();
  SmallVector<int64_t> logical = getLogicalShape();
  for (auto [dim, size] : llvm::enumerate(type.getShape())) {
    bool fits = split && *split == dim ? size > 0 && logical[dim] % size == 0 : logical[dim] == size;
    if (!fits)
      return emitOpError() << "dimension " << dim << ": the sources have " << logical[dim] << ", the type " << size;
  }
  return success();
}

LogicalResult TensorOp::verifySymbolUses(SymbolTableCollection &tables) {
  if (FlatSymbolRefAttr file = getFileAttr(); file && !tables.lookupNearestSymbolFrom<FileOp>(*this, file))
    return emitOpError() << "refers to file " << file << ", which does not exist";
  return success();
}

LogicalResult ParamOp::verifySymbolUses(SymbolTableCollection &tables) {
  for (auto source : getSources().getAsRange<SourceAttr>()) {
    auto tensor = dyn_cast_or_null<TensorOp>(tables.lookupNearestSymbolFrom(*this, source.getTensor()));
    if (!tensor)
      return emitOpError() << "refers to tensor " << source.getTensor() << ", which does not exist";
    auto product = [](ArrayRef<int64_t> shape) {
      int64_t elements = 1;
      for (int64_t size : shape)
        elements *= size;
      return elements;
    };
    if (product(source.getView()) != product(tensor.getShape()))
      return emitOpError() << "reads tensor " << source.getTensor() << " of " << product(tensor.getShape())
                           << " elements as a view of " << product(source.getView());
  }
  return success();
}

// Shape rules ---------------------------------------------------------------------------------------------------------

static RankedTensorType rows(ArrayRef<int64_t> dims, Type element) {
  SmallVector<int64_t> shape{ShapedType::kDynamic};
  shape.append(dims.begin(), dims.end());
  return RankedTensorType::get(shape, element);
}

static ArrayRef<int64_t> rowDims(Value value) {
  return cast<RankedTensorType>(value.getType()).getShape().drop_front();
}
static Type elementOf(Value value) { return cast<RankedTensorType>(value.getType()).getElementType(); }

FailureOr<Type> EmbeddingOp::inferType(ParamScope &scope) {
  FailureOr<ParamOp> weight = scope.param(*this, getWeightAttr());
  if (failed(weight))
    return failure();
  RankedTensorType type = weight->getTensorType();
  if (type.getRank() != 2)
    return emitOpError() << "expected a table of rank 2, got " << type;
  return Type(rows(type.getShape().drop_front(), elementOf(getResult())));
}

FailureOr<Type> RmsNormOp::inferType(ParamScope &scope) {
  FailureOr<ParamOp> weight = scope.param(*this, getWeightAttr());
  if (failed(weight))
    return failure();
  ArrayRef<int64_t> shape = weight->getTensorType().getShape();
  if (shape != rowDims(getInput()).take_back() && shape != rowDims(getInput()))
    return emitOpError() << "expected a weight of " << rowDims(getInput()).back() << " elements, got "
                         << weight->getTensorType();
  if (Value squares = getSquares())
    if (shape != rowDims(getInput()) || static_cast<int64_t>(getColumn()) >= rowDims(squares)[0] || getElements() == 0)
      return emitOpError()
             << "expected a weight for each element of a row, a column of the squares and their elements, got "
             << weight->getTensorType() << ", column " << getColumn() << " of " << squares.getType() << " and "
             << getElements();
  return getInput().getType();
}

FailureOr<Type> SquareSumOp::inferType(ParamScope &) {
  if (getInputs().empty() || getInputs().size() > 2)
    return emitOpError() << "expected one input or two, got " << getInputs().size();
  return Type(rows({static_cast<int64_t>(getInputs().size())}, Float32Type::get(getContext())));
}

FailureOr<Type> ScaleOp::inferType(ParamScope &) { return getInput().getType(); }

FailureOr<Type> SoftCapOp::inferType(ParamScope &) {
  if (!(getCap().convertToFloat() > 0))
    return emitOpError() << "expected a cap above 0, got " << getCap().convertToFloat();
  return getInput().getType();
}

FailureOr<Type> LayerNormOp::inferType(ParamScope &scope) {
  for (FlatSymbolRefAttr name : {getWeightAttr(), getBiasAttr()}) {
    if (!name)
      continue;
    FailureOr<ParamOp> vector = scope.param(*this, name);
    if (failed(vector))
      return failure();
    if (vector->getTensorType().getShape() != rowDims(getInput()).take_back())
      return emitOpError() << "expected " << name << " of " << rowDims(getInput()).back() << " elements, got "
                           << vector->getTensorType();
  }
  return getInput().getType();
}

FailureOr<Type> PositionEmbeddingOp::inferType(ParamScope &scope) {
  FailureOr<ParamOp> weight = scope.param(*this, getWeightAttr());
  if (failed(weight))
    return failure();
  RankedTensorType type = weight->getTensorType();
  if (type.getRank() != 2 || type.getShape().drop_front() != rowDims(getInput()))
    return emitOpError() << "expected a table of rows like " << getInput().getType() << ", got " << type;
  return getInput().getType();
}

FailureOr<Type> LinearOp::inferType(ParamScope &scope) {
  FailureOr<ParamOp> weight = scope.param(*this, getWeightAttr());
  if (failed(weight))
    return failure();
  ArrayRef<int64_t> in = rowDims(getInput()), shape = weight->getTensorType().getShape();
  if (shape.size() <= in.size() || shape.take_back(in.size()) != in)
    return emitOpError() << "contracts the last " << in.size() << " dimensions of " << getWeightAttr() << " ("
                         << weight->getTensorType() << ") with an input of type " << getInput().getType();
  ArrayRef<int64_t> out = shape.drop_back(in.size());
  if (FlatSymbolRefAttr name = getBiasAttr()) {
    FailureOr<ParamOp> bias = scope.param(*this, name);
    if (failed(bias))
      return failure();
    if (bias->getTensorType().getShape() != out)
      return emitOpError() << "bias " << name << " is " << bias->getTensorType() << ", expected the shape of the rows "
                           << rows(out, elementOf(getInput()));
  }
  Type stated = elementOf(getResult());
  return Type(rows(out, stated.isF32() ? stated : elementOf(getInput())));
}

FailureOr<Type> RopeOp::inferType(ParamScope &scope) {
  FailureOr<RopeTableOp> table = scope.ropeTable(*this, getTableAttr());
  if (failed(table))
    return failure();
  ArrayRef<int64_t> dims = rowDims(getInput());
  if (dims.size() != 2 || dims[1] < 2 * table->getPairs())
    return emitOpError() << "expected heads of at least " << 2 * table->getPairs() << " elements, got "
                         << getInput().getType();
  return getInput().getType();
}

static LogicalResult checkHeads(Operation *op, StringRef what, Value value, KvCacheOp cache, bool exact) {
  ArrayRef<int64_t> dims = rowDims(value);
  KvCacheType type = cache.getCacheType();
  if (dims.size() != 2 || dims[1] != type.getHeadDim() ||
      (exact ? dims[0] != type.getHeads() : dims[0] % type.getHeads() != 0))
    return op->emitOpError() << what << " of type " << value.getType() << " does not fit cache @" << cache.getSymName()
                             << " of type " << type;
  return success();
}

FailureOr<Type> KvAppendOp::inferType(ParamScope &scope) {
  FailureOr<KvCacheOp> cache = scope.cache(*this, getCacheAttr());
  if (failed(cache) || failed(checkHeads(*this, "keys", getK(), *cache, /*exact=*/true)) ||
      failed(checkHeads(*this, "values", getV(), *cache, /*exact=*/true)))
    return failure();
  return Type();
}

FailureOr<Type> AttentionOp::inferType(ParamScope &scope) {
  FailureOr<KvCacheOp> cache = scope.cache(*this, getCacheAttr());
  if (failed(cache) || failed(checkHeads(*this, "queries", getQ(), *cache, /*exact=*/false)))
    return failure();
  return getQ().getType();
}

FailureOr<Type> AddOp::inferType(ParamScope &) {
  if (getLhs().getType() != getRhs().getType())
    return emitOpError() << "adds " << getLhs().getType() << " and " << getRhs().getType();
  return getLhs().getType();
}

FailureOr<Type> GluOp::inferType(ParamScope &) {
  if (getGate().getType() != getUp().getType())
    return emitOpError() << "multiplies " << getGate().getType() << " and " << getUp().getType();
  return getGate().getType();
}

FailureOr<Type> ActivateOp::inferType(ParamScope &) { return getInput().getType(); }

// How many experts each row of the routes names; an error if these are no routes.
static FailureOr<int64_t> routesOf(Operation *op, Value routes) {
  ArrayRef<int64_t> dims = rowDims(routes);
  if (dims.size() == 2 && dims[1] == 2)
    return dims[0];
  return op->emitOpError() << "expected routes [?, count, 2], got " << routes.getType();
}

FailureOr<Type> RouteOp::inferType(ParamScope &) {
  ArrayRef<int64_t> dims = rowDims(getLogits());
  const auto count = static_cast<int64_t>(getCount());
  if (dims.size() != 1 || count < 1 || count > dims[0])
    return emitOpError() << "chooses " << count << " of " << getLogits().getType();
  return Type(rows({count, 2}, elementOf(getResult())));
}

FailureOr<Type> ExpertLinearOp::inferType(ParamScope &scope) {
  FailureOr<ParamOp> weight = scope.param(*this, getWeightAttr());
  FailureOr<int64_t> count = routesOf(*this, getRoutes());
  if (failed(weight) || failed(count))
    return failure();
  ArrayRef<int64_t> in = rowDims(getInput()), shape = weight->getTensorType().getShape();
  if (shape.size() != 3 || in.back() != shape[2] || (in.size() == 2 && in[0] != *count))
    return emitOpError() << "multiplies an input of type " << getInput().getType() << " for " << *count
                         << " experts with " << getWeightAttr() << " (" << weight->getTensorType() << ")";
  return Type(rows({*count, shape[1]}, elementOf(getInput())));
}

FailureOr<Type> CombineOp::inferType(ParamScope &) {
  FailureOr<int64_t> count = routesOf(*this, getRoutes());
  if (failed(count))
    return failure();
  ArrayRef<int64_t> dims = rowDims(getInput());
  if (dims.size() != 2 || dims[0] != *count)
    return emitOpError() << "adds up " << *count << " experts of " << getInput().getType();
  return Type(rows(dims.drop_front(), elementOf(getInput())));
}

FailureOr<Type> LayerOp::inferType(ParamScope &) { return getInput().getType(); }
FailureOr<Type> SelectOutputsOp::inferType(ParamScope &) { return getInput().getType(); }

FailureOr<Type> TopCandidatesOp::inferType(ParamScope &) {
  if (rowDims(getLogits()).size() != 1)
    return emitOpError() << "expected logits of rank 2, got " << getLogits().getType();
  if (getCount() < 1)
    return emitOpError() << "expected a count of at least 1, got " << getCount();
  return Type(rows({static_cast<int64_t>(getCount()) + 2, 2}, elementOf(getResult())));
}

FailureOr<Type> SampleOp::inferType(ParamScope &) {
  ArrayRef<int64_t> dims = rowDims(getCandidates());
  if (dims.size() != 2 || dims[0] < 3 || dims[1] != 2)
    return emitOpError() << "expected candidates [?, count + 2, 2], got " << getCandidates().getType();
  return Type(rows({}, IntegerType::get(getContext(), 32)));
}

// Folders -------------------------------------------------------------------------------------------------------------

// A decode program gives every row an output: the enclosing function says so.
OpFoldResult SelectOutputsOp::fold(FoldAdaptor) {
  Operation *function = (*this)->getParentOp();
  if (function && function->getAttrOfType<StringAttr>("llm.regime") &&
      function->getAttrOfType<StringAttr>("llm.regime").getValue() == "decode")
    return getInput();
  return {};
}
