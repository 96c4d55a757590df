// The compiler's story: the ordered list of passes from a model to the plans of all ranks.
#pragma once

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/DialectRegistry.h"

#include <functional>
#include <string>
#include <vector>

namespace distc {

/// A form of the program that can be looked at, by the dialects that it is in.
enum class Stage { Llm, Shard, Dist, Plan };

struct PipelineOptions {
  int64_t tp = 1, pp = 1;
  std::vector<int64_t> stageLayers; // empty: balanced
  bool sequenceParallel = false;    // the residual stream of prefill is scattered by rows
  int64_t overlapChunks = 1;        // that prefill is cut into, where ranks reduce
  int64_t microBatches = 1, decodeMicroBatches = 1;
  int64_t sms = 0; // multiprocessors of the target; 0: it has no tile schedule
  Stage until = Stage::Plan;
  bool firstOnly = false; // the plan of the first rank of each stage alone
  /// Called after each pass with its name, whether it changed anything, and its time.
  std::function<void(llvm::StringRef pass, bool changed, double seconds)> observer;
};

/// Every dialect that a module of ours may hold.
void registerDialects(mlir::DialectRegistry &registry);

/// Runs the passes over the module that Import built. The plans' list of passes names those that changed something.
mlir::LogicalResult runPipeline(mlir::ModuleOp module, const PipelineOptions &options);

} // namespace distc
