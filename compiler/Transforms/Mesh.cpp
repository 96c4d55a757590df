// What several passes need: the mesh, and types that follow from changed params.
#include "compiler/Transforms/Passes.h"

using namespace mlir;

FailureOr<distc::MeshShape> distc::getMesh(ModuleOp module) {
  auto grid = dyn_cast_or_null<shard::GridOp>(SymbolTable::lookupSymbolIn(module, kMeshName));
  if (!grid || grid.getShape().size() != 2 || grid.getShape()[0] < 1 || grid.getShape()[1] < 1) {
    module.emitError() << "expected 'shard.grid @" << kMeshName << "(shape = PPxTP)' in the module";
    return failure();
  }
  for (auto function : module.getOps<func::FuncOp>())
    if (function.isExternal())
      return function.emitOpError() << "has no body";
  return MeshShape{grid.getShape()[0], grid.getShape()[1]};
}

void distc::refreshSignature(func::FuncOp function) {
  auto result = cast<func::ReturnOp>(function.getBody().front().getTerminator());
  function.setFunctionType(FunctionType::get(function.getContext(), function.getBody().front().getArgumentTypes(),
                                             result.getOperandTypes()));
}

LogicalResult distc::refreshTypes(func::FuncOp function, llm::ParamScope &scope) {
  for (Operation &op : function.getBody().front())
    if (auto rule = dyn_cast<llm::TensorParallelOpInterface>(op)) {
      FailureOr<Type> type = rule.inferType(scope);
      if (failed(type))
        return failure();
      if (op.getNumResults() == 1)
        op.getResult(0).setType(*type);
    }
  refreshSignature(function);
  return success();
}
