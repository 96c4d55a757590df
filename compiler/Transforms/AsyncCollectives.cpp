#include "compiler/Transforms/Passes.h"

namespace distc {
#define GEN_PASS_DEF_ASYNCCOLLECTIVES
#include "compiler/Transforms/Passes.h.inc"
} // namespace distc

using namespace mlir;
using namespace distc;

namespace {

struct AsyncCollectivesPass : distc::impl::AsyncCollectivesBase<AsyncCollectivesPass> {
  void runOnOperation() override {
    bool changed = false;
    WalkResult result = getOperation().walk([&](Operation *op) {
      if (!isa<shard::AllReduceOp, shard::ReduceScatterOp, shard::AllGatherOp>(op))
        return WalkResult::advance();
      OpBuilder builder(op);
      auto token = dist::TokenType::get(&getContext(), op->getResult(0).getType());
      Value started;
      if (auto reduce = dyn_cast<shard::AllReduceOp>(op)) {
        if (reduce.getReduction() != shard::ReductionKind::Sum || !overTensorParallel(reduce.getGridAxes()))
          return unsupported(op);
        started = dist::AllReduceStartOp::create(builder, op->getLoc(), token, reduce.getInput(), dist::Group::TP,
                                                 dist::Reduction::Sum);
      } else if (auto scatter = dyn_cast<shard::ReduceScatterOp>(op)) {
        if (scatter.getReduction() != shard::ReductionKind::Sum || !scatter.getScatterAxis().isZero() ||
            !overTensorParallel(scatter.getGridAxes()))
          return unsupported(op);
        started = dist::ReduceScatterStartOp::create(builder, op->getLoc(), token, scatter.getInput(), dist::Group::TP,
                                                     dist::Reduction::Sum);
      } else {
        auto gather = cast<shard::AllGatherOp>(op);
        if (!gather.getGatherAxis().isZero() || !overTensorParallel(gather.getGridAxes()))
          return unsupported(op);
        started = dist::AllGatherStartOp::create(builder, op->getLoc(), token, gather.getInput(), dist::Group::TP);
      }
      Value whole = dist::WaitOp::create(builder, op->getLoc(), op->getResult(0).getType(), started).getResult();
      op->getResult(0).replaceAllUsesWith(whole);
      op->erase();
      changed = true;
      return WalkResult::advance();
    });
    if (result.wasInterrupted())
      return signalPassFailure();
    if (!changed)
      markAllAnalysesPreserved();
  }

  static bool overTensorParallel(ArrayRef<int16_t> axes) { return axes == ArrayRef<int16_t>{kTensorParallelAxis}; }

  static WalkResult unsupported(Operation *op) {
    op->emitOpError() << "cannot be made asynchronous: expected a sum, whole or scattered by rows, or a gather of "
                         "rows, over grid axis "
                      << kTensorParallelAxis;
    return WalkResult::interrupt();
  }
};

} // namespace
