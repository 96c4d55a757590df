// Attention of one row a sequence over a paged cache. A cluster of blocks has one token and up to eight query heads of
// one KV head; its warps take tiles of 32, 16 or 8 positions in turn, through a small ring of their own in shared
// memory. Both products are done by the tensor cores: scores with the query heads as the operand of 16 rows and the
// positions as that of 8 columns, whose result is the operand of 8 columns of values^T x weights. Softmax is online;
// the states of warps meet in shared memory, those of blocks are pushed through the cluster to whoever finishes an
// element. All but the last position stand in the cache before the stage before this one begins, so their copies do not
// wait for it.
#include "distc/kernels/CudaStage.h"
#include "kernels/cuda/Softmax.cuh"
#include "kernels/cuda/Stage.cuh"
#include "kernels/cuda/TensorMap.h"

#include <cooperative_groups.h>

#include <utility>

namespace distc::cuda {
namespace {

namespace cg = cooperative_groups;

constexpr int warps = 8;
constexpr int threads = warps * warpSize;
constexpr int maxCluster = 8;
constexpr int queriesPerPass = 8;
constexpr int maxHeadDim = 256;
constexpr int rowBytes = 128;       // of a box: 64 elements, swizzled
constexpr int slotBytes = 8 * 1024; // a tile's keys and values, of every form
constexpr int slots = 3;            // of a warp's ring
constexpr int ringBytes = warps * slots * slotBytes;
constexpr int boxElements = rowBytes / 2;

/// Positions of a tile: many, so that one's latencies hide another's; of long heads fewer, so that the ring still has
/// several tiles.
template <int Boxes> constexpr int tilePositions = Boxes == 1 ? 32 : Boxes == 2 ? 16 : 8;
template <int Boxes> constexpr int copied = copyPositions(Boxes * boxElements);

struct Arguments {
  CUtensorMap map; // the cache as rows of headDim elements, in boxes of copyPositions
  const void *q;
  KvView cache;
  AttentionParams params;
  BatchView batch;
  void *out;
  int passes; // clusters for the query heads of one KV head
};

struct Shared {
  uint64_t full[warps][slots];
  float maxima[warps][queriesPerPass], totals[warps][queriesPerPass];
  // From all blocks of the cluster
  float2 states[maxCluster][queriesPerPass]; // maximum, total
  float parts[queriesPerPass * maxHeadDim + maxCluster];
};

/// Of eight positions, column i of a product is position positionOf(i): so the rows that lanes read at once have their
/// swizzled chunks in different banks.
__device__ inline int positionOf(int i) { return i % 2 * 4 + i / 2; }

/// Boxes: of 64 elements, in a head.
template <class T, int Boxes>
__global__ void __launch_bounds__(threads, 1) decodeAttentionKernel(const __grid_constant__ Arguments a) {
  constexpr int positions = tilePositions<Boxes>, groups = positions / 8, copies = positions / copied<Boxes>;
  constexpr int planeBytes = Boxes * positions * rowBytes;
  static_assert(2 * planeBytes == slotBytes);
  constexpr int chunks = Boxes * 2;      // of 32 elements
  constexpr int valueTiles = Boxes * 4;  // of 16 elements
  unsigned char *ring = dynamicShared(); // then Shared
  Shared &shared = *reinterpret_cast<Shared *>(ring + ringBytes);
  letNextStart();
  const cg::cluster_group cluster = cg::this_cluster();
  auto started = cluster.barrier_arrive();
  const int blocks = int(cluster.num_blocks()), rank = int(cluster.block_rank());
  const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
  const int group = lane / 4, quad = lane % 4;
  const int headDim = int(a.cache.headDim), heads = int(a.params.heads), kvHeads = int(a.cache.heads);
  const int item = int(blockIdx.x) / blocks, pass = item % a.passes, kvHead = item / a.passes % kvHeads;
  const int64_t token = item / a.passes / kvHeads;
  const int perKvHead = heads / kvHeads, firstQuery = kvHead * perKvHead + pass * queriesPerPass;
  const int queries = min(queriesPerPass, perKvHead - pass * queriesPerPass);
  const int last = a.batch.positions[token];
  const int32_t *table = a.batch.blockTables + a.batch.sequenceOf[token] * a.batch.blocksPerSequence;
  const int first = a.params.window > 0 ? max(0, last - int(a.params.window) + 1) : 0;
  const int lastTile = last / positions, stride = blocks * warps;
  const int firstTile = first / positions + rank * warps + warp;
  const int count = firstTile > lastTile ? 0 : (lastTile - firstTile) / stride + 1; // of this warp
  const int blockTokens = int(a.cache.blockTokens);
  const uint32_t own = sharedAddress(ring) + warp * slots * slotBytes;
  if (lane == 0) {
    for (int i = 0; i < slots; ++i)
      initBarrier(&shared.full[warp][i], 1);
    fenceBarriers();
  }
  __syncwarp();

  // Tile k of this warp goes to slot k % slots. Lane i has the map's row of the keys of copy i, for 32 at a time: the
  // divisions of all are done at once.
  int rows = 0;
  const auto rowOfCopy = [&](int i) { // behind the last there may be no block
    const int position = min((firstTile + i / copies * stride) * positions + i % copies * copied<Boxes>,
                             last / copied<Boxes> * copied<Boxes>);
    const int entry = position / blockTokens;
    return (table[entry] * 2 * kvHeads + kvHead) * blockTokens + position - entry * blockTokens;
  };
  const auto issue = [&](int k, int slot) {
    if (k * copies % warpSize == 0)
      rows = rowOfCopy(k * copies + lane);
    if (firstTile + k * stride == lastTile) // the last position's key and value are written by the stage before
      waitForPrevious();
    uint64_t *full = &shared.full[warp][slot];
    if (lane == 0)
      arriveExpecting(full, slotBytes);
#pragma unroll
    for (int j = 0; j < copies; ++j) {
      const int row = __shfl_sync(allLanes, rows, (k * copies + j) % warpSize);
      if (lane == 0) {
#pragma unroll
        for (int plane = 0; plane < 2; ++plane)
#pragma unroll
          for (int box = 0; box < Boxes; ++box)
            copyBox(own + slot * slotBytes + plane * planeBytes + (box * positions + j * copied<Boxes>)*rowBytes,
                    &a.map, box * boxElements, row + plane * kvHeads * blockTokens, full);
      }
    }
  };
  for (int k = 0; k < min(count, slots); ++k)
    issue(k, k);
  waitForPrevious();

  uint4 q[chunks];
#pragma unroll
  for (int i = 0; i < chunks; ++i) {
    const int element = i * 32 + quad * packElements;
    q[i] = group < queries && element < headDim
               ? loadFresh16(static_cast<const T *>(a.q) + (token * heads + firstQuery + group) * headDim + element)
               : make_uint4(0, 0, 0, 0);
  }
  float maximum = -INFINITY, total = 0; // of query head `group`; total: of this lane's positions
  float sum[valueTiles][4] = {};        // elements group and group + 8 of 16, of query heads 2 quad and 2 quad + 1
  int slot = 0;
  uint32_t parity = 0;
  for (int k = 0; k < count; ++k) {
    const int base = (firstTile + k * stride) * positions;
    const uint32_t keys = own + slot * slotBytes, values = keys + planeBytes;
    waitBarrier(&shared.full[warp][slot], parity);
    if (base + positions > last + 1) { // what lies behind the last position may be anything, and 0 * NaN is not 0
      for (int i = lane; i < (base + positions - last - 1) * Boxes * 8; i += warpSize) {
        const int row = last + 1 - base + i / 8 / Boxes, box = i / 8 % Boxes;
        storeShared16(values + box * positions * rowBytes + row * rowBytes + i % 8 * 16, make_uint4(0, 0, 0, 0));
      }
      __syncwarp();
    }
    float score[groups][2];
    float highest = maximum;
#pragma unroll
    for (int n = 0; n < groups; ++n) {
      const int row = n * 8 + positionOf(group);
      float c[4] = {};
#pragma unroll
      for (int i = 0; i < chunks; ++i) {
        uint4 key = loadShared16(keys + i / 2 * positions * rowBytes + row * rowBytes +
                                 (((i % 2 * 4 + quad) ^ (row % 8)) * 16));
        if (i * 32 + quad * packElements >= headDim)
          key = make_uint4(0, 0, 0, 0);
        multiply<T>(c, q[i].x, 0, q[i].y, 0, key.x, key.y);
        multiply<T>(c, q[i].z, 0, q[i].w, 0, key.z, key.w);
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int position = base + n * 8 + positionOf(2 * quad + j);
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
    uint32_t weights[groups < 2 ? 2 : groups] = {};
#pragma unroll
    for (int n = 0; n < groups; ++n) {
      const float w0 = factor(score[n][0], maximum), w1 = factor(score[n][1], maximum);
      total += w0 + w1;
      weights[n] = Pair<T>::fromFloats(w0, w1);
    }
    const float correction0 = __shfl_sync(allLanes, correction, quad * 8);
    const float correction1 = __shfl_sync(allLanes, correction, quad * 8 + 4);
    // Rows of the four matrices: of 16 positions the first and second eight, of the first and second 8 elements.
    const int matrix = lane / 8, row = (groups > 1 ? matrix / 2 * 8 : 0) + positionOf(lane % 8);
#pragma unroll
    for (int i = 0; i < valueTiles; ++i) {
      const int chunk = i % 4 * 2 + matrix % 2;
      sum[i][0] *= correction0;
      sum[i][1] *= correction1;
      sum[i][2] *= correction0;
      sum[i][3] *= correction1;
#pragma unroll
      for (int n = 0; n < groups; n += 2) {
        const uint4 v =
            loadTransposed(values + (i / 4 * positions + n * 8 + row) * rowBytes + ((chunk ^ (row % 8)) * 16));
        multiply<T>(sum[i], v.x, v.y, groups > 1 ? v.z : 0, groups > 1 ? v.w : 0, weights[n], weights[n + 1]);
      }
    }
    __syncwarp();
    if (k + slots < count)
      issue(k + slots, slot);
    if (++slot == slots) {
      slot = 0;
      parity ^= 1;
    }
  }

  // Lanes of a warp, then warps: a warp's sums take the place of its own tiles.
  const int pitch = headDim + 4;
  float *sums = reinterpret_cast<float *>(ring + warp * slots * slotBytes);
  total += __shfl_xor_sync(allLanes, total, 1);
  total += __shfl_xor_sync(allLanes, total, 2);
  if (quad == 0) {
    shared.maxima[warp][group] = maximum;
    shared.totals[warp][group] = total;
  }
#pragma unroll
  for (int i = 0; i < valueTiles; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int element = i * 16 + j / 2 * 8 + group, query = 2 * quad + j % 2;
      if (element < headDim && query < queries)
        sums[query * pitch + element] = sum[i][j];
    }
  __syncthreads();
  cluster.barrier_wait(std::move(started)); // all blocks are there
  const int elements = queries * headDim, share = (elements + blocks - 1) / blocks;
  for (int i = threadIdx.x; i < elements; i += threads) {
    const int h = i / headDim;
    float highest = -INFINITY, all = 0, v = 0;
#pragma unroll
    for (int w = 0; w < warps; ++w)
      highest = fmaxf(highest, shared.maxima[w][h]);
#pragma unroll
    for (int w = 0; w < warps; ++w) {
      const float weight = factor(shared.maxima[w][h], highest);
      all = fmaf(weight, shared.totals[w][h], all);
      v = fmaf(weight, reinterpret_cast<float *>(ring + w * slots * slotBytes)[h * pitch + i % headDim], v);
    }
    *cluster.map_shared_rank(&shared.parts[rank * share + i % share], i / share) = v;
    if (const int to = i % headDim; to < blocks)
      *cluster.map_shared_rank(&shared.states[rank][h], to) = make_float2(highest, all);
  }
  cluster.sync();
  for (int i = threadIdx.x; i < share && rank * share + i < elements; i += threads) {
    const int h = (rank * share + i) / headDim;
    float highest = -INFINITY, all = 0, v = 0;
#pragma unroll
    for (int b = 0; b < maxCluster; ++b)
      highest = fmaxf(highest, b < blocks ? shared.states[b][h].x : -INFINITY);
#pragma unroll
    for (int b = 0; b < maxCluster; ++b)
      if (b < blocks) {
        const float weight = factor(shared.states[b][h].x, highest);
        all = fmaf(weight, shared.states[b][h].y, all);
        v = fmaf(weight, shared.parts[b * share + i], v);
      }
    static_cast<T *>(a.out)[(token * heads + firstQuery) * headDim + rank * share + i] = fromFloat<T>(v / all);
  }
}

template <class T, int Boxes> cudaError_t launchBoxes(Arguments a, int64_t rows, int sms, cudaStream_t stream) {
  const Matrix cache{a.cache.data, a.cache.type, 1 << 30, a.cache.headDim, a.cache.headDim};
  if (const cudaError_t error = mapMatrix(cache, copied<Boxes>, a.map); error != cudaSuccess)
    return error;
  a.passes = int(divideUp(a.params.heads / a.cache.heads, queriesPerPass));
  const int64_t clusters = rows * a.cache.heads * a.passes;
  // At most half of the multiprocessors: the others already stream the weights of the next stage.
  int blocks = maxCluster;
  while (blocks > 1 && clusters * blocks * 2 > sms)
    blocks /= 2;
  const auto kernel = decodeAttentionKernel<T, Boxes>;
  if (const cudaError_t error = prepareStage<decodeAttentionKernel<T, Boxes>>(ringBytes + int(sizeof(Shared)));
      error != cudaSuccess)
    return error;
  return launchOverlapped(stream, kernel, dim3(unsigned(clusters * blocks)), threads,
                          size_t(warps) * slots * slotBytes + sizeof(Shared), blocks, a);
}

} // namespace

bool decodeAttentionSuits(Type q, const KvView &cache) {
  return q != Type::F32 && q == cache.type && cache.headDim % packElements == 0 && cache.headDim <= maxHeadDim &&
         cache.blockTokens % copyPositions(int(cache.headDim)) == 0 && aligned16(cache.data);
}

cudaError_t decodeAttention(In q, int64_t rows, const KvView &cache, const AttentionParams &params,
                            const BatchView &batch, int sms, Out out, cudaStream_t stream) {
  if (!decodeAttentionSuits(q.type, cache) || out.type != q.type || !aligned16(q.data) || cache.heads <= 0 ||
      params.heads % cache.heads != 0)
    return cudaErrorInvalidValue;
  if (rows <= 0)
    return cudaSuccess;
  Arguments a{{}, q.data, cache, params, batch, out.data, 1};
  a.params.window = windowOf(params);
  return withType(q.type, [&](auto element) {
    using T = decltype(element);
    if constexpr (std::is_same_v<T, float>) {
      return cudaErrorInvalidValue;
    } else {
      if (cache.headDim <= 64)
        return launchBoxes<T, 1>(a, rows, sms, stream);
      if (cache.headDim <= 128)
        return launchBoxes<T, 2>(a, rows, sms, stream);
      return launchBoxes<T, 4>(a, rows, sms, stream);
    }
  });
}

} // namespace distc::cuda
