#include "dialects/Dist/DistDialect.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace distc::dist;

#include "dialects/Dist/DistDialect.cpp.inc"
#include "dialects/Dist/DistEnums.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "dialects/Dist/DistTypes.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/Dist/DistAttributes.cpp.inc"
#define GET_OP_CLASSES
#include "dialects/Dist/DistOps.cpp.inc"

void DistDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialects/Dist/DistTypes.cpp.inc"
      >();
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/Dist/DistAttributes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/Dist/DistOps.cpp.inc"
      >();
}

// A token is waited for exactly once, by a dist.wait.
static LogicalResult verifyToken(Operation *op) {
  Value token = op->getResult(0);
  if (token.use_empty())
    return op->emitOpError() << "starts a communication that nothing waits for";
  if (!token.hasOneUse())
    return op->emitOpError() << "is waited for " << std::distance(token.use_begin(), token.use_end())
                             << " times, expected once";
  if (!isa<WaitOp>(*token.getUsers().begin()))
    return op->emitOpError() << "gives its token to a '" << (*token.getUsers().begin())->getName()
                             << "', expected a 'dist.wait'";
  return success();
}

static LogicalResult verifySameValue(Operation *op, Type input) {
  Type value = cast<TokenType>(op->getResult(0).getType()).getValue();
  if (value != input) {
    InFlightDiagnostic error = op->emitOpError() << "expected a token ";
    if (input)
      error << "of " << input;
    else
      error << "without a value";
    return error << ", got " << op->getResult(0).getType();
  }
  return verifyToken(op);
}

LogicalResult AllReduceStartOp::verify() { return verifySameValue(*this, getInput().getType()); }
LogicalResult AllGatherStartOp::verify() { return verifySameValue(*this, getInput().getType().dropEncoding()); }
LogicalResult ReduceScatterStartOp::verify() {
  auto value = dyn_cast_or_null<RankedTensorType>(getToken().getType().getValue());
  if (!value || !value.getEncoding() || value.dropEncoding() != getInput().getType())
    return emitOpError() << "expected a token of " << getInput().getType() << " with an encoding, got "
                         << getToken().getType();
  return verifyToken(*this);
}
LogicalResult SendStartOp::verify() { return verifySameValue(*this, Type()); }

LogicalResult RecvStartOp::verify() {
  if (!getToken().getType().getValue())
    return emitOpError() << "expected a token of the received type";
  return verifyToken(*this);
}

LogicalResult ChunkOp::verify() {
  const auto chunk = static_cast<int64_t>(getChunk()), chunks = static_cast<int64_t>(getChunks());
  if (chunk >= 0 && chunk < chunks)
    return success();
  return emitOpError() << "is chunk " << chunk << " of " << chunks << ", expected one of them";
}

LogicalResult WaitOp::verify() {
  if (!getToken().getDefiningOp())
    return emitOpError() << "waits for a token that comes from outside, expected one that its function starts";
  Type expected = getToken().getType().getValue();
  Type actual = getResult() ? getResult().getType() : Type();
  if (expected == actual)
    return success();
  if (!expected)
    return emitOpError() << "waits for " << getToken().getType() << ", which gives no value";
  return emitOpError() << "expected a result of type " << expected;
}
