#include "runtime/backends/cuda/Fusion.h"

#include "runtime/schema/PlanFile.h"
#include "runtime/verify/Operands.h"

#include <algorithm>
#include <set>

namespace distc {

namespace {

/// One program, while its fusions are looked for.
class Finder {
public:
  Finder(const plan::Plan &plan, const plan::Program &program) : plan_(plan), program_(program) {
    for (const plan::Instruction *instruction : *program.instructions()) {
      const Operands operands = operandsOf(*instruction);
      for (const BufferOperand &operand : operands.buffers())
        if (!operand.write)
          ++reads_[operand.buffer];
    }
    for (const plan::Buffer *buffer : *program.buffers())
      if (buffer->parent() >= 0)
        parents_.insert(static_cast<uint32_t>(buffer->parent()));
  }

  /// The fusion that starts with instruction `at`; none: of no parts.
  Fusion find(uint32_t at) const {
    using enum plan::Op;
    using Kind = Fusion::Kind;
    const Fusion projections = take(Kind::Projections, at, {Linear, Rope, Linear, Rope, Linear, KvAppend});
    if (projections.count != 0 && isProjections(projections))
      return projections;
    const Fusion gated = take(Kind::Gated, at, {Linear, Linear, Glu});
    if (gated.count != 0 && isGated(gated))
      return gated;
    const Fusion gatedExperts = take(Kind::GatedExperts, at, {ExpertLinear, ExpertLinear, Glu});
    if (gatedExperts.count != 0 && isGatedExperts(gatedExperts))
      return gatedExperts;
    const Fusion residual = take(Kind::Residual, at, {Linear, Add});
    if (residual.count != 0 && isResidual(residual))
      return residual;
    const Fusion combined = take(Kind::Combined, at, {Combine, Add});
    if (combined.count != 0 && isCombined(combined))
      return combined;
    return {};
  }

private:
  Fusion take(Fusion::Kind kind, uint32_t at, std::initializer_list<plan::Op> ops) const {
    Fusion fusion{kind, 0, {}};
    if (at + ops.size() > program_.instructions()->size())
      return {};
    for (plan::Op op : ops) {
      const uint32_t index = at + static_cast<uint32_t>(fusion.count);
      const plan::Instruction &instruction = *program_.instructions()->Get(index);
      if (instruction.op_type() != op)
        return {};
      const auto *labels = program_.labels();
      fusion.parts[fusion.count++] = {op,
                                      instruction.queue(),
                                      instruction.id(),
                                      index,
                                      &instruction,
                                      instruction.op(),
                                      labels && index < labels->size() ? labels->Get(index)->string_view() : ""};
    }
    return fusion;
  }

  /// Read once, and no chunk of it is looked at: so nobody misses it.
  bool isPrivate(uint32_t buffer) const {
    const auto found = reads_.find(buffer);
    return found != reads_.end() && found->second == 1 && !parents_.contains(buffer);
  }
  const plan::Buffer &buffer(uint32_t index) const { return *program_.buffers()->Get(index); }
  bool overlap(uint32_t a, uint32_t b) const {
    const plan::Buffer &x = buffer(a), &y = buffer(b);
    return x.parent() >= 0 || y.parent() >= 0 ||
           (x.offset() < y.offset() + y.bytes() && y.offset() < x.offset() + x.bytes());
  }
  /// The rows of b follow those of a.
  bool adjacent(uint32_t a, uint32_t b) const {
    const plan::Weight &x = *plan_.weights()->Get(a), &y = *plan_.weights()->Get(b);
    return x.dtype() == y.dtype() && x.offset() + x.bytes() == y.offset();
  }

  bool isProjections(const Fusion &f) const {
    const auto &q = f.parts[0].as<plan::Linear>(), &k = f.parts[2].as<plan::Linear>(),
               &v = f.parts[4].as<plan::Linear>();
    const auto &ropeQ = f.parts[1].as<plan::Rope>(), &ropeK = f.parts[3].as<plan::Rope>();
    const auto &append = f.parts[5].as<plan::KvAppend>();
    const plan::RopeTable &table = *plan_.rope_tables()->Get(ropeQ.table());
    return !table.over() && table.inv_freq()->size() * 2 == ropeQ.head_dim() && k.input() == q.input() &&
           v.input() == q.input() && adjacent(q.weight(), k.weight()) && adjacent(k.weight(), v.weight()) &&
           ropeQ.input() == q.out() && ropeK.input() == k.out() && ropeQ.table() == ropeK.table() &&
           ropeQ.head_dim() == ropeK.head_dim() && ropeQ.style() == ropeK.style() && append.k() == ropeK.out() &&
           append.v() == v.out() && isPrivate(q.out()) && isPrivate(k.out()) && isPrivate(ropeK.out()) &&
           !overlap(q.input(), q.out()) && !overlap(q.input(), k.out()) && !overlap(q.input(), v.out()) &&
           !overlap(q.out(), k.out()) && !overlap(q.out(), v.out()) && !overlap(k.out(), v.out()) &&
           !overlap(ropeQ.out(), k.out()) && !overlap(ropeQ.out(), v.out());
  }

  bool isGated(const Fusion &f) const {
    const auto &gate = f.parts[0].as<plan::Linear>(), &up = f.parts[1].as<plan::Linear>();
    const auto &glu = f.parts[2].as<plan::Glu>();
    return up.input() == gate.input() && adjacent(gate.weight(), up.weight()) && gate.bias() < 0 && up.bias() < 0 &&
           glu.gate() == gate.out() && glu.up() == up.out() && isPrivate(gate.out()) && isPrivate(up.out()) &&
           !overlap(gate.input(), glu.out());
  }

  bool isGatedExperts(const Fusion &f) const {
    const auto &gate = f.parts[0].as<plan::ExpertLinear>(), &up = f.parts[1].as<plan::ExpertLinear>();
    const auto &glu = f.parts[2].as<plan::Glu>();
    const plan::Weight &x = *plan_.weights()->Get(gate.weight()), &y = *plan_.weights()->Get(up.weight());
    return up.input() == gate.input() && up.routes() == gate.routes() && x.dtype() == y.dtype() &&
           std::ranges::equal(*x.shape(), *y.shape()) && glu.gate() == gate.out() && glu.up() == up.out() &&
           isPrivate(gate.out()) && isPrivate(up.out()) && !overlap(gate.input(), glu.out()) &&
           !overlap(gate.routes(), glu.out());
  }

  /// Whether `add` adds a buffer, which nobody else reads, to another of its width.
  bool isAddend(uint32_t term, const plan::Add &add) const {
    const bool first = add.a() == term, second = add.b() == term;
    const uint32_t other = first ? add.b() : add.a();
    return first != second && isPrivate(term) && buffer(other).row_elements() == buffer(add.out()).row_elements();
  }
  bool isResidual(const Fusion &f) const {
    const auto &linear = f.parts[0].as<plan::Linear>();
    const auto &add = f.parts[1].as<plan::Add>();
    return isAddend(linear.out(), add) && !overlap(linear.input(), add.out());
  }
  bool isCombined(const Fusion &f) const {
    const auto &sum = f.parts[0].as<plan::Combine>();
    const auto &add = f.parts[1].as<plan::Add>();
    return isAddend(sum.out(), add) && !overlap(sum.input(), add.out()) && !overlap(sum.routes(), add.out());
  }

  const plan::Plan &plan_;
  const plan::Program &program_;
  std::map<uint32_t, unsigned> reads_; // of a buffer
  std::set<uint32_t> parents_;         // buffers with chunks
};

} // namespace

Fusions findFusions(const plan::Plan &plan) {
  Fusions fusions;
  for (const plan::Program *program : *plan.programs()) {
    if (program->regime() != plan::Regime::Prefill)
      continue;
    const Finder finder(plan, *program);
    for (uint32_t i = 0; i < program->instructions()->size();) {
      const auto fusion = std::make_shared<const Fusion>(finder.find(i));
      for (size_t part = 0; part < fusion->count; ++part)
        fusions[fusion->parts[part].id] = fusion;
      i += static_cast<uint32_t>(std::max<size_t>(1, fusion->count));
    }
  }
  return fusions;
}

} // namespace distc
