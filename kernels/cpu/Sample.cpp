#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/Sample.cpp"
#include "hwy/foreach_target.h" // IWYU pragma: keep

#include "kernels/cpu/Candidate.h"
#include "kernels/cpu/Gumbel-inl.h"

#include <algorithm>
#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace distc::cpu::HWY_NAMESPACE {
namespace {

/// The candidates of one output: one sorted list from each shard.
struct Shards {
  const Candidate *first; // of shard 0
  int64_t stride;         // from one shard's list to the next
  int64_t shards;
  int64_t count;

  const Candidate *list(int64_t shard) const { return first + shard * stride; }

  /// The best of entry `index` of all lists.
  Candidate best(int64_t index) const {
    Candidate best = noCandidate;
    for (int64_t s = 0; s < shards; ++s)
      if (const Candidate &c = list(s)[index]; c.id >= 0 && (best.id < 0 || precedes(c, best)))
        best = c;
    return best;
  }

  /// The first in the merged order after `previous`, which need not be in a list.
  Candidate after(const Candidate &previous) const {
    Candidate best = noCandidate;
    for (int64_t s = 0; s < shards; ++s) {
      const Candidate *end = list(s) + count;
      const Candidate *c =
          std::partition_point(list(s), end, [&](const Candidate &x) { return x.id >= 0 && !precedes(previous, x); });
      if (c != end && c->id >= 0 && (best.id < 0 || precedes(*c, best)))
        best = *c;
    }
    return best;
  }

  double logSumExp() const {
    double maximum = minusInfinity, sum = 0;
    for (int64_t s = 0; s < shards; ++s)
      maximum = std::max(maximum, double(list(s)[count + 1].value));
    for (int64_t s = 0; s < shards; ++s)
      sum += std::exp(double(list(s)[count + 1].value) - maximum);
    return maximum + std::log(sum);
  }
};

/// The largest perturbed logit among the first top_k candidates of the nucleus.
Candidate fromNucleus(const Shards &shards, const SamplingRow &row) {
  const DF d;
  const GumbelNoise noise(row);
  const double total = shards.logSumExp();
  const int64_t limit = row.topK > 0 ? std::min<int64_t>(row.topK, shards.count) : shards.count;
  Candidate best = noCandidate;
  Candidate c = shards.best(0);
  double mass = 0;
  for (int64_t i = 0; i < limit && c.id >= 0; ++i, c = shards.after(c)) {
    // Not less, rather than at least: a NaN (an infinite logit) ends the nucleus too.
    if (i > 0 && row.topP < 1.0f && !(mass < double(row.topP)))
      break;
    const float scaled = c.value / row.temperature;
    const float perturbed = scaled + hn::GetLane(GumbelNoise::ofTail(d, noise.tail(d, hn::Set(DU(), uint32_t(c.id)))));
    if (const Candidate p{perturbed, c.id}; best.id < 0 || precedes(p, best))
      best = p;
    mass += std::exp(double(scaled) - total);
  }
  return best;
}

void sample(const float *candidates, int64_t shards, int64_t rows, int64_t count, const SamplingRow *sampling,
            int32_t *ids) {
  for (int64_t r = 0; r < rows; ++r) {
    const SamplingRow &row = sampling[r];
    const auto *first = reinterpret_cast<const Candidate *>(candidates) + r * (count + 2);
    const Shards lists{first, rows * (count + 2), shards, count};
    Candidate chosen = noCandidate;
    if (!isGreedy(row))
      chosen = row.topK <= 0 && !(row.topP < 1.0f) ? lists.best(count) : fromNucleus(lists, row);
    if (chosen.id < 0 && count > 0) // greedy, or no logit is finite
      chosen = lists.best(0);
    ids[r] = std::max(0, int32_t(chosen.id));
  }
}

} // namespace
} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace distc::cpu {
HWY_EXPORT(sample);

void sample(const float *candidates, int64_t shards, int64_t rows, int64_t count, const SamplingRow *sampling,
            int32_t *ids) {
  HWY_DYNAMIC_DISPATCH(sample)(candidates, shards, rows, count, sampling, ids);
}
} // namespace distc::cpu
#endif
