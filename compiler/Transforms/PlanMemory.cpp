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
  // The instruction with which `i` ends, and all that are done before it starts.
  int end(int i) const { return stage_[i].second; }
  const llvm::BitVector &beforeStart(int i) const { return before_[stage_[i].first]; }
  // What begins a longer stage is done again by everyone who takes part in it: its input stays.
  bool beginsStage(int i) const { return stage_[i].first == i && stage_[i].second > i; }

private:
  std::vector<std::pair<int, int>> stage_; // first and last instruction, by instruction
  std::vector<llvm::BitVector> before_;
};

struct Access {
  int instruction;
  bool write;
  planir::BufferOp rows; // the buffer itself, or a chunk of it
};

// A buffer with memory of its own, and all that is done with it and its chunks.
struct Life {
  planir::BufferOp buffer;
  SmallVector<Access> accesses; // in program order
  int64_t bytes = 0, size = 0, offset = -1;

  template <typename Predicate> bool allWrites(Predicate predicate) const {
    return llvm::all_of(accesses, [&](Access access) { return !access.write || predicate(access); });
  }
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
    DenseMap<Value, SmallVector<planir::BufferOp>> written; // by whose memory
    std::set<int64_t> signalled;
    for (auto instruction : program.getBody().getOps<planir::InstructionOpInterface>()) {
      for (int64_t event : instruction.getWaits())
        if (!signalled.count(event))
          return instruction.emitOpError() << "waits for event " << event << ", which nothing before it signals";
      for (Value read : instruction.getReads()) {
        auto buffer = cast<planir::BufferOp>(read.getDefiningOp());
        if (!isWhole(written[buffer.getMemory()], buffer))
          return instruction.emitOpError() << "reads a buffer that nothing before it writes";
      }
      if (Value out = instruction.getWritten()) {
        auto buffer = cast<planir::BufferOp>(out.getDefiningOp());
        SmallVector<planir::BufferOp> &before = written[buffer.getMemory()];
        if (llvm::any_of(before, [&](planir::BufferOp other) { return !other.hasOtherRowsThan(buffer); }))
          return instruction.emitOpError() << "writes a buffer that has been written";
        before.push_back(buffer);
      }
      if (std::optional<uint64_t> event = instruction.getSignal())
        signalled.insert(*event);
    }
    return success();
  }

  // Have all rows of `read` been written: as a whole, as the same chunk, or as all chunks?
  static bool isWhole(ArrayRef<planir::BufferOp> written, planir::BufferOp read) {
    size_t overlapping = 0, chunks = 0;
    for (planir::BufferOp buffer : written) {
      chunks = buffer.getChunks();
      if (buffer.getChunks() == 1 || buffer == read)
        return true;
      overlapping += !buffer.hasOtherRowsThan(read);
    }
    return overlapping != 0 && overlapping == chunks;
  }

  void planProgram(planir::ProgramOp program) {
    SmallVector<planir::InstructionOpInterface> instructions(
        program.getBody().getOps<planir::InstructionOpInterface>());
    HappensBefore before(program, instructions);
    std::vector<Life> lives;
    DenseMap<Value, int> lifeOf;
    for (auto buffer : program.getBody().getOps<planir::BufferOp>()) {
      if (buffer.getParent())
        continue;
      lifeOf[buffer] = lives.size();
      auto bytes = static_cast<int64_t>(buffer.getBytes());
      lives.push_back({buffer, {}, bytes, static_cast<int64_t>(llvm::alignTo(bytes, kAlignment))});
    }
    auto life = [&](Value value) { return lifeOf[cast<planir::BufferOp>(value.getDefiningOp()).getMemory()]; };
    for (auto [i, instruction] : llvm::enumerate(instructions)) {
      auto access = [&, i = int(i)](Value value, bool write) {
        Life &of = lives[life(value)];
        of.accesses.push_back({i, write, cast<planir::BufferOp>(value.getDefiningOp())});
      };
      for (Value read : instruction.getReads())
        access(read, false);
      if (Value written = instruction.getWritten())
        access(written, true);
    }

    SmallVector<int> placed;
    int64_t end = 0;
    for (auto [i, instruction] : llvm::enumerate(instructions)) {
      Value written = instruction.getWritten();
      if (!written || lives[life(written)].offset >= 0)
        continue;
      Life &own = lives[life(written)];
      // What is done before every write of this; nothing that is done with another may be missing.
      llvm::BitVector done(instructions.size(), true);
      for (const Access &access : own.accesses)
        if (access.write)
          done &= before.beforeStart(access.instruction);
      auto over = [&](const Life &other) {
        return llvm::all_of(other.accesses,
                            [&](const Access &access) { return done.test(before.end(access.instruction)); });
      };
      // Elementwise instructions may write where their input lies, each its rows, if nothing else still needs that.
      auto replaces = [&](Life &input) {
        return input.bytes == own.bytes && input.buffer.getRowElements() == own.buffer.getRowElements() &&
               input.buffer.getChunks() == own.buffer.getChunks() && input.buffer.getChunk() == own.buffer.getChunk() &&
               llvm::all_of(input.accesses, [&](Access a) {
                 return own.allWrites([&](Access w) {
                   if (before(a.instruction, w.instruction))
                     return true;
                   if (a.rows.hasOtherRowsThan(w.rows)) // a == w needs the same chunk, or both whole
                     return true;
                   return a.instruction == w.instruction && !a.write && a.rows.getChunks() == w.rows.getChunks() &&
                          instructions[w.instruction].mayRunInPlace() && !before.beginsStage(w.instruction);
                 });
               });
      };
      const Life *inPlace = nullptr;
      if (instruction.mayRunInPlace())
        for (Value read : instruction.getReads())
          if (Life &input = lives[life(read)]; !inPlace && replaces(input))
            inPlace = &input;
      SmallVector<const Life *> live;
      for (int other : placed)
        if (!over(lives[other]) && &lives[other] != inPlace)
          live.push_back(&lives[other]);
      own.offset =
          inPlace && free(live, inPlace->offset, own.size) ? inPlace->offset : firstFit(live, inPlace, own.size);
      end = std::max(end, own.offset + own.size);
      own.buffer.setOffset(own.offset);
      placed.push_back(life(written));
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
