// A warp for each output. A batch of candidates is weighed by all lanes at once; what is left to do one after the
// other, in the order of the CPU, is to add up the mass of the nucleus.
#include "kernels/cuda/Candidate.cuh"
#include "kernels/cuda/Stage.cuh"

namespace distc::cuda {
namespace {

constexpr int threads = 128;
constexpr int listsPerLane = int(maxShards) / warpSize;

/// The order of candidates: larger values first, of equal ones the lower id. No value is NaN.
__device__ inline bool precedes(const Candidate &a, const Candidate &b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

/// The better of two that may be none.
__device__ inline Candidate better(const Candidate &a, const Candidate &b) {
  return b.id >= 0 && (a.id < 0 || precedes(b, a)) ? b : a;
}

/// The best of the warp's, in every lane.
__device__ Candidate bestOfWarp(Candidate best) {
  for (int offset = warpSize / 2; offset > 0; offset /= 2)
    best = better(best,
                  Candidate{__shfl_xor_sync(allLanes, best.value, offset), __shfl_xor_sync(allLanes, best.id, offset)});
  return best;
}

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

  /// Added up in the order of the shards.
  __device__ double logSumExp() const {
    const int lane = threadIdx.x % warpSize;
    double maximum = -INFINITY, sum = 0;
    for (int64_t s = lane; s < shards; s += warpSize)
      maximum = fmax(maximum, double(at(s, count + 1).value));
    maximum = reduceWarp(maximum, [](double a, double b) { return fmax(a, b); });
    for (int64_t first = 0; first < shards; first += warpSize) {
      const int batch = int(min(int64_t(warpSize), shards - first));
      const double part = lane < batch ? exp(double(at(first + lane, count + 1).value) - maximum) : 0;
      for (int i = 0; i < batch; ++i)
        sum += __shfl_sync(allLanes, part, i);
    }
    return maximum + log(sum);
  }
};

/// The candidates of all lists in order, in batches of one for each lane. A lane holds the heads of its lists, and what
/// follows them.
class Merge {
public:
  __device__ Merge(const Shards &shards, Candidate *shared) : shards(shards), shared(shared) {
#pragma unroll
    for (int j = 0; j < listsPerLane; ++j) {
      index[j] = 0;
      head[j] = load(j, 0);
      following[j] = load(j, 1);
    }
  }

  __device__ Candidate next() {
    const int lane = threadIdx.x % warpSize;
    shared[lane] = noCandidate;
    for (int i = 0; i < warpSize; ++i) {
      __syncwarp();
      Candidate best = noCandidate;
#pragma unroll
      for (int j = 0; j < listsPerLane; ++j)
        best = better(best, head[j]);
      // Of equal values the lowest id; that of none is the highest.
      const uint32_t value = ordered(best.value), id = __float_as_uint(best.id);
      const uint32_t largest = __reduce_max_sync(allLanes, value);
      const uint32_t chosen = __reduce_min_sync(allLanes, value == largest ? id : ~0u);
      if (id != chosen || best.id < 0)
        continue;
      shared[i] = best;
#pragma unroll
      for (int j = 0; j < listsPerLane; ++j)
        if (head[j].id == best.id) {
          head[j] = following[j];
          following[j] = load(j, ++index[j] + 1);
        }
    }
    __syncwarp();
    return shared[lane];
  }

private:
  __device__ Candidate load(int j, int64_t i) const {
    const int64_t shard = threadIdx.x % warpSize + j * warpSize;
    return shard < shards.shards && i < shards.count ? shards.at(shard, i) : noCandidate;
  }

  const Shards &shards;
  Candidate *shared; // of the warp, one for each lane
  Candidate head[listsPerLane], following[listsPerLane];
  int64_t index[listsPerLane];
};

/// The largest perturbed logit among the first top_k candidates of the nucleus. next() is the lane's of the next batch.
template <class F> __device__ Candidate fromNucleus(F next, const Shards &shards, const SamplingRow &row) {
  const int lane = threadIdx.x % warpSize;
  const GumbelNoise noise(row);
  const bool isCut = row.topP < 1.0f;
  const double total = isCut ? shards.logSumExp() : 0;
  const int64_t limit = row.topK > 0 ? min(int64_t(row.topK), shards.count) : shards.count;
  Candidate best = noCandidate;
  double mass = 0;
  for (int64_t first = 0; first < limit; first += warpSize) {
    const Candidate own = next();
    const float scaled = own.value / row.temperature;
    double before = mass; // of all candidates before this lane's
    if (isCut) {
      const double probability = exp(double(scaled) - total);
#pragma unroll
      for (int i = 0; i < warpSize; ++i) {
        const double other = __shfl_sync(allLanes, probability, i);
        before += i < lane ? other : 0.0;
      }
      mass = __shfl_sync(allLanes, before + probability, warpSize - 1);
    }
    const bool isFirst = first + lane == 0;
    // Less, rather than not at least: a NaN (an infinite logit) ends the nucleus too.
    const bool isIn = first + lane < limit && own.id >= 0 && (isFirst || !isCut || before < double(row.topP));
    const unsigned outside = ~__ballot_sync(allLanes, isIn);
    Candidate perturbed{scaled + noise(uint32_t(own.id)), own.id};
    if (isnan(perturbed.value)) // nothing precedes it if it is the first, else it precedes nothing
      perturbed = isFirst ? Candidate{INFINITY, own.id} : noCandidate;
    if (lane < __ffs(outside) - 1 || outside == 0)
      best = better(best, perturbed);
    if (outside != 0)
      break;
  }
  return bestOfWarp(best);
}

__global__ void __launch_bounds__(threads) sampleKernel(const Candidate *candidates, int64_t shards, int64_t rows,
                                                        int64_t count, const SamplingRow *sampling, int32_t *ids) {
  __shared__ Candidate batches[threads];
  letNextStart();
  waitForPrevious();
  const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
  const int64_t r = int64_t(blockIdx.x) * (threads / warpSize) + warp;
  if (r >= rows)
    return;
  const SamplingRow row = sampling[r];
  const Shards lists{candidates + r * (count + 2), rows * (count + 2), shards, count};
  Candidate chosen = noCandidate;
  if (!isGreedy(row)) {
    if (row.topK <= 0 && !(row.topP < 1.0f))
      chosen = lists.best(count);
    else if (shards == 1) {
      auto load = [&](int64_t i) { return i < count ? lists.at(0, i) : noCandidate; };
      int64_t index = lane;
      Candidate following = load(index);
      auto next = [&] {
        const Candidate own = following;
        following = load(index += warpSize);
        return own;
      };
      chosen = fromNucleus(next, lists, row);
    } else {
      Merge merge(lists, batches + warp * warpSize);
      chosen = fromNucleus([&] { return merge.next(); }, lists, row);
    }
  }
  if (chosen.id < 0 && count > 0) // greedy, or no logit is finite
    chosen = lists.best(0);
  if (lane == 0)
    ids[r] = max(0, int32_t(chosen.id));
}

} // namespace

cudaError_t sample(const float *candidates, int64_t shards, int64_t rows, int64_t count, const SamplingRow *sampling,
                   int32_t *ids, cudaStream_t stream) {
  if (shards > maxShards)
    return cudaErrorInvalidValue;
  if (rows <= 0)
    return cudaSuccess;
  if (const cudaError_t error = prepareStage<sampleKernel>(0); error != cudaSuccess)
    return error;
  return launchOverlapped(stream, sampleKernel, dim3(unsigned(divideUp(rows, threads / warpSize))), threads, size_t(0),
                          1, reinterpret_cast<const Candidate *>(candidates), shards, rows, count, sampling, ids);
}

} // namespace distc::cuda
