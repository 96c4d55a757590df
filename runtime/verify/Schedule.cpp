// One plan: its tile schedules. Stages follow each other without a gap in their order of events; each is made of
// instructions that can be done as one; what they keep to themselves nobody else reads; every unit of their weights is
// streamed exactly once; and each waits for the stages whose results it needs. (What stages do to memory: Memory.cpp.)
#include "runtime/schema/Tiles.h"
#include "runtime/verify/Report.h"
#include "runtime/verify/Stages.h"

#include <algorithm>
#include <set>

namespace distc::verify {

namespace {

class ScheduleCheck {
public:
  ScheduleCheck(const ProgramRef &ref, Reporter &reporter)
      : ref_(ref), program_(ref.program), schedule_(*ref.program.schedule()), reporter_(reporter) {}

  void run() {
    if (program_.regime() != plan::Regime::Decode || schedule_.sms() == 0 || schedule_.ring_bytes() % kTileBytes != 0 ||
        schedule_.ring_bytes() < 2 * kTileBytes || schedule_.ring_bytes() > kMaxRingBytes)
      return fail(cat("a schedule for ", schedule_.sms(), " SMs with a ring of ", schedule_.ring_bytes(),
                      " bytes: expected a decode program, at least 1 SM and 2 to ", kMaxRingBytes / kTileBytes,
                      " tiles of ", kTileBytes, " bytes"));
    if (schedule_.stages()->size() > kMaxStages)
      return fail(cat(schedule_.stages()->size(), " stages, expected at most ", kMaxStages));
    stageOf_.assign(program_.instructions()->size(), -1);
    for (uint32_t s = 0; s < schedule_.stages()->size() && !reporter_.full(); ++s)
      stage(s);
    if (stages_.size() == schedule_.stages()->size())
      checkReaders();
    if (stages_.size() == schedule_.stages()->size())
      checkWaits();
  }

private:
  void fail(const std::string &message) { reporter_.add("schedule", cat(ref_.text(), ": ", message), {ref_.rank()}); }
  std::string name(uint32_t s) const {
    const plan::StageTiles &tiles = *schedule_.stages()->Get(s);
    return cat("stage ", s, ", instructions ", tiles.instruction(), " to ",
               uint64_t(tiles.instruction()) + tiles.count());
  }

  void stage(uint32_t s) {
    const plan::StageTiles &tiles = *schedule_.stages()->Get(s);
    const uint64_t end = uint64_t(tiles.instruction()) + tiles.count();
    if (tiles.count() == 0 || end > program_.instructions()->size() || tiles.instruction() < free_)
      return fail(cat(name(s), ": expected at least 1 of the program's ", program_.instructions()->size(),
                      " instructions, behind those of the stage before, which end at ", free_));
    free_ = static_cast<uint32_t>(end);
    for (uint32_t i = tiles.instruction(); i < end; ++i) {
      const plan::Instruction &it = ref_.instruction(i);
      if (it.queue() != 0 || (i > tiles.instruction() && it.waits() && it.waits()->size() > 0) ||
          (i + 1 < end && it.signal() >= 0))
        return fail(
            cat(name(s), ": instruction ", it.id(), " is on another queue, or waits or signals inside the stage"));
      stageOf_[i] = static_cast<int64_t>(s);
    }
    std::string why;
    std::optional<TileStage> stage = stageOf(ref_.plan, program_, tiles, why);
    if (!stage)
      return fail(cat(name(s), ": ", why));
    checkBounds(s, *stage);
    stages_.push_back(std::move(*stage));
  }

  void checkBounds(uint32_t s, const TileStage &stage) {
    const auto &bounds = *schedule_.stages()->Get(s)->bounds();
    if (stage.kind != plan::StageKind::Rows && stage.kind != plan::StageKind::Glu &&
        stage.kind != plan::StageKind::Qkv && stage.kind != plan::StageKind::ExpertSum) {
      if (bounds.size() != 0)
        fail(cat(name(s), ": a stage of kind ", plan::EnumNameStageKind(stage.kind),
                 " has no weights to deal out before it runs, but ", bounds.size(), " bounds"));
      return;
    }
    bool good = bounds.size() == uint64_t(schedule_.sms()) + 1 && bounds.Get(0) == 0 &&
                bounds.Get(schedule_.sms()) == stage.units;
    for (flatbuffers::uoffset_t i = 1; i < bounds.size() && good; ++i)
      good = bounds.Get(i - 1) <= bounds.Get(i);
    if (!good)
      fail(cat(name(s), ": its ", bounds.size(), " bounds are not ascending from 0 to its ", stage.units,
               " units, one range for each of ", schedule_.sms(), " SMs: each unit must be streamed once"));
  }

  /// What a stage does not write is nobody else's.
  void checkReaders() {
    std::vector<int64_t> keeper(program_.buffers()->size(), -1);
    for (uint32_t s = 0; s < stages_.size(); ++s)
      forOperands(stages_[s], [&](uint32_t, const BufferOperand &operand) {
        const std::vector<uint32_t> &outputs = stages_[s].outputs;
        if (operand.write && std::find(outputs.begin(), outputs.end(), operand.buffer) == outputs.end())
          keeper[operand.buffer] = s;
      });
    for (uint32_t i = 0; i < program_.instructions()->size() && !reporter_.full(); ++i) {
      const Operands operands = operandsOf(ref_.instruction(i));
      for (const BufferOperand &operand : operands.buffers())
        if (const int64_t s = keeper[ref_.root(operand.buffer)]; s >= 0 && s != stageOf_[i])
          fail(cat(ref_.text(i), ": ", operand.write ? "writes " : "reads ", ref_.value(operand.buffer), ", which ",
                   name(static_cast<uint32_t>(s)), " keeps to itself and does not write to memory"));
    }
  }

  template <typename F> void forOperands(const TileStage &stage, F f) const {
    for (uint32_t i = stage.first; i < stage.first + stage.count; ++i) {
      const Operands operands = operandsOf(ref_.instruction(i));
      for (const BufferOperand &operand : operands.buffers())
        f(i, operand);
    }
  }

  /// Each stage waits, itself or through others, for every stage whose results reach it.
  void checkWaits() {
    std::vector<std::set<uint32_t>> writers(program_.buffers()->size()), ofCache(ref_.plan.kv()->caches()->size());
    std::vector<std::vector<bool>> after(stages_.size()); // by stage: those that have ended before it
    for (uint32_t i = 0; i < program_.instructions()->size() && !reporter_.full();) {
      const int64_t s = stageOf_[i];
      const uint32_t end =
          s < 0 ? i + 1 : stages_[static_cast<size_t>(s)].first + stages_[static_cast<size_t>(s)].count;
      std::set<uint32_t> needs;
      for (uint32_t j = i; j < end; ++j)
        need(j, writers, ofCache, needs);
      if (s >= 0)
        checkWaitsOf(static_cast<uint32_t>(s), needs, after);
      if (s >= 0)
        needs = {static_cast<uint32_t>(s)};
      for (; i < end; ++i) {
        const Operands operands = operandsOf(ref_.instruction(i));
        for (const BufferOperand &operand : operands.buffers())
          if (operand.write) {
            std::set<uint32_t> &of = writers[ref_.root(operand.buffer)];
            const plan::Buffer &buffer = ref_.buffer(operand.buffer);
            if (buffer.parent() < 0 && buffer.chunks() == 1)
              of.clear(); // a part leaves the others' writers
            of.insert(needs.begin(), needs.end());
          }
        if (operands.cache >= 0 && ref_.instruction(i).op_type() == plan::Op::KvAppend)
          ofCache[static_cast<size_t>(operands.cache)] = needs;
      }
    }
  }

  void need(uint32_t i, const std::vector<std::set<uint32_t>> &writers, const std::vector<std::set<uint32_t>> &ofCache,
            std::set<uint32_t> &needs) const {
    const Operands operands = operandsOf(ref_.instruction(i));
    auto add = [&](const std::set<uint32_t> &more) { needs.insert(more.begin(), more.end()); };
    for (const BufferOperand &operand : operands.buffers())
      if (!operand.write)
        add(writers[ref_.root(operand.buffer)]);
    if (operands.cache >= 0 && ref_.instruction(i).op_type() == plan::Op::Attention)
      add(ofCache[static_cast<size_t>(operands.cache)]);
  }

  void checkWaitsOf(uint32_t s, const std::set<uint32_t> &needs, std::vector<std::vector<bool>> &after) {
    after[s].assign(s, false);
    if (const auto *waits = schedule_.stages()->Get(s)->waits(); waits && waits->size() > s)
      return fail(
          cat(name(s), ": waits ", waits->size(), " times, expected each of the ", s, " stages before it once"));
    if (const auto *waits = schedule_.stages()->Get(s)->waits())
      for (uint32_t wait : *waits) {
        if (wait >= s)
          return fail(cat(name(s), ": waits for stage ", wait, ", which is not before it"));
        after[s][wait] = true;
        for (uint32_t earlier = 0; earlier < wait; ++earlier)
          after[s][earlier] = after[s][earlier] || after[wait][earlier];
      }
    for (uint32_t needed : needs)
      if (needed != s && !after[s][needed])
        fail(cat(name(s), ": needs what stage ", needed, " writes, and does not wait for it"));
  }

  const ProgramRef &ref_;
  const plan::Program &program_;
  const plan::TileSchedule &schedule_;
  Reporter &reporter_;
  uint32_t free_ = 0;            // the first instruction behind the stages so far
  std::vector<int64_t> stageOf_; // by instruction; -1: none
  std::vector<TileStage> stages_;
};

} // namespace

void checkSchedules(const plan::Plan &plan, Reporter &reporter) {
  for (size_t p = 0; p < plan.programs()->size() && !reporter.full(); ++p) {
    ProgramRef ref{plan, *plan.programs()->Get(static_cast<flatbuffers::uoffset_t>(p)), p};
    if (ref.program.schedule())
      ScheduleCheck(ref, reporter).run();
  }
}

} // namespace distc::verify
