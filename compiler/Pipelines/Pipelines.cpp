#include "compiler/Pipelines/Pipelines.h"

#include "compiler/Transforms/Passes.h"

#include "mlir/IR/OperationSupport.h"
#include "mlir/Pass/PassManager.h"

#include <chrono>

using namespace mlir;

namespace distc {

void registerDialects(DialectRegistry &registry) {
  registry.insert<llm::LLMDialect, dist::DistDialect, planir::PlanDialect, shard::ShardDialect, func::FuncDialect>();
}

namespace {

struct Step {
  Stage stage;
  const char *name;
  std::function<void(OpPassManager &)> add;
  bool (*needed)(const PipelineOptions &) = nullptr; // null: always
};

std::vector<Step> steps(const PipelineOptions &options) {
  PartitionTensorParallelOptions partition;
  partition.sequenceParallel = options.sequenceParallel;
  SplitPipelineOptions pipeline;
  pipeline.layers.assign(options.stageLayers.begin(), options.stageLayers.end());
  ScheduleTilesOptions tiles;
  tiles.sms = options.sms;
  OverlapCollectivesOptions overlap;
  overlap.chunks = options.overlapChunks;
  DistToPlanOptions flatten;
  flatten.microBatches = options.microBatches;
  flatten.decodeMicroBatches = options.decodeMicroBatches;
  SpecializeRanksOptions ranks;
  ranks.firstOnly = options.firstOnly;
  return {
      // Whole model: make the degrees divide, then one program for each regime.
      {Stage::Shard, "pad-tensor-parallel", [](OpPassManager &pm) { pm.addPass(createPadTensorParallel()); }},
      {Stage::Shard, "split-regimes", [](OpPassManager &pm) { pm.addPass(createSplitRegimes()); }},
      // One rank's shapes, with the collectives that they need.
      {Stage::Shard, "partition-tensor-parallel",
       [=](OpPassManager &pm) { pm.addPass(createPartitionTensorParallel(partition)); }},
      // One program for each pipeline stage; communication in start and wait.
      {Stage::Dist, "split-pipeline", [=](OpPassManager &pm) { pm.addPass(createSplitPipeline(pipeline)); }},
      {Stage::Dist, "async-collectives",
       [](OpPassManager &pm) { pm.addNestedPass<func::FuncOp>(createAsyncCollectives()); }},
      {Stage::Dist, "overlap-collectives",
       [=](OpPassManager &pm) { pm.addNestedPass<func::FuncOp>(createOverlapCollectives(overlap)); }},
      // Flat instruction lists with memory, for every rank.
      {Stage::Plan, "dist-to-plan", [=](OpPassManager &pm) { pm.addPass(createDistToPlan(flatten)); }},
      {Stage::Plan, "schedule-tiles",
       [=](OpPassManager &pm) { pm.addNestedPass<planir::RankOp>(createScheduleTiles(tiles)); },
       [](const PipelineOptions &options) { return options.sms > 0; }},
      {Stage::Plan, "plan-memory", [](OpPassManager &pm) { pm.addNestedPass<planir::RankOp>(createPlanMemory()); }},
      {Stage::Plan, "specialize-ranks", [=](OpPassManager &pm) { pm.addPass(createSpecializeRanks(ranks)); }},
  };
}

} // namespace

LogicalResult runPipeline(ModuleOp module, const PipelineOptions &options) {
  OpBuilder builder(module.getBodyRegion());
  shard::GridOp::create(builder, module.getLoc(), kMeshName, ArrayRef<int64_t>{options.pp, options.tp});
  SmallVector<StringRef> changing;
  for (const Step &step : steps(options)) {
    if (step.stage > options.until)
      break;
    auto start = std::chrono::steady_clock::now();
    if (step.needed && !step.needed(options))
      continue;
    // Up to the plans the module is small, and a hash of it tells whether a pass did anything; later ones always do.
    std::optional<OperationFingerPrint> before;
    if (step.stage < Stage::Plan)
      before.emplace(module);
    PassManager manager(module.getContext());
    step.add(manager);
    if (failed(manager.run(module)))
      return failure();
    bool changed = !before || *before != OperationFingerPrint(module);
    if (changed)
      changing.push_back(step.name);
    if (options.observer)
      options.observer(step.name, changed,
                       std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  for (auto rank : module.getOps<planir::RankOp>())
    rank.setPassesAttr(builder.getStrArrayAttr(changing));
  return success();
}

} // namespace distc
