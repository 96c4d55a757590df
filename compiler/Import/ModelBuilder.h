// Builds the llm program of a model.
#pragma once

#include "compiler/Import/ModelSource.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace distc {

/// The largest batches and sequences that the plan will be made for.
struct Limits {
  int64_t maxBatch = 8;
  int64_t maxTokens = 512;
  int64_t maxSequence = 0;
  int64_t kvBlock = 16;
};

/// One module: files, tensors, params, caches, and `func.func @forward(batch) -> (ids, logits)`. The attributes
/// llm.model, llm.limits and llm.target of the module carry what the plan says about the whole.
Result<mlir::OwningOpRef<mlir::ModuleOp>> buildModel(mlir::MLIRContext &context, const import::ModelSource &source,
                                                     const Limits &limits, const std::string &target);

} // namespace distc
