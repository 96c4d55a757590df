// A warp for each output; its lanes share out the shards' sorted lists.
#include "kernels/cuda/Candidate.cuh"

namespace distc::cuda {
namespace {

constexpr int threads = 128;
constexpr int listsPerLane = int(maxShards) / warpSize;

/// The candidates of one output: one sorted list from each shard.
struct Shards {
  const Candidate *first; // of shard 0
  int64_t stride;         // from one shard's list to the next
  int64_t shards;
  int64_t count;

  __device__ Candidate at(int64_t shard, int64_t index) const { return first[shard * stride + index]; }

  /// The best of entry `index` of all lists.
  __device__ Candidate best(int64_t index) const {
    Candidate best = noCandidate;
    for (int64_t s = threadIdx.x % warpSize; s < shards; s += warpSize)
      best = better(best, at(s, index));
    return bestOfWarp(best);
  }

  __device__ double logSumExp() const {
    double maximum = -INFINITY, sum = 0;
    for (int64_t s = 0; s < shards; ++s)
      maximum = fmax(maximum, double(at(s, count + 1).value));
    for (int64_t s = 0; s < shards; ++s)
      sum += exp(double(at(s, count + 1).value) - maximum);
    return maximum + log(sum);
  }
};

/// The candidates of all lists in order. A lane holds the heads of its lists, and what follows them.
class Merge {
public:
  __device__ explicit Merge(const Shards &shards) : shards(shards) {
#pragma unroll
    for (int j = 0; j < listsPerLane; ++j) {
      index[j] = 0;
      head[j] = load(j, 0);
      following[j] = load(j, 1);
    }
  }

  /// The next candidate, in every lane; none at the end.
  __device__ Candidate next() {
    Candidate best = noCandidate;
#pragma unroll
    for (int j = 0; j < listsPerLane; ++j)
      best = better(best, head[j]);
    best = bestOfWarp(best);
#pragma unroll
    for (int j = 0; j < listsPerLane; ++j)
      if (head[j].id >= 0 && head[j].id == best.id) {
        head[j] = following[j];
        following[j] = load(j, ++index[j] + 1);
      }
    return best;
  }

private:
  __device__ Candidate load(int j, int64_t i) const {
    const int64_t shard = threadIdx.x % warpSize + j * warpSize;
    return shard < shards.shards && i < shards.count ? shards.at(shard, i) : noCandidate;
  }

  const Shards &shards;
  Candidate head[listsPerLane], following[listsPerLane];
  int64_t index[listsPerLane];
};

/// The largest perturbed logit among the first top_k candidates of the nucleus. A batch of candidates is merged, its
/// lanes compute what each of them weighs, and the nucleus is followed through the batch in order.
__device__ Candidate fromNucleus(const Shards &shards, const SamplingRow &row) {
  const int lane = threadIdx.x % warpSize;
  const GumbelNoise noise(row);
  const double total = shards.logSumExp();
  const int64_t limit = row.topK > 0 ? min(int64_t(row.topK), shards.count) : shards.count;
  Merge merge(shards);
  Candidate best = noCandidate;
  double mass = 0;
  for (int64_t first = 0; first < limit; first += warpSize) {
    const int batch = int(min(int64_t(warpSize), limit - first));
    Candidate own = noCandidate;
    for (int i = 0; i < batch; ++i)
      if (const Candidate c = merge.next(); i == lane)
        own = c;
    const float scaled = own.value / row.temperature;
    const Candidate perturbed{scaled + noise(uint32_t(own.id)), own.id};
    const double probability = exp(double(scaled) - total);
    for (int i = 0; i < batch; ++i) {
      const Candidate c{__shfl_sync(allLanes, perturbed.value, i), __shfl_sync(allLanes, perturbed.id, i)};
      // Not less, rather than at least: a NaN (an infinite logit) ends the nucleus too.
      if (c.id < 0 || (first + i > 0 && row.topP < 1.0f && !(mass < double(row.topP))))
        return best;
      best = better(best, c);
      mass += __shfl_sync(allLanes, probability, i);
    }
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
  if (shards > maxShards)
    return cudaErrorInvalidValue;
  return launch(stream, sampleKernel, divideUp(rows, threads / warpSize), threads,
                reinterpret_cast<const Candidate *>(candidates), shards, rows, count, sampling, ids);
}

} // namespace distc::cuda
