// The passes in C++. They are documented in Passes.td.
#pragma once

#include "dialects/Dist/DistDialect.h"
#include "dialects/LLM/LLMDialect.h"
#include "dialects/Plan/PlanDialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/Pass.h"

namespace distc {

/// The sizes of `shard.grid @mesh`, pipeline stages first.
struct MeshShape {
  int64_t pp = 1, tp = 1;
};
inline constexpr llvm::StringLiteral kMeshName = "mesh";
inline constexpr int16_t kTensorParallelAxis = 1;

/// The module's mesh; none is an error, and so is a function without a body, which no pass can look into.
mlir::FailureOr<MeshShape> getMesh(mlir::ModuleOp module);

/// Derives the result types of every llm op of `function` again, in order, and its signature from its return.
mlir::LogicalResult refreshTypes(mlir::func::FuncOp function, llm::ParamScope &scope);
/// The signature alone.
void refreshSignature(mlir::func::FuncOp function);

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "compiler/Transforms/Passes.h.inc"

} // namespace distc
