// A block for each output. The largest logits are found by radix selection over unique keys (value, then id), so ties
// and the order of threads cannot matter: the key that `count` logits reach, those logits, and their ranks.
#include "kernels/cuda/Candidate.cuh"

#include <algorithm>

namespace distc::cuda {
namespace {

constexpr int threads = 1024;
constexpr int digitBits = 8;
constexpr int digits = 1 << digitBits;

/// The logits of one output; NaN as -inf.
struct Logits {
  const float *data;
  int64_t valid;
  int64_t firstId;

  /// f(column, logit) for this thread's share of the columns; several loads are under way at once.
  template <class F> __device__ void forEach(F f) const {
    constexpr int batch = 8;
    for (int64_t first = threadIdx.x; first < valid; first += batch * threads) {
      float x[batch];
#pragma unroll
      for (int i = 0; i < batch; ++i)
        x[i] = first + i * threads < valid ? data[first + i * threads] : 0.0f;
#pragma unroll
      for (int i = 0; i < batch; ++i)
        if (first + i * threads < valid)
          f(first + i * threads, isnan(x[i]) ? -INFINITY : x[i]);
    }
  }
  __device__ Candidate candidate(int64_t column) const {
    const float x = data[column];
    return {isnan(x) ? -INFINITY : x, float(firstId + column)};
  }
};

__device__ Candidate bestOfBlock(Candidate best, Candidate *shared) {
  best = bestOfWarp(best);
  if (threadIdx.x % warpSize == 0)
    shared[threadIdx.x / warpSize] = best;
  __syncthreads();
  best = bestOfWarp(shared[threadIdx.x % warpSize]);
  __syncthreads();
  return best;
}
static_assert(threads == warpSize * warpSize);

__device__ Candidate largest(const Logits &logits, Candidate *shared) {
  Candidate best = noCandidate;
  logits.forEach([&](int64_t i, float x) { best = better(best, {x, float(logits.firstId + i)}); });
  return bestOfBlock(best, shared);
}

/// The same from the largest keys of parts of the row; 0: a part without logits.
__device__ Candidate largestOf(const Logits &logits, const uint64_t *keys, int64_t count, Candidate *shared) {
  Candidate best = noCandidate;
  for (int64_t i = threadIdx.x; i < count; i += threads)
    if (keys[i] != 0)
      best = better(best, logits.candidate(columnOf(keys[i])));
  return bestOfBlock(best, shared);
}

/// The smallest key of the `count` largest, 0 < count < valid.
__device__ uint64_t select(const Logits &logits, int64_t count, unsigned *histogram) {
  __shared__ uint64_t chosen;
  __shared__ int64_t left;
  __shared__ bool whole;
  uint64_t prefix = 0;
  int64_t wanted = count; // of the keys that begin with prefix
  for (int shift = valueBits + columnBits - digitBits; shift >= 0; shift -= digitBits) {
    for (int i = threadIdx.x; i < digits; i += threads)
      histogram[i] = 0;
    __syncthreads();
    logits.forEach([&](int64_t i, float x) {
      if (const uint64_t key = keyOf(i, x); key >> (shift + digitBits) == prefix)
        atomicAdd(&histogram[(key >> shift) & (digits - 1)], 1u);
    });
    __syncthreads();
    if (threadIdx.x == 0) {
      int digit = digits - 1;
      int64_t rest = wanted;
      for (; rest > histogram[digit]; --digit)
        rest -= histogram[digit];
      chosen = prefix << digitBits | unsigned(digit);
      left = rest;
      whole = rest == histogram[digit];
    }
    __syncthreads();
    prefix = chosen;
    wanted = left;
    if (whole) // all keys with this prefix are wanted
      return prefix << shift;
    __syncthreads();
  }
  return prefix;
}

/// The `count` largest, in order; `count` <= valid.
__device__ void writeLargest(const Logits &logits, int64_t count, uint64_t *keys, unsigned *histogram, Candidate *out) {
  __shared__ unsigned taken;
  const uint64_t last = count < logits.valid ? select(logits, count, histogram) : 0;
  if (threadIdx.x == 0)
    taken = 0;
  __syncthreads();
  logits.forEach([&](int64_t i, float x) {
    if (const uint64_t key = keyOf(i, x); key >= last)
      keys[atomicAdd(&taken, 1u)] = key;
  });
  __syncthreads();
  for (int64_t i = threadIdx.x; i < count; i += threads) {
    int64_t rank = 0;
    for (int64_t j = 0; j < count; ++j)
      rank += keys[j] > keys[i];
    out[rank] = logits.candidate(columnOf(keys[i]));
  }
}

__global__ void __launch_bounds__(threads)
    topCandidatesKernel(const float *logits, int64_t width, int64_t valid, int64_t firstId, int64_t count,
                        const SamplingRow *sampling, const uint64_t *parts, int64_t partCount, Candidate *out) {
  extern __shared__ uint64_t keys[]; // count
  __shared__ unsigned histogram[digits];
  __shared__ Candidate candidates[warpSize];
  __shared__ float sums[warpSize];
  const Logits row{logits + blockIdx.x * width, valid, firstId};
  const SamplingRow request = sampling[blockIdx.x];
  out += blockIdx.x * (count + 2);
  const bool greedy = isGreedy(request);
  const int64_t filled = greedy ? 0 : min(count, max(valid, int64_t(0)));
  for (int64_t i = filled + threadIdx.x; i < count + 1; i += threads)
    out[i] = noCandidate;
  if (threadIdx.x == 0)
    out[count + 1] = {-INFINITY, 0.0f};
  if (valid <= 0)
    return;
  __syncthreads(); // before another thread writes one of these
  const Candidate top = greedy && parts ? largestOf(row, parts + blockIdx.x * partCount, partCount, candidates)
                                        : largest(row, candidates);
  if (greedy) {
    if (threadIdx.x == 0 && count > 0)
      out[0] = top;
    return;
  }
  if (filled > 0)
    writeLargest(row, filled, keys, histogram, out);

  const GumbelNoise noise(request);
  const float maximum = top.value / request.temperature;
  float sum = 0.0f;
  Candidate best = noCandidate;
  row.forEach([&](int64_t i, float x) {
    const float scaled = x / request.temperature;
    if (const float e = expf(scaled - maximum); e > 0.0f) // not NaN, of -inf at an infinite temperature
      sum += e;
    const float perturbed = scaled + noise(uint32_t(firstId + i));
    if (perturbed > -INFINITY) // neither what cannot be drawn nor NaN
      best = better(best, {perturbed, float(firstId + i)});
  });
  best = bestOfBlock(best, candidates);
  sum = reduceBlock(sum, sums, Plus());
  if (threadIdx.x == 0) {
    out[count] = best;
    out[count + 1].value = maximum > -INFINITY ? maximum + logf(sum) : -INFINITY;
  }
}

} // namespace

cudaError_t topCandidates(const float *logits, int64_t rows, int64_t width, int64_t valid, int64_t firstId,
                          int64_t count, const SamplingRow *sampling, float *out, cudaStream_t stream,
                          const uint64_t *best, int64_t bestCount) {
  if (count < 0 || count > maxCandidates || firstId < 0 || firstId + valid > int64_t(1) << columnBits)
    return cudaErrorInvalidValue;
  // Four more than are stored: the compiler moves the loads of an unrolled loop before the check of its end.
  const size_t sharedBytes = size_t(std::max<int64_t>(0, std::min(count, valid)) + 4) * sizeof(uint64_t);
  if (sharedBytes > 32 * 1024) // more than every kernel may use
    if (const cudaError_t error = cudaFuncSetAttribute(topCandidatesKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                       int((maxCandidates + 4) * sizeof(uint64_t)));
        error != cudaSuccess)
      return error;
  return launch(stream, topCandidatesKernel, rows, threads, sharedBytes, 1, logits, width, valid, firstId, count,
                sampling, best, bestCount, reinterpret_cast<Candidate *>(out));
}

} // namespace distc::cuda
