#include "dialects/Plan/PlanDialect.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace distc::planir;

#include "dialects/Plan/PlanDialect.cpp.inc"
#include "dialects/Plan/PlanEnums.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "dialects/Plan/PlanTypes.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/Plan/PlanAttributes.cpp.inc"
#include "dialects/Plan/PlanInterfaces.cpp.inc"
#define GET_OP_CLASSES
#include "dialects/Plan/PlanOps.cpp.inc"

void PlanDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialects/Plan/PlanTypes.cpp.inc"
      >();
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/Plan/PlanAttributes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/Plan/PlanOps.cpp.inc"
      >();
}

template <typename Op> static LogicalResult expectOne(RankOp rank) {
  auto ops = rank.getBody().getOps<Op>();
  auto count = std::distance(ops.begin(), ops.end());
  if (count != 1)
    return rank.emitOpError() << "expected one '" << Op::getOperationName() << "', got " << count;
  return success();
}

LogicalResult RankOp::verify() {
  if (failed(expectOne<ModelOp>(*this)) || failed(expectOne<MeshOp>(*this)) || failed(expectOne<LimitsOp>(*this)) ||
      failed(expectOne<LedgerOp>(*this)) || failed(expectOne<KvPoolOp>(*this)))
    return failure();
  return success();
}
