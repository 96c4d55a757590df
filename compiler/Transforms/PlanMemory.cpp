#include "compiler/Transforms/Passes.h"

#include "llvm/ADT/BitVector.h"

namespace distc {
#define GEN_PASS_DEF_PLANMEMORY
#include "compiler/Transforms/Passes.h.inc"
} // namespace distc

using namespace mlir;
using namespace distc;

namespace {

constexpr int64_t kAlignment = 256;

// Which instructions are finished before another starts, whatever the queues do beside each other.
class HappensBefore {
public:
  HappensBefore(planir::ProgramOp program, ArrayRef<planir::InstructionOpInterface> instructions) {
    for (size_t i = 0; i < instructions.size(); ++i)
      stage_.push_back({int(i), int(i)});
    for (auto stage : program.getBody().getOps<planir::StageOp>())
      for (uint64_t i = 0; i < stage.getCount(); ++i)
        stage_[stage.getInstruction() + i] = {int(stage.getInstruction()),
                                              int(stage.getInstruction() + stage.getCount() - 1)};
    std::map<uint64_t, int> lastOfQueue, signalledBy;
    for (size_t i = 0; i < instructions.size(); ++i) {
      planir::InstructionOpInterface instruction = instructions[i];
      llvm::BitVector before(instructions.size());
      auto after = [&](int earlier) {
        before |= before_[earlier];
        before.set(earlier);
      };
      if (auto it = lastOfQueue.find(instruction.getQueue()); it != lastOfQueue.end())
        after(it->second);
      for (int64_t event : instruction.getWaits())
        after(signalledBy.at(event));
      lastOfQueue[instruction.getQueue()] = i;
      if (std::optional<uint64_t> event = instruction.getSignal())
        signalledBy[*event] = i;
      before_.push_back(std::move(before));
    }
  }
  // Of the instructions of a stage none is done before another starts.
  bool operator()(int earlier, int later) const { return before_[stage_[later].first].test(stage_[earlier].second); }
  // What begins a longer stage is done again by everyone who takes part in it: its input stays.
  bool beginsStage(int i) const { return stage_[i].first == i && stage_[i].second > i; }

private:
  std::vector<std::pair<int, int>> stage_; // first and last instruction, by instruction
  std::vector<llvm::BitVector> before_;
};

struct Life {
  planir::BufferOp buffer;
  int written = -1;
  SmallVector<int> reads;
  int64_t bytes = 0, size = 0, offset = -1;
};

struct PlanMemoryPass : distc::impl::PlanMemoryBase<PlanMemoryPass> {
  void runOnOperation() override {
    int64_t arena = 0;
    for (auto program : getOperation().getBody().getOps<planir::ProgramOp>()) {
      if (failed(checkOrder(program)))
        return signalPassFailure();
      planProgram(program);
      arena = std::max<int64_t>(arena, program.getArenaBytes() * program.getMicroBatches());
    }
    getOperation().get<planir::LedgerOp>().setArena(arena);
  }

  // What the planning takes for granted.
  LogicalResult checkOrder(planir::ProgramOp program) {
    DenseSet<Value> written;
    std::set<int64_t> signalled;
    for (auto instruction : program.getBody().getOps<planir::InstructionOpInterface>()) {
      for (int64_t event : instruction.getWaits())
        if (!signalled.count(event))
          return instruction.emitOpError() << "waits for event " << event << ", which nothing before it signals";
      if (llvm::any_of(instruction.getReads(), [&](Value read) { return !written.contains(read); }))
        return instruction.emitOpError() << "reads a buffer that nothing before it writes";
      if (Value out = instruction.getWritten(); out && !written.insert(out).second)
        return instruction.emitOpError() << "writes a buffer that has been written";
      if (std::optional<uint64_t> event = instruction.getSignal())
        signalled.insert(*event);
    }
    return success();
  }

  void planProgram(planir::ProgramOp program) {
    SmallVector<planir::InstructionOpInterface> instructions(
        program.getBody().getOps<planir::InstructionOpInterface>());
    HappensBefore before(program, instructions);
    std::vector<Life> lives;
    DenseMap<Value, int> lifeOf;
    for (auto buffer : program.getBody().getOps<planir::BufferOp>()) {
      lifeOf[buffer] = lives.size();
      auto bytes = static_cast<int64_t>(buffer.getBytes());
      lives.push_back({buffer, -1, {}, bytes, static_cast<int64_t>(llvm::alignTo(bytes, kAlignment)), -1});
    }
    for (auto [i, instruction] : llvm::enumerate(instructions)) {
      for (Value read : instruction.getReads())
        lives[lifeOf[read]].reads.push_back(i);
      if (Value written = instruction.getWritten())
        lives[lifeOf[written]].written = i;
    }

    SmallVector<int> placed;
    int64_t end = 0;
    for (auto [i, instruction] : llvm::enumerate(instructions)) {
      Value written = instruction.getWritten();
      if (!written)
        continue;
      Life &life = lives[lifeOf[written]];
      auto over = [&](const Life &other) {
        return before(other.written, i) && llvm::all_of(other.reads, [&](int read) { return before(read, i); });
      };
      // An elementwise instruction may write where its input lies, if nothing else still needs that.
      const Life *inPlace = nullptr;
      if (instruction.mayRunInPlace() && !before.beginsStage(i))
        for (Value read : instruction.getReads()) {
          const Life &input = lives[lifeOf[read]];
          if (!inPlace && input.bytes == life.bytes &&
              llvm::all_of(input.reads, [&](int other) { return other == static_cast<int>(i) || before(other, i); }))
            inPlace = &input;
        }
      SmallVector<const Life *> live;
      for (int other : placed)
        if (!over(lives[other]) && &lives[other] != inPlace)
          live.push_back(&lives[other]);
      life.offset =
          inPlace && free(live, inPlace->offset, life.size) ? inPlace->offset : firstFit(live, inPlace, life.size);
      end = std::max(end, life.offset + life.size);
      life.buffer.setOffset(life.offset);
      placed.push_back(lifeOf[written]);
    }
    program.setArenaBytes(end);
  }

  static bool free(ArrayRef<const Life *> live, int64_t offset, int64_t size) {
    return llvm::none_of(
        live, [&](const Life *other) { return offset < other->offset + other->size && other->offset < offset + size; });
  }

  static int64_t firstFit(SmallVector<const Life *> live, const Life *inPlace, int64_t size) {
    if (inPlace)
      live.push_back(inPlace);
    llvm::sort(live, [](const Life *a, const Life *b) { return a->offset < b->offset; });
    int64_t offset = 0;
    for (const Life *other : live) {
      if (offset + size <= other->offset)
        break;
      offset = std::max(offset, other->offset + other->size);
    }
    return offset;
  }
};

} // namespace
