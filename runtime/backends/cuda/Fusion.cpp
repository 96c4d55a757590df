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
    Fusion projections = takeProjections(at);
    if (projections.count != 0 && findParts(projections) && isProjections(projections.projections))
      return projections;
    const Fusion gated = take(Kind::Gated, at, {Linear, Linear, Glu});
    if (gated.count != 0 && isGated(gated))
      return gated;
    const Fusion gatedExperts = take(Kind::GatedExperts, at, {ExpertLinear, ExpertLinear, Glu});
    if (gatedExperts.count != 0 && isGatedExperts(gatedExperts))
      return gatedExperts;
    const Fusion combined = take(Kind::Combined, at, {Combine, Add});
    if (combined.count != 0 && isCombined(combined))
      return combined;
    for (const Fusion &residual :
         {take(Kind::Residual, at, {Linear, Add}), take(Kind::Residual, at, {Linear, Scale, Add})})
      if (residual.count != 0 && isResidual(residual))
        return residual;
    const Fusion postNorm = take(Kind::PostNorm, at, {RmsNorm, Add});
    if (postNorm.count != 0 && isPostNorm(postNorm))
      return postNorm;
    return findEmbedded(at);
  }

  /// Likewise, of what a decode program has fused beside its stages.
  Fusion findEmbedded(uint32_t at) const {
    for (plan::Op op : {plan::Op::Scale, plan::Op::PositionEmbedding}) {
      const Fusion embedded = take(Fusion::Kind::Embedded, at, {plan::Op::Embedding, op});
      if (embedded.count == 0)
        continue;
      const uint32_t rows = embedded.parts[0].as<plan::Embedding>().out();
      const Instruction &then = embedded.parts[1];
      if (isPrivate(rows) &&
          rows == (op == plan::Op::Scale ? then.as<plan::Scale>().input() : then.as<plan::PositionEmbedding>().input()))
        return embedded;
    }
    return {};
  }

private:
  Fusion take(Fusion::Kind kind, uint32_t at, std::initializer_list<plan::Op> ops) const {
    Fusion fusion{kind, 0, {}, {}};
    if (at + ops.size() > program_.instructions()->size())
      return {};
    for (plan::Op op : ops) {
      add(fusion, at);
      if (fusion.parts[fusion.count - 1].op != op)
        return {};
    }
    return fusion;
  }
  void add(Fusion &fusion, uint32_t at) const {
    const uint32_t index = at + static_cast<uint32_t>(fusion.count);
    const plan::Instruction &instruction = *program_.instructions()->Get(index);
    const auto *labels = program_.labels();
    fusion.parts[fusion.count++] = {instruction.op_type(),
                                    instruction.queue(),
                                    instruction.id(),
                                    index,
                                    &instruction,
                                    instruction.op(),
                                    labels && index < labels->size() ? labels->Get(index)->string_view() : ""};
  }

  /// Products, norms and rotations up to a KvAppend.
  Fusion takeProjections(uint32_t at) const {
    using enum plan::Op;
    Fusion fusion{Fusion::Kind::Projections, 0, {}, {}};
    while (fusion.count < fusion.parts.size() && at + fusion.count < program_.instructions()->size()) {
      add(fusion, at);
      const plan::Op op = fusion.parts[fusion.count - 1].op;
      if (op == KvAppend)
        return fusion;
      if (fusion.count == 1 ? op != Linear : op != Linear && op != RmsNorm && op != Rope)
        break;
    }
    return {};
  }

  /// Which part each plays: from the append and from what is left back to the products.
  static bool findParts(Fusion &f) {
    ProjectionParts &p = f.projections;
    std::vector<const Instruction *> left;
    for (size_t i = 0; i + 1 < f.count; ++i)
      left.push_back(&f.parts[i]);
    const auto take = [&](plan::Op op, auto writes) -> const Instruction * {
      for (auto it = left.begin(); it != left.end(); ++it)
        if ((*it)->op == op && writes(**it)) {
          const Instruction *found = *it;
          left.erase(it);
          return found;
        }
      return nullptr;
    };
    const auto chain = [&](uint32_t value, bool isHeads, const plan::RmsNorm *&norm, const plan::Rope *&rope) {
      if (const Instruction *found = take(
              plan::Op::Rope, [&](const Instruction &i) { return isHeads && i.as<plan::Rope>().out() == value; })) {
        rope = &found->as<plan::Rope>();
        value = rope->input();
      }
      if (const Instruction *found = take(plan::Op::RmsNorm, [&](const Instruction &i) {
            return isHeads && i.as<plan::RmsNorm>().out() == value;
          })) {
        norm = &found->as<plan::RmsNorm>();
        value = norm->input();
      }
      const Instruction *linear =
          take(plan::Op::Linear, [&](const Instruction &i) { return i.as<plan::Linear>().out() == value; });
      return linear ? &linear->as<plan::Linear>() : nullptr;
    };
    const plan::RmsNorm *noNorm = nullptr;
    const plan::Rope *noRope = nullptr;
    p.append = &f.parts[f.count - 1].as<plan::KvAppend>();
    p.linears[2] = chain(p.append->v(), false, noNorm, noRope);
    p.linears[1] = chain(p.append->k(), true, p.norms[1], p.ropes[1]);
    if (!p.linears[1] || !p.linears[2] || left.empty())
      return false;
    // The last of the others is what attention reads.
    const Instruction &last = *left.back();
    const uint32_t q = last.op == plan::Op::Rope      ? last.as<plan::Rope>().out()
                       : last.op == plan::Op::RmsNorm ? last.as<plan::RmsNorm>().out()
                                                      : last.as<plan::Linear>().out();
    p.linears[0] = chain(q, true, p.norms[0], p.ropes[0]);
    return p.linears[0] && left.empty();
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

  /// The same memory, or no byte of it.
  bool sameOrApart(uint32_t a, uint32_t b) const {
    return !overlap(a, b) || (buffer(a).parent() < 0 && buffer(b).parent() < 0 &&
                              buffer(a).offset() == buffer(b).offset() && buffer(a).bytes() == buffer(b).bytes());
  }

  bool isProjections(const ProjectionParts &p) const {
    const plan::Linear &q = *p.linears[0], &k = *p.linears[1], &v = *p.linears[2];
    const plan::Rope *ropeQ = p.ropes[0], *ropeK = p.ropes[1];
    if ((ropeQ != nullptr) != (ropeK != nullptr) ||
        (ropeQ && (ropeQ->table() != ropeK->table() || ropeQ->head_dim() != ropeK->head_dim() ||
                   ropeQ->style() != ropeK->style())))
      return false;
    const int64_t headDim = plan_.kv()->caches()->Get(p.append->cache())->head_dim();
    if (buffer(q.out()).row_elements() % headDim != 0 || (ropeQ && ropeQ->head_dim() != headDim))
      return false;
    for (const plan::RmsNorm *norm : p.norms)
      if (norm && norm->squares() != -1)
        return false;
    // What the kernels do not write, nobody else reads; what attention reads is written.
    for (uint32_t i = 0; i < 2; ++i)
      if ((p.norms[i] && (!isPrivate(p.linears[i]->out()) || (p.ropes[i] && !isPrivate(p.norms[i]->out())))) ||
          (p.ropes[i] && !p.norms[i] && !isPrivate(p.linears[i]->out())))
        return false;
    const uint32_t y = p.out();
    return isPrivate(p.append->k()) && k.input() == q.input() && v.input() == q.input() &&
           adjacent(q.weight(), k.weight()) && adjacent(k.weight(), v.weight()) && !overlap(q.input(), q.out()) &&
           !overlap(q.input(), k.out()) && !overlap(q.input(), v.out()) && !overlap(q.out(), k.out()) &&
           !overlap(q.out(), v.out()) && !overlap(k.out(), v.out()) && !overlap(y, k.out()) && !overlap(y, v.out()) &&
           sameOrApart(y, q.out());
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
    const plan::Scale *scale = f.count == 3 ? &f.parts[1].as<plan::Scale>() : nullptr;
    if (scale && (scale->input() != linear.out() || !isPrivate(linear.out())))
      return false;
    const auto &add = f.parts[f.count - 1].as<plan::Add>();
    return isAddend(scale ? scale->out() : linear.out(), add) && !overlap(linear.input(), add.out());
  }
  bool isCombined(const Fusion &f) const {
    const auto &sum = f.parts[0].as<plan::Combine>();
    const auto &add = f.parts[1].as<plan::Add>();
    return isAddend(sum.out(), add) && !overlap(sum.input(), add.out()) && !overlap(sum.routes(), add.out());
  }

  bool isPostNorm(const Fusion &f) const {
    const auto &norm = f.parts[0].as<plan::RmsNorm>();
    const auto &add = f.parts[1].as<plan::Add>();
    const uint64_t width = plan_.weights()->Get(norm.weight())->bytes() / sizeof(float);
    return isAddend(norm.out(), add) && norm.squares() == -1 && sameOrApart(norm.input(), add.out()) &&
           width == buffer(norm.input()).row_elements() && width == buffer(add.out()).row_elements();
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
    const bool isPrefill = program->regime() == plan::Regime::Prefill;
    const Finder finder(plan, *program);
    for (uint32_t i = 0; i < program->instructions()->size();) {
      const auto fusion = std::make_shared<const Fusion>(isPrefill ? finder.find(i) : finder.findEmbedded(i));
      for (size_t part = 0; part < fusion->count; ++part)
        fusions[fusion->parts[part].id] = fusion;
      i += static_cast<uint32_t>(std::max<size_t>(1, fusion->count));
    }
  }
  return fusions;
}

} // namespace distc
