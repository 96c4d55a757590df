#include "compiler/Transforms/Passes.h"

namespace distc {
#define GEN_PASS_DEF_SPLITREGIMES
#include "compiler/Transforms/Passes.h.inc"
} // namespace distc

using namespace mlir;
using namespace distc;

namespace {

struct SplitRegimesPass : distc::impl::SplitRegimesBase<SplitRegimesPass> {
  void runOnOperation() override {
    auto forward = getOperation().lookupSymbol<func::FuncOp>("forward");
    if (!forward) {
      getOperation().emitError() << "expected a function @forward";
      return signalPassFailure();
    }
    OpBuilder builder(forward);
    for (StringRef regime : {"decode", "prefill"}) {
      auto program = cast<func::FuncOp>(builder.clone(*forward));
      program.setSymName(regime);
      program->setAttr("llm.regime", builder.getStringAttr(regime));
      program.walk([](llm::SelectOutputsOp select) {
        SmallVector<OpFoldResult> folded;
        if (succeeded(select->fold(folded)) && folded.size() == 1) {
          select.replaceAllUsesWith(cast<Value>(folded[0]));
          select.erase();
        }
      });
    }
    forward.erase();
  }
};

} // namespace
