#include "compiler/Transforms/Passes.h"

#include "mlir/IR/IRMapping.h"

namespace distc {
#define GEN_PASS_DEF_OVERLAPCOLLECTIVES
#include "compiler/Transforms/Passes.h.inc"
} // namespace distc

using namespace mlir;
using namespace distc;

namespace {

// A row of the result depends on the same row of the operands, and on the cache.
bool isRowwise(Operation &op) {
  if (auto wait = dyn_cast<dist::WaitOp>(op))
    return isa_and_nonnull<dist::AllReduceStartOp>(wait.getToken().getDefiningOp());
  return isa<llm::RmsNormOp, llm::LayerNormOp, llm::PositionEmbeddingOp, llm::ActivateOp, llm::LinearOp, llm::RopeOp,
             llm::KvAppendOp, llm::AttentionOp, llm::AddOp, llm::GluOp, llm::ScaleOp, llm::SoftCapOp, llm::SquareSumOp,
             llm::RouteOp, llm::ExpertLinearOp, llm::CombineOp, dist::AllReduceStartOp>(op);
}

// Cuts one program into chunks. A run is a stretch of ops that can be cut; a segment of it ends where something is
// waited for.
class Chunker {
public:
  Chunker(func::FuncOp function, int64_t chunks) : function_(function), builder_(function), maps_(chunks) {}

  void run() {
    Block &body = function_.getBody().front();
    for (Operation &op : llvm::make_early_inc_range(body)) {
      if (isRowwise(op) && llvm::all_of(op.getOperands(), [&](Value v) {
            return isa<llm::BatchType>(v.getType()) || tokens_.contains(v);
          })) {
        run_.push_back(&op);
        tokens_.insert_range(op.getResults());
        cut_.insert_range(op.getResults());
        continue;
      }
      flush();
      for (OpOperand &operand : op.getOpOperands())
        operand.set(whole(operand.get(), &op));
      if (givesTokens(op))
        tokens_.insert(op.getResult(0));
    }
    for (Operation *op : llvm::reverse(done_)) // users before their operands
      op->erase();
  }

private:
  // What has a row for each token without an operand that has.
  static bool givesTokens(Operation &op) {
    if (auto wait = dyn_cast<dist::WaitOp>(op))
      return wait.getResult() && isa<dist::RecvStartOp>(wait.getToken().getDefiningOp()) &&
             !getElementTypeOrSelf(wait.getResult()).isInteger(32);
    return isa<llm::EmbeddingOp>(op);
  }

  void flush() {
    if (run_.empty())
      return;
    builder_.setInsertionPointAfter(run_.back());
    for (size_t begin = 0, end = 0; begin < run_.size(); begin = end) {
      for (end = begin + 1; end < run_.size() && !isa<dist::WaitOp>(run_[end]);)
        ++end;
      for (int64_t c = 0; c < static_cast<int64_t>(maps_.size()); ++c)
        for (Operation *op : ArrayRef(run_).slice(begin, end - begin)) {
          for (Value operand : op->getOperands())
            if (!isa<llm::BatchType>(operand.getType()) && !maps_[c].contains(operand))
              maps_[c].map(operand,
                           dist::ChunkOp::create(builder_, operand.getLoc(), operand, c, maps_.size()).getResult());
          builder_.clone(*op, maps_[c]);
        }
    }
    done_.append(run_);
    run_.clear();
  }

  // A value that an op outside of the runs needs.
  Value whole(Value value, Operation *user) {
    if (!cut_.contains(value))
      return value;
    Value &made = whole_[value];
    if (!made) {
      SmallVector<Value> parts;
      for (IRMapping &map : maps_)
        parts.push_back(map.lookup(value));
      builder_.setInsertionPoint(user);
      made = dist::ConcatOp::create(builder_, value.getLoc(), value.getType(), parts);
    }
    return made;
  }

  func::FuncOp function_;
  OpBuilder builder_;
  SmallVector<IRMapping> maps_;         // by chunk: from the values of the program to those of the chunk
  DenseSet<Value> tokens_;              // values with a row for each token
  DenseSet<Value> cut_;                 // those that are made in chunks
  DenseMap<Value, Value> whole_;        // of these, all chunks as one
  SmallVector<Operation *> run_, done_; // the run so far; ops that chunks have replaced
};

struct OverlapCollectivesPass : distc::impl::OverlapCollectivesBase<OverlapCollectivesPass> {
  using OverlapCollectivesBase::OverlapCollectivesBase;

  void runOnOperation() override {
    func::FuncOp function = getOperation();
    Block &body = function.getBody().front();
    auto regime = function->getAttrOfType<StringAttr>("llm.regime");
    if (chunks > 1 && regime && regime.getValue() == "prefill" && !body.getOps<dist::AllReduceStartOp>().empty())
      Chunker(function, chunks).run();
    SmallVector<dist::WaitOp> waits(body.getOps<dist::WaitOp>());
    for (dist::WaitOp wait : waits)
      sink(wait);
  }

  static void sink(dist::WaitOp wait) {
    Operation *first = wait->getBlock()->getTerminator();
    for (Operation *user : wait->getUsers())
      if (user->isBeforeInBlock(first))
        first = user;
    wait->moveBefore(first);
  }
};

} // namespace
