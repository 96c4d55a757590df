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

/// How a value lies over the tensor-parallel ranks. Split along dimension 0 each rank has all rows, with a value of its
/// own in each; scattered, rank i has the i-th ceil(rows / ranks) of the rows, the last ranks zeros where there are no
/// more.
struct Layout {
  enum Kind { Replicated, Split, Scattered, Partial };
  Kind kind = Replicated;
  unsigned dim = 0; // Split: the dimension; 0 are the rows

  static Layout replicated() { return {}; }
  static Layout split(unsigned dim) { return {Split, dim}; }
  static Layout scattered() { return {Scattered, 0}; }
  static Layout partial() { return {Partial, 0}; }
  bool operator==(const Layout &other) const { return kind == other.kind && (kind != Split || dim == other.dim); }
  std::string str() const;
};

/// The type of a value whose rows are scattered over a grid axis, which its encoding names: so what follows the
/// partition needs no walk to know.
mlir::RankedTensorType scatteredType(mlir::RankedTensorType type, int16_t axis);
bool isScattered(mlir::Type type);

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
  /// `scatter`: sums are completed as scattered rows where their user allows it.
  PartitionContext(ParamScope &scope, mlir::StringRef grid, int16_t axis, bool scatter)
      : scope(scope), grid_(grid), axis_(axis), scatter_(scatter) {}

  ParamScope &scope;

  Layout layout(mlir::Value value) const { return layouts_.lookup(value); }
  void setLayout(mlir::Value value, Layout layout) { layouts_[value] = layout; }

  /// Makes `operand` replicated: a partial sum is all-reduced, and scattered rows are gathered, in front of the first
  /// such use; later uses share it. A split value is an error.
  mlir::LogicalResult requireReplicated(mlir::OpOperand &operand);
  /// Completes a partial sum, for a user that works on each row by itself: scattered if that is wanted, else
  /// replicated. Any other operand stays.
  mlir::LogicalResult requireComplete(mlir::OpOperand &operand);
  /// Makes `operand` replicated where it is split along its rows too, which are stacked.
  mlir::LogicalResult gatherRows(mlir::OpOperand &operand);
  /// The error of an op that has no rule for its operands' layouts.
  mlir::LogicalResult noRule(mlir::Operation *op);

private:
  mlir::Value gather(mlir::OpOperand &operand);

  std::string grid_;
  int16_t axis_;
  bool scatter_;
  llvm::DenseMap<mlir::Value, Layout> layouts_;
  llvm::DenseMap<mlir::Value, mlir::Value> replicated_, scattered_; // looked up only, never iterated
};

} // namespace distc::llm
