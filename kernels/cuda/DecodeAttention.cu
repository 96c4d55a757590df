// Attention of one row a sequence over a paged cache. A cluster of blocks has one token and up to eight query heads of
// one KV head; its warps take groups of eight positions in turn, straight from memory into registers: scores on the
// tensor cores (the query heads are the operand of 16 rows, the positions that of 8 columns), weighted values lane by
// lane. Softmax is online; the states of warps meet in shared memory, those of blocks through the cluster. All but the
// last position stand in the cache before the stage before this one begins, so their loads do not wait for it.
#include "distc/kernels/CudaStage.h"
#include "kernels/cuda/Softmax.cuh"
#include "kernels/cuda/Stage.cuh"

#include <cooperative_groups.h>

#include <algorithm>

namespace distc::cuda {
namespace {

namespace cg = cooperative_groups;

constexpr int warps = 8;
constexpr int threads = warps * warpSize;
constexpr int maxCluster = 8;
constexpr int maxQueries = 8;
constexpr int groupPositions = 8;
constexpr int maxHeadDim = 256;

struct Arguments {
  const void *q;
  KvView cache;
  AttentionParams params;
  BatchView batch;
  void *out;
  int passes; // clusters for the query heads of one KV head
};

/// The tile of one warp: `Groups` groups of eight positions. Lanes: as many as a head has eight elements are a row.
template <class T, int RowLanes, int Queries> struct Shape {
  static constexpr int keyLoads = RowLanes * packElements / 32; // of a lane: 8 of each 32 elements of its position
  static constexpr int rows = warpSize / RowLanes;              // positions that a warp reads values of at once
  static constexpr int valueLoads = groupPositions / rows;
  static constexpr int loads = keyLoads + valueLoads;
  // As many loads under way as registers allow beside the sums and q: there is one block on a multiprocessor.
  static constexpr int room = (170 - Queries * packElements - keyLoads * 4) / (loads * 4);
  static constexpr int groups = room < 1 ? 1 : room > 4 ? 4 : room;
};

template <class T, int RowLanes, int Queries>
__global__ void __launch_bounds__(threads, 1) decodeAttentionKernel(const __grid_constant__ Arguments a) {
  using S = Shape<T, RowLanes, Queries>;
  extern __shared__ __align__(16) float dynamic[]; // the warps' sums [warps][Queries][headDim], the block's after them
  __shared__ __align__(16) float weights[warps][S::groups][groupPositions][Queries];
  __shared__ __align__(16) float corrections[warps][Queries];
  __shared__ float maxima[warps][Queries], totals[warps][Queries];
  __shared__ float blockMaximum[Queries], blockTotal[Queries];
  letNextStart();
  const cg::cluster_group cluster = cg::this_cluster();
  const int blocks = int(cluster.num_blocks()), rank = int(cluster.block_rank());
  const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
  const int group = lane / 4, quad = lane % 4;             // for keys: position, elements
  const int row = lane / RowLanes, part = lane % RowLanes; // for values
  const int headDim = int(a.cache.headDim), heads = int(a.params.heads), kvHeads = int(a.cache.heads);
  const int item = int(blockIdx.x) / blocks, pass = item % a.passes, kvHead = item / a.passes % kvHeads;
  const int64_t token = item / a.passes / kvHeads;
  const int perKvHead = heads / kvHeads, firstQuery = kvHead * perKvHead + pass * Queries;
  const int queries = min(Queries, perKvHead - pass * Queries);

  const int last = a.batch.positions[token];
  const int first = a.params.window > 0 ? max(0, last - int(a.params.window) + 1) : 0;
  const int lastGroup = last / groupPositions;
  const int stride = blocks * warps, blockTokens = int(a.cache.blockTokens);
  int next = first / groupPositions + rank * warps + warp;
  const int32_t *table = a.batch.blockTables + a.batch.sequenceOf[token] * a.batch.blocksPerSequence;
  const int64_t plane = int64_t(kvHeads) * blockTokens * headDim;
  const auto keyAt = [&](int position) {
    position = min(max(position, first), last); // a block behind the last may not exist
    const int64_t block = table[position / blockTokens];
    return static_cast<const T *>(a.cache.data) + block * 2 * plane +
           (int64_t(kvHead) * blockTokens + position % blockTokens) * headDim;
  };

  uint4 key[S::groups][S::keyLoads], value[S::groups][S::valueLoads];
  const auto load = [&] {
#pragma unroll
    for (int n = 0; n < S::groups; ++n) {
      const int base = (next + n * stride) * groupPositions;
      if (base > last)
        continue;
      const T *k = keyAt(base + group);
#pragma unroll
      for (int i = 0; i < S::keyLoads; ++i) {
        const int element = i * 32 + quad * packElements;
        key[n][i] = element < headDim ? loadFresh16(k + element) : make_uint4(0, 0, 0, 0);
      }
#pragma unroll
      for (int i = 0; i < S::valueLoads; ++i)
        value[n][i] = part * packElements < headDim
                          ? loadFresh16(keyAt(base + i * S::rows + row) + plane + part * packElements)
                          : make_uint4(0, 0, 0, 0);
    }
  };
  // The last position's key and value are written by the stage before.
  if (next + (S::groups - 1) * stride >= lastGroup)
    waitForPrevious();

  uint4 q[S::keyLoads];
  float maximum = -INFINITY, total = 0; // of query head `group`; total: of this lane's positions
  float sum[Queries][packElements] = {};
  for (bool begun = false; next <= lastGroup; next += S::groups * stride) {
    load();
    if (!begun) {
      begun = true;
      waitForPrevious();
#pragma unroll
      for (int i = 0; i < S::keyLoads; ++i) {
        const int element = i * 32 + quad * packElements;
        q[i] = group < queries && element < headDim
                   ? loadFresh16(static_cast<const T *>(a.q) + (token * heads + firstQuery + group) * headDim + element)
                   : make_uint4(0, 0, 0, 0);
      }
    }
    float score[S::groups][2];
    float highest = maximum;
#pragma unroll
    for (int n = 0; n < S::groups; ++n) {
      float c[4] = {};
#pragma unroll
      for (int i = 0; i < S::keyLoads; ++i) {
        multiply<T>(c, q[i].x, 0, q[i].y, 0, key[n][i].x, key[n][i].y);
        multiply<T>(c, q[i].z, 0, q[i].w, 0, key[n][i].z, key[n][i].w);
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int position = (next + n * stride) * groupPositions + 2 * quad + j;
        float s = c[j] * a.params.scale;
        if (a.params.softCap > 0)
          s = a.params.softCap * tanhf(s / a.params.softCap);
        score[n][j] = position >= first && position <= last ? s : -INFINITY;
        highest = fmaxf(highest, score[n][j]);
      }
    }
    highest = fmaxf(highest, __shfl_xor_sync(allLanes, highest, 1));
    highest = fmaxf(highest, __shfl_xor_sync(allLanes, highest, 2));
    const float correction = factor(maximum, highest);
    maximum = highest;
    total *= correction;
    if (group < Queries && quad == 0)
      corrections[warp][group] = correction;
#pragma unroll
    for (int n = 0; n < S::groups; ++n)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float weight = factor(score[n][j], maximum);
        total += weight;
        if (group < Queries)
          weights[warp][n][2 * quad + j][group] = weight;
      }
    __syncwarp();
#pragma unroll
    for (int h = 0; h < Queries; ++h)
#pragma unroll
      for (int e = 0; e < packElements; ++e)
        sum[h][e] *= corrections[warp][h];
#pragma unroll
    for (int n = 0; n < S::groups; ++n) {
      if ((next + n * stride) > lastGroup)
        continue; // nothing was loaded
#pragma unroll
      for (int i = 0; i < S::valueLoads; ++i) {
        const uint32_t raw[4] = {value[n][i].x, value[n][i].y, value[n][i].z, value[n][i].w};
        float2 v[4];
#pragma unroll
        for (int e = 0; e < 4; ++e)
          v[e] = Pair<T>::toFloats(raw[e]);
#pragma unroll
        for (int h = 0; h < Queries; ++h) {
          const float weight = weights[warp][n][i * S::rows + row][h];
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            sum[h][2 * e] = fmaf(weight, v[e].x, sum[h][2 * e]);
            sum[h][2 * e + 1] = fmaf(weight, v[e].y, sum[h][2 * e + 1]);
          }
        }
      }
    }
    __syncwarp(); // before weights are written again
  }

  // Lanes of a warp, then warps.
  total += __shfl_xor_sync(allLanes, total, 1);
  total += __shfl_xor_sync(allLanes, total, 2);
  if (group < Queries && quad == 0) {
    maxima[warp][group] = maximum;
    totals[warp][group] = total;
  }
#pragma unroll
  for (int h = 0; h < Queries; ++h)
#pragma unroll
    for (int e = 0; e < packElements; ++e) {
#pragma unroll
      for (int offset = RowLanes; offset < warpSize; offset *= 2)
        sum[h][e] += __shfl_xor_sync(allLanes, sum[h][e], offset);
      if (row == 0 && part * packElements < headDim)
        dynamic[(warp * Queries + h) * headDim + part * packElements + e] = sum[h][e];
    }
  __syncthreads();
  float *blockSum = dynamic + warps * Queries * headDim;
  for (int i = threadIdx.x; i < queries * headDim; i += threads) {
    const int h = i / headDim;
    float highest = -INFINITY, all = 0, v = 0;
#pragma unroll
    for (int w = 0; w < warps; ++w)
      highest = fmaxf(highest, maxima[w][h]);
#pragma unroll
    for (int w = 0; w < warps; ++w) {
      const float weight = factor(maxima[w][h], highest);
      all = fmaf(weight, totals[w][h], all);
      v = fmaf(weight, dynamic[w * Queries * headDim + i], v);
    }
    blockSum[i] = v;
    if (i % headDim == 0) {
      blockMaximum[h] = highest;
      blockTotal[h] = all;
    }
  }

  // Each block merges all blocks' states for its share of the elements.
  cluster.sync();
  for (int i = rank * threads + int(threadIdx.x); i < queries * headDim; i += blocks * threads) {
    const int h = i / headDim;
    float highest = -INFINITY, all = 0, v = 0;
    for (int b = 0; b < blocks; ++b)
      highest = fmaxf(highest, *cluster.map_shared_rank(&blockMaximum[h], b));
    for (int b = 0; b < blocks; ++b) {
      const float weight = factor(*cluster.map_shared_rank(&blockMaximum[h], b), highest);
      all = fmaf(weight, *cluster.map_shared_rank(&blockTotal[h], b), all);
      v = fmaf(weight, *cluster.map_shared_rank(&blockSum[i], b), v);
    }
    static_cast<T *>(a.out)[(token * heads + firstQuery) * headDim + i] = fromFloat<T>(v / all);
  }
  cluster.sync(); // no block leaves while another reads its memory
}

template <class T, int RowLanes, int Queries>
cudaError_t launchShape(Arguments a, int64_t rows, int sms, cudaStream_t stream) {
  const int64_t group = a.params.heads / a.cache.heads;
  a.passes = int(divideUp(group, Queries));
  const int64_t clusters = rows * a.cache.heads * a.passes;
  int blocks = maxCluster;
  while (blocks > 1 && clusters * blocks > sms)
    blocks /= 2;
  const size_t shared = size_t(warps + 1) * Queries * a.cache.headDim * sizeof(float);
  constexpr int most = (warps + 1) * Queries * RowLanes * packElements * int(sizeof(float));
  if (const cudaError_t error = prepareStage<decodeAttentionKernel<T, RowLanes, Queries>>(most); error != cudaSuccess)
    return error;
  return launchOverlapped(stream, decodeAttentionKernel<T, RowLanes, Queries>, dim3(unsigned(clusters * blocks)),
                          threads, shared, blocks, a);
}

template <class T, int RowLanes>
cudaError_t launchQueries(const Arguments &a, int64_t rows, int sms, cudaStream_t stream) {
  const int64_t group = a.params.heads / a.cache.heads;
  if (group == 1)
    return launchShape<T, RowLanes, 1>(a, rows, sms, stream);
  if (group == 2)
    return launchShape<T, RowLanes, 2>(a, rows, sms, stream);
  if (group <= 4)
    return launchShape<T, RowLanes, 4>(a, rows, sms, stream);
  return launchShape<T, RowLanes, maxQueries>(a, rows, sms, stream);
}

} // namespace

bool decodeAttentionSuits(Type q, const KvView &cache) {
  return q != Type::F32 && q == cache.type && cache.headDim % packElements == 0 && cache.headDim <= maxHeadDim &&
         aligned16(cache.data);
}

cudaError_t decodeAttention(In q, int64_t rows, const KvView &cache, const AttentionParams &params,
                            const BatchView &batch, int sms, Out out, cudaStream_t stream) {
  if (!decodeAttentionSuits(q.type, cache) || out.type != q.type || !aligned16(q.data) || cache.heads <= 0 ||
      params.heads % cache.heads != 0)
    return cudaErrorInvalidValue;
  if (rows <= 0)
    return cudaSuccess;
  const Arguments a{q.data, cache, params, batch, out.data, 1};
  return withType(q.type, [&](auto element) {
    using T = decltype(element);
    if constexpr (std::is_same_v<T, float>) {
      return cudaErrorInvalidValue;
    } else {
      if (cache.headDim <= 64)
        return launchQueries<T, 8>(a, rows, sms, stream);
      if (cache.headDim <= 128)
        return launchQueries<T, 16>(a, rows, sms, stream);
      return launchQueries<T, 32>(a, rows, sms, stream);
    }
  });
}

} // namespace distc::cuda
