// Attention of many rows over a paged cache on Hopper's tensor cores, after FlashAttention-3 (Shah et al., 2024): a
// block has a tile of queries and walks the positions in tiles with online softmax. One warp group copies keys and
// values into a ring of shared memory, two multiply, 64 queries each; the scores of a tile are multiplied while the
// values of the one before are summed.
//
// The queries of a tile are all the query heads of one KV head for some successive tokens. Where the tokens are of
// several sequences the tile walks through one sequence's positions after the other's, and a row's scores in what is
// not its own sequence count nothing.
#include "kernels/cuda/ProductRows.cuh"
#include "kernels/cuda/Softmax.cuh"
#include "kernels/cuda/TensorMap.h"

#include <algorithm>

namespace distc::cuda {
namespace {

constexpr int tileQueries = 128;
constexpr int consumers = 2; // warp groups, 64 queries each
constexpr int threads = (1 + consumers) * warpGroup;
constexpr int stages = 2;
constexpr int boxRows = 16; // positions that are copied at once

/// Positions of a tile, by the padded size of a head.
template <int D> constexpr int tilePositions = D == 256 ? 64 : 128;
template <int D> constexpr int tileBytes = tilePositions<D> * D * 2;
/// Measured: with fewer registers copies are issued too slowly; a head of 256 leaves no more.
template <int D> constexpr int copyRegisters = D == 256 ? 24 : 40;
template <int D> constexpr int multiplyRegisters = D == 256 ? 240 : 232;
template <int D>
constexpr int sharedBytes = tileQueries * D * 2 + 2 * stages * (tileBytes<D> + 2 * int(sizeof(uint64_t)));

struct Arguments {
  CUtensorMap map; // the cache as rows of headDim elements, in boxes of boxRows
  bool mapped;     // blocks hold whole boxes
  const void *q;
  void *out;
  KvView cache;
  BatchView batch;
  int rows, tiles, group, tokens; // tokens of a tile
  float scale, softCap;
  int window;
};

/// Successive tiles of positions that the tokens [begin, end) of the batch attend to; of one sequence at a time.
struct Walk {
  const BatchView &batch;
  int window, positions; // positions of a tile
  int begin, end;
  int segmentEnd = begin, segmentBegin = begin; // tokens of the sequence
  int sequence = 0;
  int lowest = 0, highest = -1; // positions of its tokens
  int at = 0;                   // where the tile starts, a multiple of boxRows

  /// False: there is no further tile.
  __device__ bool next() {
    at += positions;
    if (at <= highest)
      return true;
    if (segmentEnd >= end)
      return false;
    segmentBegin = segmentEnd;
    sequence = batch.sequenceOf[segmentBegin];
    lowest = batch.positions[segmentBegin];
    int last = end - 1; // of the sequence's tokens
    highest = batch.positions[last];
    if (batch.sequenceOf[last] != sequence) {
      int behind = last; // the last one lies in [last, behind)
      last = segmentBegin;
      while (behind - last > 1) {
        const int middle = (last + behind) / 2;
        (batch.sequenceOf[middle] == sequence ? last : behind) = middle;
      }
      highest = batch.positions[last];
    }
    segmentEnd = last + 1;
    at = window > 0 ? max(0, lowest - window + 1) / boxRows * boxRows : 0;
    return true;
  }
  /// Whether some row does not attend to some position of the tile.
  __device__ bool isMasked() const {
    return at + positions - 1 > lowest || (window > 0 && at <= highest - window) || segmentBegin > begin ||
           segmentEnd < end;
  }
};

/// Where piece `piece` (16 bytes) of a row lies in an operand of `rows` rows.
__device__ inline int pieceAt(int row, int piece, int rows) {
  return piece / 8 * rows * 128 + row * 128 + ((piece % 8) ^ (row % 8)) * 16;
}

/// What a block does, one after the other: a tile of queries and a KV head. The last tokens attend to the most; theirs
/// come first, and every other round goes backwards, so that the blocks have about as much to do.
struct Items {
  const Arguments &a;
  int round = 0;

  /// False: there is no further one.
  __device__ bool next(int &tile, int &kvHead) {
    const int place = round % 2 == 0 ? int(blockIdx.x) : int(gridDim.x - 1 - blockIdx.x);
    const int item = round++ * int(gridDim.x) + place, heads = int(a.cache.heads);
    tile = a.tiles - 1 - item / heads;
    kvHead = item % heads;
    return tile >= 0;
  }
};

template <class T, int D> class Producer {
public:
  __device__ Producer(const Arguments &a, char *ring, uint64_t *full, uint64_t *empty)
      : a(a), ring(ring), full(full), empty(empty) {}

  /// Copies the keys and values of all tiles of a walk, in turn.
  __device__ void copy(Walk walk, int kvHead) {
    while (walk.next()) {
      if (a.mapped && walk.at + positions - 1 <= walk.highest)
        copyBoxes(walk, kvHead);
      else
        copyRows(walk, kvHead);
    }
  }

private:
  static constexpr int positions = tilePositions<D>, pieces = D / 8, slots = 2 * stages;
  static constexpr int warpRows = positions / 4, rowsAtOnce = warpSize / pieces;
  static constexpr int panels = D / 64;
  static constexpr uint32_t nowhere = UINT32_MAX; // else where a row is, in packs: 64 GiB of a layer

  /// The slot of the next copy, when it is free.
  __device__ int nextSlot() {
    const int slot = copies % slots;
    if (copies >= slots)
      waitBarrier(&empty[slot], (copies / slots - 1) & 1);
    ++copies;
    return slot;
  }

  /// A tile of which all positions are in use, by the tensor memory accelerator: some lanes have a box each.
  __device__ void copyBoxes(const Walk &walk, int kvHead) {
    const int lane = threadIdx.x % warpSize, blockTokens = int(a.cache.blockTokens), heads = int(a.cache.heads);
    const bool hasBox = lane < warpRows / boxRows * panels;
    const int inTile = int(threadIdx.x) / warpSize * warpRows + lane / panels * boxRows, panel = lane % panels;
    int row = 0;
    if (hasBox) {
      const int position = walk.at + inTile;
      const int block = a.batch.blockTables[walk.sequence * a.batch.blocksPerSequence + position / blockTokens];
      row = (block * 2 * heads + kvHead) * blockTokens + position % blockTokens;
    }
#pragma unroll 1
    for (int part = 0; part < 2; ++part) {
      const int slot = nextSlot();
      if (lane == 0)
        arriveExpecting(&full[slot], warpRows * D * 2);
      else
        arrive(&full[slot]);
      __syncwarp();
      if (hasBox)
        copyBox(sharedAddress(ring + slot * tileBytes<D>) + (panel * positions + inTile) * 128, &a.map, panel * 64,
                row + part * heads * blockTokens, &full[slot]);
    }
  }

  /// By the threads: behind the last position there are zeros, for what lies in the cache may be anything.
  __device__ void copyRows(const Walk &walk, int kvHead) {
    const int lane = threadIdx.x % warpSize, firstRow = int(threadIdx.x) / warpSize * warpRows;
    const int headDim = int(a.cache.headDim), blockTokens = int(a.cache.blockTokens);
    const int64_t plane = a.cache.heads * blockTokens * headDim;
    const int piece = lane % pieces, element = piece * 8 < headDim ? piece * 8 : 0;
    const T *cache = static_cast<const T *>(a.cache.data) + int64_t(kvHead) * blockTokens * headDim + element;
    // pieceAt(firstRow + lane / pieces + i, piece, positions) is place + i * 128 + (swizzled ^ i % 8 * 16).
    const uint32_t place = piece / 8 * positions * 128 + (firstRow + lane / pieces) * 128;
    const uint32_t swizzled = (piece % 8 ^ lane / pieces) * 16;
    // Each lane finds one row of the warp's.
    const int position = walk.at + firstRow + lane % warpRows;
    uint32_t offset = nowhere;
    if (position <= walk.highest) {
      const int64_t block = a.batch.blockTables[walk.sequence * a.batch.blocksPerSequence + position / blockTokens];
      offset = uint32_t((block * 2 * plane + position % blockTokens * headDim) / packElements);
    }
#pragma unroll 1
    for (int part = 0; part < 2; ++part) {
      const int slot = nextSlot();
      const uint32_t to = sharedAddress(ring + slot * tileBytes<D>) + place;
      const T *from = cache + part * plane;
#pragma unroll 4
      for (int i = 0; i < warpRows; i += rowsAtOnce) {
        const uint32_t at = __shfl_sync(allLanes, offset, i + lane / pieces);
        const bool wanted = at != nowhere && piece * 8 < headDim;
        copyAsync16(to + i * 128 + (swizzled ^ i % 8 * 16), from + (wanted ? at : 0) * int64_t(packElements), wanted);
      }
      arriveAfterCopies(&full[slot]);
    }
  }

  const Arguments &a;
  char *ring;
  uint64_t *full, *empty;
  int copies = 0; // begun so far; a tile of positions takes two: keys, values
};

template <class T, int D> class Consumer {
public:
  __device__ Consumer(const Arguments &a, char *queries, char *ring, uint64_t *full, uint64_t *empty)
      : a(a), ring(ring), full(full), empty(empty), group(int(threadIdx.x) / warpGroup - 1),
        queries(queries + group * 64 * 128), q(operandOf(sharedAddress(this->queries))) {}

  __device__ void attend(Walk walk, int kvHead) {
    loadQueries(walk, kvHead);
    const int firstRow = group * 64 + thread / warpSize * 16 + lane / 4;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      token[r] = walk.begin + (firstRow + 8 * r) / a.group;
      position[r] = offsetOf(walk, kvHead, firstRow + 8 * r) >= 0 ? a.batch.positions[token[r]] : -1;
      maximum[r] = -INFINITY;
      total[r] = 0.0f;
    }
#pragma unroll
    for (int i = 0; i < D / 2; ++i)
      sum[i] = 0.0f;
    float s[scores], correction[2];
    walk.next();
    multiplyKeys(s);
    waitProducts<0>();
    settle(s);
    release(copies);
    weigh(walk, s, correction);
    round(s);
    copies += 2;
    // The values of the tile before are multiplied behind the scores of this one: while they are, these become weights.
    for (; walk.next(); copies += 2) {
      multiplyKeys(s);
      multiplyValues();
      waitProducts<1>();
      settle(s);
      release(copies);
      weigh(walk, s, correction);
      waitProducts<0>();
      settle(sum);
      release(copies - 1);
#pragma unroll
      for (int i = 0; i < D / 2; ++i)
        sum[i] *= correction[i / 2 % 2];
      round(s);
    }
    multiplyValues();
    waitProducts<0>();
    settle(sum);
    release(copies - 1);
    store(walk, kvHead);
  }

private:
  static constexpr int positions = tilePositions<D>, pieces = D / 8, slots = 2 * stages;
  static constexpr int scores = positions / 2; // of a thread
  static constexpr float log2e = 1.4426950408889634f;

  /// Row r of the tile is a token's query head: where its elements are in q and out; -1: there is no such row.
  __device__ int64_t offsetOf(const Walk &walk, int kvHead, int r) const {
    const int token = walk.begin + r / a.group;
    return r < a.tokens * a.group && token < walk.end
               ? ((token * a.cache.heads + kvHead) * a.group + r % a.group) * a.cache.headDim
               : int64_t(-1);
  }

  /// This group's queries, zeros where there is none.
  __device__ void loadQueries(const Walk &walk, int kvHead) {
    syncThreads(1 + group, warpGroup); // all of the group are done with the last ones
#pragma unroll 4
    for (int i = thread; i < 64 * pieces; i += warpGroup) {
      const int r = i / pieces, piece = i % pieces;
      uint4 value{};
      if (const int64_t at = offsetOf(walk, kvHead, group * 64 + r); at >= 0 && piece * 8 < a.cache.headDim)
        value = *reinterpret_cast<const uint4 *>(static_cast<const T *>(a.q) + at + piece * 8);
      *reinterpret_cast<uint4 *>(queries + pieceAt(r, piece, tileQueries)) = value;
    }
    fenceShared();
    syncThreads(1 + group, warpGroup);
  }

  __device__ uint32_t await(int copy) const {
    waitBarrier(&full[copy % slots], copy / slots & 1);
    fenceShared();
    return sharedAddress(ring + copy % slots * tileBytes<D>);
  }
  __device__ void release(int copy) const {
    if (thread == 0)
      arrive(&empty[copy % slots]);
  }

  __device__ void multiplyKeys(float (&s)[scores]) const {
    const Operand k = operandOf(await(copies));
    settle(s);
    beginProducts();
#pragma unroll
    for (int i = 0; i < D / 16; ++i)
      multiply<T, positions>(s, further(q, i / 4 * tileQueries * 128 + i % 4 * 32),
                             further(k, i / 4 * positions * 128 + i % 4 * 32), i > 0);
    commitProducts();
  }
  /// Of the tile before.
  __device__ void multiplyValues() {
    const Operand v = rowsOperandOf(await(copies - 1), positions * 128);
    settle(sum);
    beginProducts();
#pragma unroll
    for (int i = 0; i < positions / 16; ++i)
      multiplyRows<T, D>(sum, weights[i], further(v, i * 16 * 128));
    commitProducts();
  }

  /// From scores to weights relative to the largest score so far; correction: of what was summed before.
  __device__ void weigh(const Walk &walk, float (&s)[scores], float (&correction)[2]) {
    float factor = a.scale * log2e;
    if (a.softCap > 0.0f) {
      const float inner = 2.0f * log2e * a.scale / a.softCap;
#pragma unroll
      for (int i = 0; i < scores; ++i)
        s[i] = a.softCap - __fdividef(2.0f * a.softCap, exp2Of(s[i] * inner) + 1.0f); // softCap * tanh
      factor = log2e;
    }
    if (walk.isMasked()) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const bool isOwn = token[r] >= walk.segmentBegin && token[r] < walk.segmentEnd;
        const int at = walk.at + lane % 4 * 2;
        const int last = (isOwn ? position[r] : -1) - at, first = a.window > 0 ? last - a.window + 1 : -at;
#pragma unroll
        for (int j = 0; j < positions / 8; ++j)
#pragma unroll
          for (int e = 0; e < 2; ++e)
            if (j * 8 + e > last || j * 8 + e < first)
              s[4 * j + 2 * r + e] = -INFINITY;
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = maximum[r];
#pragma unroll
      for (int j = 0; j < positions / 8; ++j)
        largest = fmaxf(largest, fmaxf(s[4 * j + 2 * r], s[4 * j + 2 * r + 1]));
      largest = fmaxf(largest, __shfl_xor_sync(allLanes, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(allLanes, largest, 2));
      const float base = largest == -INFINITY ? 0.0f : largest * factor;
      correction[r] = exp2Of(fmaf(maximum[r], factor, -base));
      maximum[r] = largest;
      float part = 0.0f;
#pragma unroll
      for (int j = 0; j < positions / 8; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float &score = s[4 * j + 2 * r + e];
          score = exp2Of(fmaf(score, factor, -base));
          part += score;
        }
      total[r] = fmaf(total[r], correction[r], part);
    }
  }

  __device__ void round(const float (&s)[scores]) {
#pragma unroll
    for (int i = 0; i < positions / 16; ++i)
#pragma unroll
      for (int w = 0; w < 4; ++w)
        weights[i][w] = Pair<T>::fromFloats(s[8 * i + 2 * w], s[8 * i + 2 * w + 1]);
  }

  __device__ void store(const Walk &walk, int kvHead) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      total[r] += __shfl_xor_sync(allLanes, total[r], 1);
      total[r] += __shfl_xor_sync(allLanes, total[r], 2);
      total[r] = 1.0f / total[r];
    }
#pragma unroll
    for (int i = 0; i < D / 2; ++i)
      sum[i] *= total[i / 2 % 2];
    // The queries, which nobody needs any more, make room: a warp's 16 rows of a panel are as large as its staging.
    syncThreads(1 + group, warpGroup);
    const int warpRow = thread / warpSize * 16;
    forAllPieces<T, pieces>(sum, queries + warpRow * 128, [&](int row, int element, uint4 words) {
      const int64_t at = offsetOf(walk, kvHead, group * 64 + warpRow + row);
      if (at >= 0 && element < a.cache.headDim)
        *reinterpret_cast<uint4 *>(static_cast<T *>(a.out) + at + element) = words;
    });
  }

  const Arguments &a;
  char *ring;
  uint64_t *full, *empty;
  const int thread = int(threadIdx.x) % warpGroup, lane = thread % warpSize, group;
  char *queries;
  const Operand q; // this group's, as an operand
  int copies = 0;  // of the tile's keys, counted as the producer does; its values come next
  // A thread's two rows.
  int token[2], position[2];
  float maximum[2], total[2];
  float sum[D / 2];
  uint32_t weights[positions / 16][4];
};

template <class T, int D>
__global__ void __launch_bounds__(threads, 1) attentionPrefillKernel(const __grid_constant__ Arguments a) {
  char *const queries = reinterpret_cast<char *>(dynamicShared());
  char *const ring = queries + tileQueries * D * 2;
  uint64_t *const full = reinterpret_cast<uint64_t *>(ring + 2 * stages * tileBytes<D>);
  uint64_t *const empty = full + 2 * stages;
  if (threadIdx.x == 0) {
    for (int s = 0; s < 2 * stages; ++s) {
      initBarrier(&full[s], warpGroup);
      initBarrier(&empty[s], consumers);
    }
    fenceBarriers();
  }
  __syncthreads();
  letNextStart();
  waitForPrevious();
  Items items{a};
  const auto walkOf = [&](int tile) {
    return Walk{a.batch, a.window, tilePositions<D>, tile * a.tokens, min((tile + 1) * a.tokens, a.rows)};
  };
  int tile, kvHead;
  if (threadIdx.x < warpGroup) {
    fewerRegisters<copyRegisters<D>>();
    Producer<T, D> producer(a, ring, full, empty);
    while (items.next(tile, kvHead))
      producer.copy(walkOf(tile), kvHead);
  } else {
    moreRegisters<multiplyRegisters<D>>();
    Consumer<T, D> consumer(a, queries, ring, full, empty);
    while (items.next(tile, kvHead))
      consumer.attend(walkOf(tile), kvHead);
  }
}

template <class T, int D> cudaError_t launchTiles(Arguments a, cudaStream_t stream) {
  a.mapped = a.cache.blockTokens % boxRows == 0;
  const Matrix cache{a.cache.data, a.cache.type, 1 << 30, a.cache.headDim, a.cache.headDim};
  if (const cudaError_t error = mapMatrix(cache, boxRows, a.map); error != cudaSuccess)
    return error;
  if (const cudaError_t error = allowShared<attentionPrefillKernel<T, D>>(sharedBytes<D>); error != cudaSuccess)
    return error;
  const int64_t blocks = std::min<int64_t>(a.tiles * a.cache.heads, multiprocessors());
  return launchOverlapped(stream, attentionPrefillKernel<T, D>, dim3(unsigned(blocks)), threads, sharedBytes<D>, 1, a);
}

} // namespace

bool attentionPrefillSuits(In q, const KvView &cache, const AttentionParams &params, Out out) {
  return q.type != Type::F32 && q.type == cache.type && out.type == q.type && cache.headDim % packElements == 0 &&
         cache.headDim <= 256 && cache.heads > 0 && params.heads % cache.heads == 0 &&
         params.heads / cache.heads <= tileQueries && aligned16(q.data, cache.data, out.data);
}

cudaError_t attentionPrefill(In q, int64_t rows, const KvView &cache, const AttentionParams &params,
                             const BatchView &batch, Out out, cudaStream_t stream) {
  if (!attentionPrefillSuits(q, cache, params, out))
    return cudaErrorInvalidValue;
  if (rows <= 0)
    return cudaSuccess;
  const int64_t group = params.heads / cache.heads, tokens = tileQueries / group, tiles = divideUp(rows, tokens);
  if (tiles * cache.heads > INT32_MAX)
    return cudaErrorInvalidValue;
  const Arguments a{{},         false,      q.data,      out.data,     cache,          batch,           int(rows),
                    int(tiles), int(group), int(tokens), params.scale, params.softCap, windowOf(params)};
  const auto ofType = [&](auto element) {
    using T = decltype(element);
    if (cache.headDim <= 64)
      return launchTiles<T, 64>(a, stream);
    if (cache.headDim <= 128)
      return launchTiles<T, 128>(a, stream);
    return launchTiles<T, 256>(a, stream);
  };
  return q.type == Type::F16 ? ofType(__half()) : ofType(__nv_bfloat16());
}

} // namespace distc::cuda
