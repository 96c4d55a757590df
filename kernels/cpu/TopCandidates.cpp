#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/TopCandidates.cpp"
#include "hwy/foreach_target.h" // IWYU pragma: keep

#include "kernels/cpu/Candidate.h"
#include "kernels/cpu/Gumbel-inl.h"

#include <algorithm>
#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace distc::cpu::HWY_NAMESPACE {
namespace {

using VI = hn::Vec<hn::Rebind<int32_t, DF>>;

/// n logits, NaN as -inf; -inf behind them.
HWY_INLINE VF loadLogits(DF d, const float *p, size_t n) {
  const VF none = hn::Set(d, minusInfinity);
  VF x = load(d, p, n);
  if (n < lanes)
    x = hn::IfThenElse(hn::FirstN(d, n), x, none);
  return hn::IfThenElse(hn::IsNaN(x), none, x);
}

/// The largest value of each lane and its column, the first of equal ones.
struct LaneMaximum {
  VF value;
  VI column;

  HWY_INLINE void add(VF x, VI columns) {
    const auto larger = hn::Gt(x, value);
    value = hn::IfThenElse(larger, x, value);
    column = hn::IfThenElse(hn::RebindMask(hn::Rebind<int32_t, DF>(), larger), columns, column);
  }

  Candidate best(int64_t firstId) const {
    HWY_ALIGN float values[lanes];
    HWY_ALIGN int32_t columns[lanes];
    hn::Store(value, DF(), values);
    hn::Store(column, hn::Rebind<int32_t, DF>(), columns);
    size_t best = 0;
    for (size_t i = 1; i < lanes; ++i)
      if (values[i] > values[best] || (values[i] == values[best] && columns[i] < columns[best]))
        best = i;
    return {values[best], float(firstId + columns[best])};
  }
};

/// The largest of at least one logit.
Candidate largest(const float *logits, int64_t valid, int64_t firstId) {
  const DF d;
  const hn::Rebind<int32_t, DF> di;
  // Two chains of comparisons hide each other's latency; the second starts as a copy of the first.
  LaneMaximum even{loadLogits(d, logits, size_t(std::min<int64_t>(valid, lanes))), hn::Iota(di, 0)};
  LaneMaximum odd = even;
  const VI step = hn::Set(di, 2 * int32_t(lanes));
  VI columns = hn::Iota(di, 0), next = hn::Iota(di, int32_t(lanes));
  int64_t i = 0;
  for (; i + 2 * int64_t(lanes) <= valid; i += 2 * lanes) {
    even.add(loadLogits(d, logits + i, lanes), columns);
    odd.add(loadLogits(d, logits + i + lanes, lanes), next);
    columns = hn::Add(columns, step);
    next = hn::Add(next, step);
  }
  forVectors(i, valid,
             [&](int64_t j, size_t n) HWY_ATTR { even.add(loadLogits(d, logits + j, n), hn::Iota(di, int32_t(j))); });
  const Candidate a = even.best(firstId), b = odd.best(firstId);
  return precedes(a, b) ? a : b;
}

/// The `count` largest so far as a heap whose root is the last of them; ids come in increasing order, so an equal value
/// that comes later never enters.
struct Heap {
  Candidate *items;
  int64_t capacity;
  int64_t size = 0;

  bool takes(float value) const { return size < capacity || (capacity > 0 && value > items[0].value); }
  void add(Candidate c) {
    if (size == capacity)
      std::pop_heap(items, items + size--, precedes);
    items[size++] = c;
    std::push_heap(items, items + size, precedes);
  }
};

void sampled(const float *logits, int64_t valid, int64_t firstId, int64_t count, const SamplingRow &row,
             Candidate *out) {
  const DF d;
  const DU du;
  const VF temperature = hn::Set(d, row.temperature);
  const VF maximum = hn::Div(hn::Set(d, largest(logits, valid, firstId).value), temperature);
  const GumbelNoise noise(row);
  Heap heap{out, count};
  LaneMaximum perturbed{hn::Set(d, minusInfinity), hn::Zero(hn::Rebind<int32_t, DF>())};
  VF bound = perturbed.value; // the largest perturbed logit so far
  VF threshold = bound;       // what a logit must exceed to enter the full heap
  VF sum = hn::Zero(d);
  forVectors(0, valid, [&](int64_t i, size_t n) HWY_ATTR {
    const VF x = loadLogits(d, logits + i, n);
    if (heap.size < count || !hn::AllFalse(d, hn::Gt(x, threshold))) {
      HWY_ALIGN float values[lanes];
      hn::Store(x, d, values);
      for (size_t j = 0; j < n; ++j)
        if (heap.takes(values[j]))
          heap.add({values[j], float(firstId + i + int64_t(j))});
      threshold = hn::Set(d, count > 0 ? out[0].value : std::numeric_limits<float>::infinity());
    }
    const VF scaled = hn::Div(x, temperature);
    sum = hn::Add(sum, hn::Exp(d, hn::Sub(scaled, maximum)));
    // Few vectors can win, and the logarithms of the noise are what costs.
    const VF tail = noise.tail(d, hn::Iota(du, uint32_t(firstId + i)));
    if (!hn::AllFalse(d, hn::Gt(hn::Add(scaled, GumbelNoise::boundOfTail(d, tail)), bound))) {
      perturbed.add(hn::Add(scaled, GumbelNoise::ofTail(d, tail)), hn::Iota(hn::Rebind<int32_t, DF>(), int32_t(i)));
      bound = hn::MaxOfLanes(d, perturbed.value);
    }
  });
  std::sort_heap(out, out + heap.size, precedes);
  const Candidate best = perturbed.best(firstId);
  if (best.value > minusInfinity)
    out[count] = best;
  const float top = hn::GetLane(maximum);
  out[count + 1].value = top > minusInfinity ? top + std::log(sumOfLanes(d, sum)) : minusInfinity;
}

void topCandidates(const float *logits, int64_t width, int64_t valid, int64_t firstId, int64_t count,
                   const SamplingRow *sampling, float *out, int64_t rowBegin, int64_t rowEnd) {
  for (int64_t r = rowBegin; r < rowEnd; ++r) {
    const float *row = logits + r * width;
    auto *candidates = reinterpret_cast<Candidate *>(out) + r * (count + 2);
    std::fill_n(candidates, count + 1, noCandidate);
    candidates[count + 1] = {minusInfinity, 0.0f};
    if (valid <= 0)
      continue;
    if (!isGreedy(sampling[r]))
      sampled(row, valid, firstId, count, sampling[r], candidates);
    else if (count > 0)
      candidates[0] = largest(row, valid, firstId);
  }
}

} // namespace
} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace distc::cpu {
HWY_EXPORT(topCandidates);

void topCandidates(const float *logits, int64_t width, int64_t valid, int64_t firstId, int64_t count,
                   const SamplingRow *sampling, float *out, int64_t rowBegin, int64_t rowEnd) {
  HWY_DYNAMIC_DISPATCH(topCandidates)(logits, width, valid, firstId, count, sampling, out, rowBegin, rowEnd);
}
} // namespace distc::cpu
#endif
