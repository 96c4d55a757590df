// A warp for each output; its lanes share out the shards' sorted lists, and every lane follows the whole choice.
#include "kernels/cuda/Candidate.cuh"

namespace distc::cuda {
namespace {

constexpr int threads = 128;

/// The candidates of one output: one sorted list from each shard.
struct Shards {
  const Candidate *first; // of shard 0
  int64_t stride;         // from one shard's list to the next
  int64_t shards;
  int64_t count;

  __device__ const Candidate *list(int64_t shard) const { return first + shard * stride; }

  /// The best of entry `index` of all lists.
  __device__ Candidate best(int64_t index) const {
    Candidate best = noCandidate;
    for (int64_t s = threadIdx.x % warpSize; s < shards; s += warpSize)
      best = better(best, list(s)[index]);
    return bestOfWarp(best);
  }

  /// The first in the merged order after `previous`, which need not be in a list.
  __device__ Candidate after(const Candidate &previous) const {
    Candidate best = noCandidate;
    for (int64_t s = threadIdx.x % warpSize; s < shards; s += warpSize) {
      int64_t low = 0, high = count; // the entry is in [low, high]
      while (low < high) {
        const int64_t middle = (low + high) / 2;
        const Candidate c = list(s)[middle];
        if (c.id >= 0 && !precedes(previous, c))
          low = middle + 1;
        else
          high = middle;
      }
      if (low < count)
        best = better(best, list(s)[low]);
    }
    return bestOfWarp(best);
  }

  __device__ double logSumExp() const {
    double maximum = -INFINITY, sum = 0;
    for (int64_t s = 0; s < shards; ++s)
      maximum = fmax(maximum, double(list(s)[count + 1].value));
    for (int64_t s = 0; s < shards; ++s)
      sum += exp(double(list(s)[count + 1].value) - maximum);
    return maximum + log(sum);
  }
};

/// The largest perturbed logit among the first top_k candidates of the nucleus.
__device__ Candidate fromNucleus(const Shards &shards, const SamplingRow &row) {
  const GumbelNoise noise(row);
  const double total = shards.logSumExp();
  const int64_t limit = row.topK > 0 ? min(int64_t(row.topK), shards.count) : shards.count;
  Candidate best = noCandidate;
  if (limit == 0)
    return best;
  Candidate c = shards.best(0);
  double mass = 0;
  for (int64_t i = 0; i < limit && c.id >= 0; ++i, c = shards.after(c)) {
    // Not less, rather than at least: a NaN (an infinite logit) ends the nucleus too.
    if (i > 0 && row.topP < 1.0f && !(mass < double(row.topP)))
      break;
    const float scaled = c.value / row.temperature;
    best = better(best, {scaled + noise(uint32_t(c.id)), c.id});
    mass += exp(double(scaled) - total);
  }
  return best;
}

__global__ void __launch_bounds__(threads) sampleKernel(const Candidate *candidates, int64_t shards, int64_t rows,
                                                        int64_t count, const SamplingRow *sampling, int32_t *ids) {
  const int64_t r = int64_t(blockIdx.x) * (threads / warpSize) + threadIdx.x / warpSize;
  if (r >= rows)
    return;
  const SamplingRow row = sampling[r];
  const Shards lists{candidates + r * (count + 2), rows * (count + 2), shards, count};
  Candidate chosen = noCandidate;
  if (!isGreedy(row))
    chosen = row.topK <= 0 && !(row.topP < 1.0f) ? lists.best(count) : fromNucleus(lists, row);
  if (chosen.id < 0 && count > 0) // greedy, or no logit is finite
    chosen = lists.best(0);
  if (threadIdx.x % warpSize == 0)
    ids[r] = max(0, int32_t(chosen.id));
}

} // namespace

cudaError_t sample(const float *candidates, int64_t shards, int64_t rows, int64_t count, const SamplingRow *sampling,
                   int32_t *ids, cudaStream_t stream) {
  return launch(stream, sampleKernel, divideUp(rows, threads / warpSize), threads,
                reinterpret_cast<const Candidate *>(candidates), shards, rows, count, sampling, ids);
}

} // namespace distc::cuda
