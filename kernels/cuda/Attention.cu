// Attention over a paged cache in one pass with online softmax (Milakov and Gimelshein, "Online normalizer calculation
// for softmax", 2018). A cluster of blocks has one token and up to eight query heads of one KV head. The smallest power
// of two of lanes that holds a head, eight elements each, is a team; a team has a state (maximum, total, weighted sum
// of values) of its own for each query head and takes every so-many-th position. The states are merged at the end:
// teams of a warp by shuffles, warps through shared memory, blocks through the cluster's. Positions count from the
// first that is attended to, so the bits do not depend on the size of a cache block nor on what else is in the call;
// products that meet in a sum are contracted by hand, the same way in every instantiation.
#include "kernels/cuda/Softmax.cuh"

#include <cooperative_groups.h>

#include <algorithm>

namespace distc::cuda {
namespace {

namespace cg = cooperative_groups;

constexpr int warps = 8;
constexpr int threads = warps * warpSize;
constexpr int maxHeadDim = 256;
constexpr int maxQueries = 8; // query heads of one cluster; more take further clusters
static_assert(maxHeadDim <= threads && maxHeadDim <= warpSize * packElements);

struct AttentionArguments {
  In q;
  KvView cache;
  AttentionParams params;
  BatchView batch;
  Out out;
  int passes; // clusters for the query heads of one KV head
};

/// The softmax over some positions: sum is relative to exp(maximum).
struct Part {
  float maximum = -INFINITY;
  float total = 0.0f;
};

/// A block's states of all query heads.
struct BlockState {
  Part part[maxQueries];
  float sum[maxQueries][maxHeadDim];
};

/// A lane's elements of the query heads, scaled; behind the last head, that again. All loads are issued before one is
/// waited for.
template <class A, int Queries>
__device__ inline void loadQueries(const A *from, int headDim, int queries, int n, float scale,
                                   float (&q)[Queries][packElements]) {
  Pack<A> packs[Queries];
#pragma unroll
  for (int g = 0; g < Queries; ++g)
    packs[g] = loadPack<false>(from + min(g, queries - 1) * headDim, n);
#pragma unroll
  for (int g = 0; g < Queries; ++g)
#pragma unroll
    for (int i = 0; i < packElements; ++i)
      q[g][i] = scale * toFloat(packs[g].e[i]);
}

template <class C, int Queries, bool Aligned>
__global__ void __launch_bounds__(threads, 1) attentionKernel(const AttentionArguments a) {
  constexpr int unroll = sizeof(C) == 4 ? 2 : 4; // positions of a team in flight
  const cg::cluster_group cluster = cg::this_cluster();
  const int rank = int(cluster.block_rank()), blocks = int(cluster.num_blocks());
  const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
  const int headDim = int(a.cache.headDim), blockTokens = int(a.cache.blockTokens);

  int64_t item = blockIdx.x / blocks;
  const int pass = int(item % a.passes);
  item /= a.passes;
  const int64_t kvHead = item % a.cache.heads, t = item / a.cache.heads;
  const int group = int(a.params.heads / a.cache.heads);
  const int64_t firstQuery = kvHead * group + pass * Queries;
  const int queries = min(Queries, group - pass * Queries);

  int team = 1; // lanes
  while (team * packElements < headDim)
    team *= 2;
  const int teams = warpSize / team;
  const int element = lane % team * packElements, n = headDim - element; // n <= 0: a lane without elements

  float q[Queries][packElements];
  const int64_t queryAt = (t * a.params.heads + firstQuery) * headDim + element;
  switch (a.q.type) {
  case Type::F16:
    loadQueries(static_cast<const __half *>(a.q.data) + queryAt, headDim, queries, n, a.params.scale, q);
    break;
  case Type::BF16:
    loadQueries(static_cast<const __nv_bfloat16 *>(a.q.data) + queryAt, headDim, queries, n, a.params.scale, q);
    break;
  default:
    loadQueries(static_cast<const float *>(a.q.data) + queryAt, headDim, queries, n, a.params.scale, q);
  }

  const int position = a.batch.positions[t];
  const int32_t *table = a.batch.blockTables + a.batch.sequenceOf[t] * a.batch.blocksPerSequence;
  // A lane without elements loads others', times a q of zeros.
  const C *cache = static_cast<const C *>(a.cache.data) + kvHead * blockTokens * headDim + (n > 0 ? element : 0);
  const int64_t plane = a.cache.heads * blockTokens * headDim; // from the keys of a block to its values
  const int first = a.params.window > 0 ? int(max(int64_t(0), position - a.params.window + 1)) : 0;

  Part part[Queries];
  float sum[Queries][packElements] = {};
  const int step = teams * unroll;
  for (int base = first + (rank * warps + warp) * step; base <= position; base += blocks * warps * step) {
    Pack<C> k[unroll], v[unroll];
    float score[Queries][unroll];
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      const int p = min(base + u * teams + lane / team, position);
      const C *slot = cache + table[p / blockTokens] * 2 * plane + p % blockTokens * headDim;
      k[u] = loadPack<Aligned>(slot, n);
      v[u] = loadPack<Aligned>(slot + plane, n);
    }
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      float key[packElements];
      toFloats(k[u], key);
#pragma unroll
      for (int g = 0; g < Queries; ++g) {
        score[g][u] = 0.0f;
#pragma unroll
        for (int i = 0; i < packElements; ++i)
          score[g][u] = fmaf(q[g][i], key[i], score[g][u]);
      }
    }
    // All sums at each offset: a sum alone would wait for every shuffle.
    for (int offset = team / 2; offset > 0; offset /= 2)
#pragma unroll
      for (int g = 0; g < Queries; ++g)
#pragma unroll
        for (int u = 0; u < unroll; ++u)
          score[g][u] += __shfl_xor_sync(allLanes, score[g][u], offset);
#pragma unroll
    for (int g = 0; g < Queries; ++g) {
      float maximum = part[g].maximum;
#pragma unroll
      for (int u = 0; u < unroll; ++u) {
        if (a.params.softCap > 0.0f)
          score[g][u] = a.params.softCap * tanhf(score[g][u] / a.params.softCap);
        if (base + u * teams + lane / team > position)
          score[g][u] = -INFINITY;
        maximum = fmaxf(maximum, score[g][u]);
      }
      const float correction = factor(part[g].maximum, maximum);
      float total = 0.0f;
#pragma unroll
      for (int u = 0; u < unroll; ++u) {
        score[g][u] = factor(score[g][u], maximum); // its weight from here on
        total += score[g][u];
      }
      part[g].maximum = maximum;
      part[g].total = fmaf(part[g].total, correction, total);
#pragma unroll
      for (int i = 0; i < packElements; ++i)
        sum[g][i] *= correction;
    }
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      float value[packElements];
      toFloats(v[u], value);
#pragma unroll
      for (int g = 0; g < Queries; ++g)
#pragma unroll
        for (int i = 0; i < packElements; ++i)
          sum[g][i] = fmaf(score[g][u], value[i], sum[g][i]);
    }
  }

  // The teams of a warp, then its first team to shared memory, a query head at a time.
  __shared__ Part warpPart[warps];
  __shared__ float warpSum[warps][maxHeadDim];
  __shared__ BlockState state;
#pragma unroll
  for (int g = 0; g < Queries; ++g) {
    for (int offset = team; offset < warpSize; offset *= 2) {
      const float other = __shfl_xor_sync(allLanes, part[g].maximum, offset);
      const float maximum = fmaxf(part[g].maximum, other);
      const float own = factor(part[g].maximum, maximum), its = factor(other, maximum);
      part[g].maximum = maximum;
      part[g].total = fmaf(part[g].total, own, __shfl_xor_sync(allLanes, part[g].total, offset) * its);
#pragma unroll
      for (int i = 0; i < packElements; ++i)
        sum[g][i] = fmaf(sum[g][i], own, __shfl_xor_sync(allLanes, sum[g][i], offset) * its);
    }
    if (lane < team) {
      if (lane == 0)
        warpPart[warp] = part[g];
#pragma unroll
      for (int i = 0; i < packElements; ++i)
        if (i < n)
          warpSum[warp][element + i] = sum[g][i];
    }
    __syncthreads();
    Part merged;
    for (const Part &p : warpPart)
      merged.maximum = fmaxf(merged.maximum, p.maximum);
    float value = 0.0f;
    for (int w = 0; w < warps; ++w) {
      const float weight = factor(warpPart[w].maximum, merged.maximum);
      merged.total = fmaf(weight, warpPart[w].total, merged.total);
      if (threadIdx.x < headDim)
        value = fmaf(weight, warpSum[w][threadIdx.x], value);
    }
    if (threadIdx.x == 0)
      state.part[g] = merged;
    if (threadIdx.x < headDim)
      state.sum[g][threadIdx.x] = value;
    __syncthreads();
  }

  // Each block merges the states of all blocks for its share of the query heads.
  cluster.sync();
  for (int g = rank; g < queries; g += blocks) {
    float maximum = -INFINITY, total = 0.0f, value = 0.0f;
    for (int b = 0; b < blocks; ++b)
      maximum = fmaxf(maximum, cluster.map_shared_rank(&state, b)->part[g].maximum);
    for (int b = 0; b < blocks; ++b) {
      const BlockState *remote = cluster.map_shared_rank(&state, b);
      const float weight = factor(remote->part[g].maximum, maximum);
      total = fmaf(weight, remote->part[g].total, total);
      if (threadIdx.x < headDim)
        value = fmaf(weight, remote->sum[g][threadIdx.x], value);
    }
    if (threadIdx.x < headDim)
      storeElement(a.out, (t * a.params.heads + firstQuery + g) * headDim + threadIdx.x, value / total);
  }
  cluster.sync(); // no block leaves while another reads its memory
}

template <class C, int Queries>
cudaError_t launchQueries(AttentionArguments a, int64_t rows, int64_t group, cudaStream_t stream) {
  a.passes = int(divideUp(group, Queries));
  const bool aligned = aligned16(a.cache.data) && a.cache.headDim % packElements == 0;
  return withBool(aligned, [&](auto vectors) {
    return launch(stream, attentionKernel<C, Queries, vectors.value>,
                  rows * a.cache.heads * a.passes * a.params.clusterBlocks, threads, size_t(0), a.params.clusterBlocks,
                  a);
  });
}

} // namespace

cudaError_t attention(In q, int64_t rows, const KvView &cache, const AttentionParams &params, const BatchView &batch,
                      Out out, cudaStream_t stream) {
  const int blocks = params.clusterBlocks;
  if (cache.headDim > maxHeadDim || cache.heads <= 0 || params.heads % cache.heads != 0 ||
      (blocks != 1 && blocks != 2 && blocks != 4 && blocks != 8))
    return cudaErrorInvalidValue;
  const int64_t group = params.heads / cache.heads;
  const AttentionArguments a{q, cache, params, batch, out, 1};
  return withType(cache.type, [&](auto element) {
    using C = decltype(element);
    if (group == 1)
      return launchQueries<C, 1>(a, rows, group, stream);
    if (group == 2)
      return launchQueries<C, 2>(a, rows, group, stream);
    if (group <= 4)
      return launchQueries<C, 4>(a, rows, group, stream);
    return launchQueries<C, maxQueries>(a, rows, group, stream);
  });
}

} // namespace distc::cuda
