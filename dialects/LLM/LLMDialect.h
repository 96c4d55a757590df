// The llm dialect in C++. Its ops are documented in LLMOps.td.
#pragma once

#include "dialects/LLM/Partition.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/Dialect/Shard/IR/ShardDialect.h"
#include "mlir/Dialect/Shard/IR/ShardOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "dialects/LLM/LLMDialect.h.inc"
#include "dialects/LLM/LLMEnums.h.inc"

#define GET_TYPEDEF_CLASSES
#include "dialects/LLM/LLMTypes.h.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/LLM/LLMAttributes.h.inc"

namespace distc::llm {

/// Checks the results' types of `op` against its own shape rule, and that it gets whole rows where it needs them.
llvm::LogicalResult verifyInferredType(mlir::Operation *op, mlir::SymbolTableCollection &tables);

/// The element type of a value, param or cache as files and plans name it.
DType dtypeOf(mlir::Type element);

/// A named dimension that is split over the tensor-parallel ranks.
bool isSplitDimName(llvm::StringRef name);

} // namespace distc::llm

#include "dialects/LLM/LLMInterfaces.h.inc"
#define GET_OP_CLASSES
#include "dialects/LLM/LLMOps.h.inc"
