// What the shape and sharding rules of llm ops are written against.
#pragma once

#include "mlir/IR/Builders.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/IR/Value.h"
#include "llvm/ADT/DenseMap.h"

namespace distc::llm {

class ParamOp;
class KvCacheOp;
class RopeTableOp;

/// How a value lies over the tensor-parallel ranks.
struct Layout {
  enum Kind { Replicated, Split, Partial };
  Kind kind = Replicated;
  unsigned dim = 0; // Split: the dimension; 0 are the rows

  static Layout replicated() { return {}; }
  static Layout split(unsigned dim) { return {Split, dim}; }
  static Layout partial() { return {Partial, 0}; }
  bool operator==(const Layout &other) const { return kind == other.kind && (kind != Split || dim == other.dim); }
  std::string str() const;
};

/// Looks up the symbols that a program refers to; a missing one, or one of another kind, is a diagnostic on the user.
class ParamScope {
public:
  ParamScope(mlir::SymbolTableCollection &tables) : tables_(tables) {}
  mlir::FailureOr<ParamOp> param(mlir::Operation *user, mlir::FlatSymbolRefAttr name);
  mlir::FailureOr<KvCacheOp> cache(mlir::Operation *user, mlir::FlatSymbolRefAttr name);
  mlir::FailureOr<RopeTableOp> ropeTable(mlir::Operation *user, mlir::FlatSymbolRefAttr name);

private:
  template <typename Op> mlir::FailureOr<Op> find(mlir::Operation *user, mlir::FlatSymbolRefAttr name);
  mlir::SymbolTableCollection &tables_;
};

/// The state of one partition walk: the layout of every value so far, and the collectives that have been inserted.
class PartitionContext {
public:
  PartitionContext(ParamScope &scope, mlir::StringRef grid, int16_t axis) : scope(scope), grid_(grid), axis_(axis) {}

  ParamScope &scope;

  Layout layout(mlir::Value value) const { return layouts_.lookup(value); }
  void setLayout(mlir::Value value, Layout layout) { layouts_[value] = layout; }

  /// Makes `operand` replicated: a partial sum is all-reduced in front of its first such use, later uses share it. A
  /// split value is an error.
  mlir::LogicalResult requireReplicated(mlir::OpOperand &operand);
  /// The same for a value split along its rows, which are gathered.
  mlir::LogicalResult gatherRows(mlir::OpOperand &operand);
  /// The error of an op that has no rule for its operands' layouts.
  mlir::LogicalResult noRule(mlir::Operation *op);

private:
  std::string grid_;
  int16_t axis_;
  llvm::DenseMap<mlir::Value, Layout> layouts_;
  llvm::DenseMap<mlir::Value, mlir::Value> replicated_; // looked up only, never iterated
};

} // namespace distc::llm
