#include "compiler/Transforms/Passes.h"

namespace distc {
#define GEN_PASS_DEF_PARTITIONTENSORPARALLEL
#include "compiler/Transforms/Passes.h.inc"
} // namespace distc

using namespace mlir;
using namespace distc;

namespace {

struct PartitionTensorParallelPass : distc::impl::PartitionTensorParallelBase<PartitionTensorParallelPass> {
  using PartitionTensorParallelBase::PartitionTensorParallelBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<MeshShape> mesh = getMesh(module);
    if (failed(mesh))
      return signalPassFailure();
    if (mesh->tp == 1)
      return markAllAnalysesPreserved();
    for (auto param : module.getOps<llm::ParamOp>())
      if (failed(shardParam(param, mesh->tp)))
        return signalPassFailure();
    for (auto cache : module.getOps<llm::KvCacheOp>())
      if (failed(shardCache(cache, mesh->tp)))
        return signalPassFailure();
    for (auto function : module.getOps<func::FuncOp>())
      if (failed(partition(function)))
        return signalPassFailure();
  }

  LogicalResult shardParam(llm::ParamOp param, int64_t degree) {
    RankedTensorType type = param.getTensorType();
    SmallVector<int64_t> shape(type.getShape());
    SmallVector<shard::GridAxesAttr> axes(shape.size(), shard::GridAxesAttr::get(&getContext(), {}));
    bool split = false;
    for (auto [dim, name] : llvm::enumerate(param.getDims().getAsValueRange<StringAttr>())) {
      if (!llm::isSplitDimName(name))
        continue;
      if (split)
        return param.emitOpError() << "has two dimensions to split; the second is '" << name << "'";
      if (shape[dim] % degree != 0)
        return param.emitOpError() << "has dimension '" << name << "' of size " << shape[dim]
                                   << ", which tensor parallel degree " << degree
                                   << " does not divide; run pad-tensor-parallel first";
      if (dim == 0 && param.getSources().size() > 1)
        return param.emitOpError() << "is split along dimension 0, where its sources are stacked";
      shape[dim] /= degree;
      axes[dim] = shard::GridAxesAttr::get(&getContext(), {kTensorParallelAxis});
      split = true;
    }
    if (!split)
      return success();
    param.setType(RankedTensorType::get(shape, type.getElementType()));
    param.setShardingAttr(shard::GridAxesArrayAttr::get(&getContext(), axes));
    return success();
  }

  LogicalResult shardCache(llm::KvCacheOp cache, int64_t degree) {
    llm::KvCacheType type = cache.getCacheType();
    if (type.getHeads() % degree != 0)
      return cache.emitOpError() << "has " << type.getHeads() << " heads, which tensor parallel degree " << degree
                                 << " does not divide; run pad-tensor-parallel first";
    cache.setType(
        llm::KvCacheType::get(&getContext(), type.getHeads() / degree, type.getHeadDim(), type.getElementType()));
    cache.setSharded(true);
    return success();
  }

  LogicalResult partition(func::FuncOp function) {
    SymbolTableCollection tables;
    llm::ParamScope scope(tables);
    auto regime = function->getAttrOfType<StringAttr>("llm.regime");
    llm::PartitionContext context(scope, kMeshName, kTensorParallelAxis,
                                  sequenceParallel && regime && regime.getValue() == "prefill");
    for (Operation &op : llvm::make_early_inc_range(function.getBody().front())) {
      if (auto rule = dyn_cast<llm::TensorParallelOpInterface>(op)) {
        FailureOr<llm::Layout> layout = rule.partition(context);
        FailureOr<Type> type = failed(layout) ? FailureOr<Type>(failure()) : rule.inferType(scope);
        if (failed(type))
          return failure();
        if (op.getNumResults() == 1) {
          op.getResult(0).setType(*type);
          context.setLayout(op.getResult(0), *layout);
        }
      } else if (isa<func::ReturnOp>(op)) {
        // Ids must be whole; logits are handed out in parts.
        for (OpOperand &operand : op.getOpOperands())
          if (context.layout(operand.get()).kind != llm::Layout::Split ||
              getElementTypeOrSelf(operand.get()).isInteger(32))
            if (failed(context.requireReplicated(operand)))
              return failure();
      } else {
        return op.emitOpError() << "has no sharding rule";
      }
    }
    refreshSignature(function);
    return success();
  }
};

} // namespace
