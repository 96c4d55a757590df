#include "Mutants.h"

namespace distc::test {

std::string textOf(const std::vector<Violation> &violations) {
  std::string text;
  for (const Violation &v : violations)
    text += v.kind + ": " + v.message + "\n";
  return text;
}

void PrintTo(const Mutant &mutant, std::ostream *out) { *out << mutant.name; }

plan::Buffer changed(const plan::Buffer &b, uint64_t offset, uint64_t bytes, uint32_t width) {
  return plan::Buffer(offset, bytes, width, b.parent(), b.times(), b.shards(), b.chunk(), b.chunks(), b.rows(),
                      b.dtype());
}

void move(ValidSet &set, uint32_t rank, uint32_t program, uint32_t buffer, uint64_t offset) {
  plan::ProgramT &p = *set.rank(rank).programs[program];
  const plan::Buffer old = p.buffers[buffer];
  p.buffers[buffer] = changed(old, offset, old.bytes(), old.row_elements());
  p.arena_bytes = std::max(p.arena_bytes, offset + old.bytes());
  set.rank(rank).ledger->arena = std::max(set.rank(rank).ledger->arena, p.arena_bytes);
}

void swapInstructions(plan::ProgramT &program, size_t a, size_t b) {
  std::swap(program.instructions[a]->op, program.instructions[b]->op);
  std::swap(program.labels[a], program.labels[b]);
}

void setSegment(ValidSet &set, uint32_t rank, const std::string &weight, size_t dim, std::optional<uint64_t> begin,
                std::optional<uint64_t> count) {
  plan::Segment &segment = set.weight(rank, weight).sources[0]->dims[dim]->segments[0];
  segment = {begin.value_or(segment.begin()), count.value_or(segment.count())};
}

void swapSlices(ValidSet &set, const std::string &weight, uint32_t a, uint32_t b) {
  std::swap(set.weight(a, weight).sources[0]->dims, set.weight(b, weight).sources[0]->dims);
}

void removeOp(ValidSet &set, uint32_t rank, uint32_t program, const std::string &label) {
  plan::ProgramT &p = *set.rank(rank).programs[program];
  const size_t at = set.place(rank, program, label);
  // Its events go to the instruction before, so that the order of the others stays proven.
  auto &removed = *p.instructions[at];
  auto &before = *p.instructions[at - 1];
  if (removed.signal >= 0 && before.signal < 0) {
    before.signal = removed.signal;
  } else if (removed.signal >= 0) {
    for (auto &it : p.instructions)
      for (uint32_t &wait : it->waits)
        if (wait == uint32_t(removed.signal))
          wait = uint32_t(before.signal);
    for (auto &it : p.instructions) {
      for (uint32_t &wait : it->waits)
        wait -= wait > uint32_t(removed.signal);
      if (it->signal > removed.signal && it.get() != &removed)
        --it->signal;
    }
    --p.events;
  }
  p.instructions.erase(p.instructions.begin() + at);
  p.labels.erase(p.labels.begin() + at);
  uint32_t sequence = 0;
  for (auto &it : p.instructions)
    if (auto *reduce = it->op.AsAllReduce())
      reduce->sequence = sequence++;
    else if (auto *gather = it->op.AsAllGather())
      gather->sequence = sequence++;
}

void toLayerNorm(ValidSet &s, uint32_t rank, uint32_t program, const std::string &bias) {
  const plan::RmsNormT norm = s.op<plan::RmsNormT>(rank, program, "norm1");
  plan::LayerNormT op;
  op.input = norm.input;
  op.weight = norm.weight;
  op.out = norm.out;
  op.eps = norm.eps;
  auto &weights = s.rank(rank).weights;
  for (size_t w = 0; w < weights.size(); ++w)
    if (weights[w].get() == &s.weight(rank, bias))
      op.bias = static_cast<int32_t>(w);
  s.instruction(rank, program, "norm1").op.Set(op);
}

TEST_P(Mutants, IsRejected) {
  const Mutant &mutant = GetParam();
  ValidSet set(freshSeed());
  mutant.seed(set);
  const std::vector<Violation> violations = verifyPlanSet(set.pack());
  ASSERT_FALSE(violations.empty());
  const auto it = std::find_if(violations.begin(), violations.end(), [&](const Violation &v) {
    return v.kind == mutant.kind && std::all_of(mutant.words.begin(), mutant.words.end(), [&](const std::string &word) {
             return v.message.find(word) != std::string::npos;
           });
  });
  EXPECT_NE(it, violations.end()) << "expected " << mutant.kind << ", got\n" << textOf(violations);
}

} // namespace distc::test
