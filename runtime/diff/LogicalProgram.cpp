#include "runtime/diff/LogicalProgram.h"

#include "runtime/schema/PlanFile.h"
#include "runtime/verify/Operands.h"

#include <algorithm>
#include <map>
#include <set>

namespace distc {

namespace {

bool moves(plan::Op op) { return isCollective(op) || op == plan::Op::Recv; }

int64_t outputOf(const plan::Instruction &instruction) {
  const Operands operands = operandsOf(instruction);
  for (const BufferOperand &operand : operands.buffers())
    if (operand.write)
      return operand.buffer;
  return -1;
}

// How many heads of the checkpoint the ranks hold in dimension 0 of a weight [heads, head size, ...], together. 0: it
// is no such weight.
uint64_t headsHeld(std::span<const plan::Plan *const> ranks, uint32_t weight) {
  constexpr uint64_t kMany = 1 << 16;
  std::set<uint64_t> heads;
  for (const plan::Plan *rank : ranks) {
    const plan::Weight &w = *rank->weights()->Get(weight);
    if (w.shape()->size() != 3 || w.sources()->size() != 1 || w.shape()->Get(0) > kMany)
      return 0;
    for (const plan::Segment *segment : *w.sources()->Get(0)->dims()->Get(0)->segments())
      for (uint64_t i = 0; segment->begin() != kZeroFill && i < segment->count(); ++i)
        heads.insert(segment->begin() + i);
  }
  return heads.size();
}

} // namespace

uint32_t rootOf(const plan::Program &program, uint32_t buffer) {
  while (program.buffers()->Get(buffer)->parent() >= 0) // the verifier has seen that this ends
    buffer = static_cast<uint32_t>(program.buffers()->Get(buffer)->parent());
  return buffer;
}

class LogicalProgram::Builder {
public:
  Builder(std::span<const plan::Plan *const> ranks, uint32_t program, LogicalProgram &out)
      : ranks_(ranks), index_(program), out_(out) {}

  Status build() {
    const plan::Mesh &mesh = *ranks_[0]->mesh();
    out_.writes_.resize(mesh.pp());
    for (uint32_t stage = 0; stage < mesh.pp(); ++stage)
      DISTC_TRY(addStage(stage, ranks_.subspan(size_t(stage) * mesh.tp(), mesh.tp())));
    for (const Late &late : late_) // what comes back from a later stage, or has a name of its own
      if (!receive(late.stage, late.index, late.buffer))
        add(late.stage, late.index, late.buffer, compute(late.stage, late.buffer));
    return {};
  }

private:
  struct Late {
    uint32_t stage, index, buffer;
  };

  const plan::Program &program(uint32_t stage) const {
    return *ranks_[size_t(stage) * ranks_[0]->mesh()->tp()]->programs()->Get(index_);
  }

  Status addStage(uint32_t stage, std::span<const plan::Plan *const> ranks) {
    const plan::Program &program = this->program(stage);
    DISTC_TRY(checkAlike(ranks, program));
    out_.writes_[stage].resize(program.instructions()->size());
    std::map<uint32_t, int32_t> held; // by buffer without a parent: the value in it
    for (uint32_t i = 0; i < program.instructions()->size(); ++i) {
      const plan::Instruction &instruction = *program.instructions()->Get(i);
      const int64_t output = outputOf(instruction);
      if (output < 0)
        continue;
      const uint32_t buffer = static_cast<uint32_t>(output), root = rootOf(program, buffer);
      if (instruction.op_type() == plan::Op::Recv) {
        if (!receive(stage, i, buffer))
          late_.push_back({stage, i, buffer});
      } else if (isCollective(instruction.op_type())) {
        const Operands operands = operandsOf(instruction);
        const auto input = held.find(rootOf(program, operands.buffers()[0].buffer));
        add(stage, i, buffer, input == held.end() || input->second < 0 ? compute(stage, buffer) : input->second);
      } else {
        add(stage, i, buffer, compute(stage, buffer));
      }
      held[root] = out_.writes_[stage][i].value;
    }
    markHeads(stage, ranks);
    return {};
  }

  // One description serves all ranks of a stage, as the compiler makes them.
  Status checkAlike(std::span<const plan::Plan *const> ranks, const plan::Program &first) const {
    const std::string name = "rank " + std::to_string(ranks[0]->mesh()->rank());
    if (!first.values() || first.values()->size() != first.buffers()->size())
      return failedPrecondition(name +
                                ": the plan does not name its values, so there is nothing to compare; compile again");
    auto alike = [&](const plan::Program &program, uint32_t i) {
      const plan::Instruction &a = *first.instructions()->Get(i), &b = *program.instructions()->Get(i);
      const int64_t out = outputOf(a);
      return a.op_type() == b.op_type() && out == outputOf(b) &&
             (out < 0 ||
              (size_t(out) < program.buffers()->size() && first.buffers()->Get(uint32_t(out))->row_elements() ==
                                                              program.buffers()->Get(uint32_t(out))->row_elements()));
    };
    for (const plan::Plan *rank : ranks) {
      const plan::Program *program = index_ < rank->programs()->size() ? rank->programs()->Get(index_) : nullptr;
      uint32_t i = 0;
      const uint32_t count = first.instructions()->size();
      if (program && program->instructions()->size() == count)
        while (i < count && alike(*program, i))
          ++i;
      if (i < count)
        return failedPrecondition(name + " and rank " + std::to_string(rank->mesh()->rank()) +
                                  " are of one stage and differ from instruction " +
                                  std::to_string(first.instructions()->Get(i)->id()) +
                                  " on, expected the same instructions; compile again");
    }
    return {};
  }

  // The value that an instruction which computes adds rows to: one that lacks this chunk, or a new one.
  int32_t compute(uint32_t stage, uint32_t buffer) {
    const plan::Program &program = this->program(stage);
    const plan::Buffer &b = *program.buffers()->Get(buffer);
    const std::string name = program.values()->Get(rootOf(program, buffer))->name()->str();
    std::vector<int32_t> &same = named_[name];
    if (b.chunks() > 1)
      for (const int32_t value : same)
        if (const ValueForm &form = out_.values_[size_t(value)].forms[0];
            form.stage == stage && !moves(form.op) && lacks(form, b))
          return value;
    same.push_back(static_cast<int32_t>(out_.values_.size()));
    out_.values_.push_back({name, static_cast<uint32_t>(same.size() - 1), HeadKind::None, {}});
    return same.back();
  }

  bool lacks(const ValueForm &form, const plan::Buffer &buffer) const {
    const plan::Buffer &other = *program(form.stage).buffers()->Get(form.buffer);
    return other.chunks() == buffer.chunks() && other.shards() == buffer.shards() &&
           std::ranges::find(form.chunks, buffer.chunk()) == form.chunks.end();
  }

  // What is received is the latest value of that name. False: there is none yet.
  bool receive(uint32_t stage, uint32_t index, uint32_t buffer) {
    const plan::Program &program = this->program(stage);
    const auto found = named_.find(program.values()->Get(rootOf(program, buffer))->name()->str());
    if (found != named_.end())
      add(stage, index, buffer, found->second.back());
    return found != named_.end();
  }

  void add(uint32_t stage, uint32_t index, uint32_t buffer, int32_t value) {
    const plan::Program &program = this->program(stage);
    const plan::Buffer &b = *program.buffers()->Get(buffer);
    const plan::Instruction &instruction = *program.instructions()->Get(index);
    std::vector<ValueForm> &forms = out_.values_[size_t(value)].forms;
    const auto form = std::ranges::find_if(forms, [&](const ValueForm &f) {
      return f.stage == stage && moves(f.op) == moves(instruction.op_type()) && b.chunks() > 1 && lacks(f, b);
    });
    const auto at = static_cast<size_t>(form - forms.begin());
    if (form == forms.end())
      forms.push_back({stage, instruction.op_type(), buffer, program.values()->Get(rootOf(program, buffer)), {}, {}});
    forms[at].chunks.push_back(b.chunk());
    forms[at].ids.push_back(instruction.id());
    out_.writes_[stage][index] = {value, static_cast<int32_t>(at), buffer};
  }

  // Attention says what its operands' heads are; from there back to the weights that made them.
  void markHeads(uint32_t stage, std::span<const plan::Plan *const> ranks) {
    const plan::Program &program = this->program(stage);
    std::map<uint32_t, HeadKind> kinds; // by buffer
    HeadLayout &layout = out_.headLayout_;
    uint64_t copies = 0, heads = 0; // padded
    for (uint32_t n = program.instructions()->size(); n > 0; --n) {
      const plan::Instruction &instruction = *program.instructions()->Get(n - 1);
      if (const auto *o = instruction.op_as_Attention()) {
        kinds[o->q()] = kinds[o->out()] = HeadKind::Query;
      } else if (const auto *o = instruction.op_as_KvAppend()) {
        kinds[o->k()] = kinds[o->v()] = HeadKind::KeyValue;
      } else if (const auto *o = instruction.op_as_Rope()) {
        kinds[o->input()] = kinds[o->out()];
      } else if (const auto *o = instruction.op_as_RmsNorm()) { // of heads, where its output is heads
        kinds[o->input()] = kinds[o->out()];
      } else if (const auto *o = instruction.op_as_Linear(); o && layout.kvHeads * layout.heads == 0) {
        const HeadKind kind = kinds[o->out()];
        const auto *dims = program.values()->Get(o->out())->dims();
        if (kind == HeadKind::None || !dims || dims->size() != 2)
          continue;
        (kind == HeadKind::Query ? layout.heads : layout.kvHeads) = headsHeld(ranks, o->weight());
        (kind == HeadKind::Query ? heads : copies) = dims->Get(0);
        if (kind == HeadKind::KeyValue)
          layout.repeats = ranks[0]->weights()->Get(o->weight())->copies();
      }
    }
    if (copies > 0 && heads > 0 && layout.kvHeads * layout.repeats <= copies)
      layout.perCopy = heads / copies;
    for (uint32_t i = 0; i < program.instructions()->size(); ++i)
      if (const Write &write = out_.writes_[stage][i]; write.value >= 0)
        if (const auto kind = kinds.find(write.buffer); kind != kinds.end() && kind->second != HeadKind::None)
          out_.values_[size_t(write.value)].heads = kind->second;
  }

  std::span<const plan::Plan *const> ranks_;
  const uint32_t index_;
  LogicalProgram &out_;
  std::map<std::string, std::vector<int32_t>> named_; // values, in the order in which they are computed
  std::vector<Late> late_;
};

Result<LogicalProgram> LogicalProgram::create(std::span<const plan::Plan *const> ranks, uint32_t program) {
  LogicalProgram out;
  DISTC_TRY(Builder(ranks, program, out).build());
  return out;
}

} // namespace distc
