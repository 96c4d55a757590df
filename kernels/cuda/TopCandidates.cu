// A cluster of blocks for each output, a part of the columns for each block. The blocks agree on a bound that the
// wanted logits and few others reach; each sorts what reaches it in its part by unique keys (value, then column), so
// ties and the order of threads cannot matter. How many keys of the other blocks are larger, found by binary search,
// gives a key's place among all.
#include "kernels/cuda/Candidate.cuh"
#include "kernels/cuda/KeyOrder.cuh"
#include "kernels/cuda/Stage.cuh"

#include <cooperative_groups.h>

#include <algorithm>
#include <bit>

namespace cg = cooperative_groups;

namespace distc::cuda {
namespace {

constexpr int threads = 512, warps = threads / warpSize;
static_assert(warps <= warpSize); // a warp reduces what the warps leave
constexpr int blocksPerRow = 8;

/// What a block finds in its part. The cluster's others read it.
struct Found {
  uint64_t largest;   // key of a logit; 0: the part is empty
  uint64_t bound;     // a key that its share of the wanted ones reach; 0: the part may have fewer
  uint64_t perturbed; // key of the largest perturbed logit; 0: none can be drawn
  float sum;          // of exponentials
  int listed;         // keys in its list
};

struct Shared {
  Found found;
  uint64_t keys[warps];
  float sums[warps];
  KeySelection selection;
  unsigned taken;
};

/// In every thread.
__device__ uint64_t largestOfBlock(uint64_t key, Shared &shared) {
  key = largestOfWarp(key);
  __syncthreads(); // what was here has been read
  if (threadIdx.x % warpSize == 0)
    shared.keys[threadIdx.x / warpSize] = key;
  __syncthreads();
  const int lane = threadIdx.x % warpSize;
  return largestOfWarp(lane < warps ? shared.keys[lane] : 0);
}

/// At the end: no block leaves while another reads its memory. Nothing is handed over.
__device__ inline void leaveCluster() {
  asm volatile("barrier.cluster.arrive.relaxed;\nbarrier.cluster.wait;" ::: "memory");
}

/// The columns of one block, of one output; NaN as -inf.
struct Part {
  static constexpr int batch = 16;
  const float *row;
  int begin, end;

  __device__ float at(int64_t column) const { return fmaxf(row[column], -INFINITY); }

  /// f(first, x) for this thread's share, in batches whose loads are under way at once: x[i] is the logit of column
  /// first + i * threads, -inf where that is behind the end.
  template <class F> __device__ void forEachBatch(F f) const {
    for (int first = begin + int(threadIdx.x); first < end; first += batch * threads) {
      float x[batch];
#pragma unroll
      for (int i = 0; i < batch; ++i)
        x[i] = first + i * threads < end ? row[first + i * threads] : -INFINITY;
#pragma unroll
      for (int i = 0; i < batch; ++i)
        x[i] = fmaxf(x[i], -INFINITY);
      f(first, x);
    }
  }

  /// f(column, logit).
  template <class F> __device__ void forEach(F f) const {
    forEachBatch([&](int first, const float (&x)[batch]) {
#pragma unroll
      for (int i = 0; i < batch; ++i)
        if (first + i * threads < end)
          f(first + i * threads, x[i]);
    });
  }

  /// The key of this thread's largest; 0: it has none.
  __device__ uint64_t largest() const {
    int column = begin + int(threadIdx.x);
    if (column >= end)
      return 0;
    float value = -INFINITY;
    forEachBatch([&](int first, const float (&x)[batch]) {
#pragma unroll
      for (int i = 0; i < batch; ++i)
        if (x[i] > value)
          column = first + i * threads, value = x[i];
    });
    return keyOf(column, value);
  }
};

__global__ void __launch_bounds__(threads, 2)
    topCandidatesKernel(const float *logits, int64_t width, int valid, int64_t firstId, int count,
                        const SamplingRow *sampling, const uint64_t *parts, int64_t partCount, int capacity,
                        Candidate *out) {
  extern __shared__ uint64_t list[]; // capacity, a power of 2
  __shared__ Shared shared;
  letNextStart();
  waitForPrevious();
  const cg::cluster_group cluster = cg::this_cluster();
  const int block = int(cluster.block_rank()), thread = int(threadIdx.x), lane = thread % warpSize;
  const int64_t r = blockIdx.x / blocksPerRow;
  const SamplingRow request = sampling[r];
  const bool greedy = isGreedy(request), isFirst = block == 0 && thread == 0;
  const int share = (valid + blocksPerRow - 1) / blocksPerRow;
  const Part part{logits + r * width, min(block * share, valid), min((block + 1) * share, valid)};
  auto candidate = [&](uint64_t key) { return Candidate{part.at(columnOf(key)), float(firstId + columnOf(key))}; };

  out += r * (count + 2);
  const int filled = greedy ? min(count, min(valid, 1)) : min(count, valid);
  for (int i = filled + block * threads + thread; i < count; i += blocksPerRow * threads)
    out[i] = noCandidate;

  uint64_t own = 0;
  if (!parts || !greedy)
    own = part.largest();
  else if (block == 0)
    for (int64_t i = thread; i < partCount; i += threads)
      own = max(own, parts[r * partCount + i]);
  const uint64_t largest = largestOfBlock(own, shared);
  // Of the threads' largest logits so many as are this block's share of the wanted ones.
  const int size = part.end - part.begin, wanted = min(count, size);
  const int ofBlock = (count + blocksPerRow - 1) / blocksPerRow;
  uint64_t bound = count > 0 ? 0 : ~uint64_t(0);
  if (!greedy && count > 0 && ofBlock <= min(size, threads))
    bound = selectKey<threads>([&](auto f) { f(own); }, ofBlock, ofBlock / 4, shared.selection);
  if (thread == 0) {
    shared.found.largest = largest;
    shared.found.bound = bound;
  }
  cluster.sync();
  uint64_t top = 0, last = ~uint64_t(0);
  for (int b = 0; b < blocksPerRow; ++b) {
    const Found &found = cluster.map_shared_rank(&shared, b)->found;
    top = max(top, found.largest);
    last = min(last, found.bound);
  }
  if (greedy || top == 0) {
    if (isFirst) {
      if (filled > 0)
        out[0] = candidate(top);
      out[count] = noCandidate;
      out[count + 1] = {-INFINITY, 0.0f};
    }
    leaveCluster();
    return;
  }

  // What a logit needs of noise to be the largest of the perturbed, as seen from the threads' largest logits: only few
  // have as much, and the logarithms are what costs.
  const GumbelNoise noise(request);
  auto perturb = [&](int64_t column, float logit) {
    const float perturbed = logit / request.temperature + noise(uint32_t(firstId + column));
    return perturbed > -INFINITY ? keyOf(column, perturbed) : 0; // neither what cannot be drawn nor NaN
  };
  uint64_t best = largestOfBlock(own == 0 ? 0 : perturb(columnOf(own), valueOf(own)), shared);
  const float maximum = valueOf(top) / request.temperature, least = best == 0 ? -INFINITY : valueOf(best);
  const float margin = 1e-3f + 1e-6f * fabsf(maximum); // more than all that is rounded
  const float enough = expf(maximum - least + margin) * 0x1p32f;
  const float scale = 1.44269504f / request.temperature; // of powers of 2

  if (thread == 0)
    shared.taken = 0;
  __syncthreads();
  // All are looked at where quotients overflow, or where `last` is below the code of -inf and so of no number.
  const bool all = maximum == INFINITY || last >> columnBits <= ordered(-INFINITY);
  const float lastValue = all ? -INFINITY : valueOf(last);
  auto take = [&](int column, float x) {
    if (const uint64_t key = keyOf(column, x); key >= last)
      if (const unsigned at = atomicAdd(&shared.taken, 1u); at < unsigned(capacity))
        list[at] = key;
  };
  float sum = 0.0f;
  part.forEachBatch([&](int first, const float (&x)[Part::batch]) {
    unsigned chosen = 0; // to be listed, or perhaps the largest of the perturbed
#pragma unroll
    for (int i = 0; i < Part::batch; ++i) {
      const float e = exp2Of((x[i] - valueOf(top)) * scale);
      if (e > 0.0f) // not NaN, of -inf at an infinite temperature
        sum += e;
      const bool mayWin = noise.mayBeBelow(uint32_t(firstId + first + i * threads), __float2uint_ru(e * enough));
      chosen |= unsigned(int(x[i] >= lastValue) | int(mayWin)) << i;
    }
    for (; chosen != 0; chosen &= chosen - 1)
      if (const int column = first + (__ffs(int(chosen)) - 1) * threads; column < part.end) {
        const float logit = part.at(column);
        take(column, logit);
        best = max(best, perturb(column, logit));
      }
  });
  sum = reduceWarp(sum, Plus());
  if (lane == 0)
    shared.sums[thread / warpSize] = sum;
  best = largestOfBlock(best, shared);
  if (thread < warpSize)
    sum = reduceWarp(lane < warps ? shared.sums[lane] : 0.0f, Plus());
  int taken = int(shared.taken);
  if (taken > capacity) { // the largest are in this part, or in the shares of few threads
    last = selectKey<threads>([&](auto f) { part.forEach([&](int i, float x) { f(keyOf(i, x)); }); }, wanted,
                              capacity - wanted, shared.selection);
    if (thread == 0)
      shared.taken = 0;
    __syncthreads();
    part.forEach(take);
    __syncthreads();
    taken = int(shared.taken);
  }
  int padded = leastSorted;
  while (padded < taken)
    padded *= 2;
  for (int i = taken + thread; i < padded; i += threads)
    list[i] = 0;
  __syncthreads();
  sortKeys<threads>(list, padded);
  if (thread == 0) {
    shared.found.perturbed = best;
    shared.found.sum = sum;
    shared.found.listed = min(taken, wanted);
  }
  cluster.sync();

  // A thread searches one of the lists for one of this block's keys.
  const int searched = thread % blocksPerRow;
  const uint64_t *other = cluster.map_shared_rank(list, searched);
  const int listed = cluster.map_shared_rank(&shared, searched)->found.listed, keys = shared.found.listed;
  for (int first = 0; first < keys; first += threads / blocksPerRow) {
    const int i = first + thread / blocksPerRow;
    const uint64_t key = i < keys ? list[i] : 0;
    int place = 0;
    for (int step = capacity; step > 0; step /= 2)
      if (place + step <= listed && other[place + step - 1] > key)
        place += step;
    for (int offset = blocksPerRow / 2; offset > 0; offset /= 2)
      place += __shfl_xor_sync(allLanes, place, offset);
    if (searched == 0 && i < keys && place < filled)
      out[place] = candidate(key);
  }
  if (isFirst) {
    for (int b = 1; b < blocksPerRow; ++b) {
      const Found &other = cluster.map_shared_rank(&shared, b)->found;
      best = max(best, other.perturbed);
      sum += other.sum;
    }
    out[count] = best == 0 ? noCandidate : Candidate{valueOf(best), float(firstId + columnOf(best))};
    out[count + 1] = {maximum > -INFINITY ? maximum + logf(sum) : -INFINITY, 0.0f};
  }
  leaveCluster();
}

} // namespace

cudaError_t topCandidates(const float *logits, int64_t rows, int64_t width, int64_t valid, int64_t firstId,
                          int64_t count, const SamplingRow *sampling, float *out, cudaStream_t stream,
                          const uint64_t *best, int64_t bestCount) {
  if (count < 0 || count > maxCandidates || firstId < 0 || firstId + valid > int64_t(1) << columnBits)
    return cudaErrorInvalidValue;
  if (rows <= 0)
    return cudaSuccess;
  valid = std::max<int64_t>(0, valid);
  const int64_t list = std::max<int64_t>(threads, std::min(count, divideUp(valid, blocksPerRow)));
  const int capacity = int(std::bit_ceil(uint64_t(list)));
  constexpr int mostBytes = int(std::bit_ceil(uint64_t(maxCandidates)) * sizeof(uint64_t));
  if (const cudaError_t error = prepareStage<topCandidatesKernel>(mostBytes); error != cudaSuccess)
    return error;
  return launchOverlapped(stream, topCandidatesKernel, dim3(unsigned(rows * blocksPerRow)), threads,
                          capacity * sizeof(uint64_t), blocksPerRow, logits, width, int(valid), firstId, int(count),
                          sampling, best, bestCount, capacity, reinterpret_cast<Candidate *>(out));
}

} // namespace distc::cuda
