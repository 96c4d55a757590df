#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

namespace {

// A token costs as many positions as it sees: equal counts of items would leave the threads with early tokens idle.
// Item i = token * kvHeads + head; the cut is where `part` of `parts` of the whole cost is reached, the same for the
// same batch.
class CostSplit {
public:
  CostSplit(const int32_t *positions, int64_t tokens, int64_t window, int64_t kvHeads)
      : positions_(positions), tokens_(tokens), window_(window), kvHeads_(kvHeads) {
    for (int64_t t = 0; t < tokens; ++t)
      total_ += cost(t);
  }

  int64_t bound(int64_t part, int64_t parts) const {
    if (part == parts)
      return tokens_ * kvHeads_;
    const int64_t goal = total_ * kvHeads_ * part / parts;
    int64_t before = 0;
    for (int64_t t = 0; t < tokens_; ++t) {
      const int64_t mine = cost(t) * kvHeads_;
      if (before + mine > goal)
        return t * kvHeads_ + (goal - before) / cost(t);
      before += mine;
    }
    return tokens_ * kvHeads_;
  }

private:
  int64_t cost(int64_t t) const {
    const int64_t seen = int64_t(positions_[t]) + 1;
    return window_ > 0 ? std::min(seen, window_) : seen;
  }

  const int32_t *positions_;
  int64_t tokens_, window_, kvHeads_, total_ = 0;
};

} // namespace

Status attention(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::Attention>();
  const BufferView q = run.buffer(o.q()), out = run.buffer(o.out());
  const cpu::KvView cache = run.cache(o.cache());
  const cpu::AttentionParams params{o.heads(), o.scale(), o.window(), o.soft_cap()};
  const int32_t *positions = run.positions() + q.first;
  const CostSplit split(positions, q.rows, o.window(), cache.heads);
  const int64_t parts = run.pool.size();
  run.pool.forEachThread([&](uint32_t part) {
    const int64_t begin = split.bound(part, parts), end = split.bound(part + 1, parts);
    if (begin < end)
      cpu::attention(q.f32(), cache, params, run.blockTables(), run.plan.kv()->blocks_per_sequence(),
                     run.sequenceOf() + q.first, positions, out.f32(), begin, end);
  });
  return {};
}

} // namespace distc::cpuHandlers
