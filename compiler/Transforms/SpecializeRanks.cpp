#include "compiler/Conversion/Weights.h"

namespace distc {
#define GEN_PASS_DEF_SPECIALIZERANKS
#include "compiler/Transforms/Passes.h.inc"
} // namespace distc

using namespace mlir;
using namespace distc;

namespace {

struct SpecializeRanksPass : distc::impl::SpecializeRanksBase<SpecializeRanksPass> {
  using SpecializeRanksBase::SpecializeRanksBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<MeshShape> mesh = getMesh(module);
    if (failed(mesh))
      return signalPassFailure();
    SymbolTable symbols(module);
    for (auto first : llvm::make_early_inc_range(module.getOps<planir::RankOp>())) {
      OpBuilder builder(first->getNextNode() ? first->getNextNode() : first);
      if (!first->getNextNode())
        builder.setInsertionPointToEnd(module.getBody());
      for (auto weight : first.getBody().getOps<planir::WeightOp>())
        if (!symbols.lookup<llm::ParamOp>(weight.getSymName())) {
          weight.emitOpError() << "has no 'llm.param' of this name beside the plan, as dist-to-plan leaves it";
          return signalPassFailure();
        }
      for (int64_t index = 1; index < mesh->tp && !firstOnly; ++index)
        specialize(cast<planir::RankOp>(builder.clone(*first)), symbols, mesh->tp, index);
    }
    for (Operation &op : llvm::make_early_inc_range(*module.getBody()))
      if (!isa<planir::RankOp>(op))
        op.erase();
    for (StringRef name : {"llm.model", "llm.limits", "llm.target"})
      module->removeAttr(name);
  }

  void specialize(planir::RankOp rank, SymbolTable &symbols, int64_t tp, int64_t index) {
    auto mesh = rank.get<planir::MeshOp>();
    mesh.setRank(mesh.getRank() + index);
    mesh.setTpIndex(index);
    rank.setSymName("rank" + std::to_string(mesh.getRank()));
    for (auto group : rank.getBody().getOps<planir::GroupOp>())
      if (group.getSymName() == "pp") {
        SmallVector<int64_t> ranks(group.getRanks());
        for (int64_t &member : ranks)
          member += index;
        group.setRanks(ranks);
      }
    SmallVector<llm::ParamOp> params;
    for (auto weight : rank.getBody().getOps<planir::WeightOp>())
      params.push_back(symbols.lookup<llm::ParamOp>(weight.getSymName()));
    declareWeights(rank, params, symbols, tp, index);

    int64_t vocabulary = rank.get<planir::ModelOp>().getVocabulary();
    rank.walk([&](Operation *op) {
      if (auto embedding = dyn_cast<planir::EmbeddingOp>(op)) {
        auto table = symbols.lookup<llm::ParamOp>(embedding.getWeight());
        if (table && table.getSplitDim())
          embedding.setFirstRow(index * table.getTensorType().getShape()[0]);
      } else if (auto candidates = dyn_cast<planir::TopCandidatesOp>(op)) {
        int64_t first = firstColumn(candidates.getLogits(), index);
        candidates.setFirstId(first);
        candidates.setValid(valid(candidates.getLogits(), vocabulary - first));
      } else if (auto logits = dyn_cast<planir::EmitLogitsOp>(op)) {
        int64_t first = firstColumn(logits.getInput(), index);
        logits.setFirstColumn(first);
        logits.setValid(valid(logits.getInput(), vocabulary - first));
      }
    });
  }

  static int64_t width(Value buffer) { return cast<planir::BufferOp>(buffer.getDefiningOp()).getRowElements(); }
  static int64_t firstColumn(Value logits, int64_t index) {
    bool split = cast<planir::BufferOp>(logits.getDefiningOp()).getLayout() == planir::LayoutKind::Split;
    return split ? index * width(logits) : 0;
  }
  static int64_t valid(Value logits, int64_t left) { return std::clamp<int64_t>(left, 0, width(logits)); }
};

} // namespace
