// A stage of matrix-vector products for up to eight tokens. A block is one multiprocessor's share: a producer thread
// streams its tiles of 16 rows and 512 columns through a ring in shared memory; eight warps multiply them on the tensor
// cores, with the weights as the operand of 16 rows and the tokens as that of 8 columns. The tiles come column block by
// column block, so a warp needs x for its 64 columns of one block at a time, in registers, whatever the width of x; the
// sums of all tiles stand in registers. Nothing of the weights waits for the stage before: the ring is filled while
// that one ends.
//
// The order of a sum: inside a column block by the tensor core, then the blocks of a warp, then the warps. It depends
// on the number of columns alone.
#include "distc/kernels/CudaStage.h"
#include "kernels/cuda/Activate.cuh"
#include "kernels/cuda/Candidate.cuh"
#include "kernels/cuda/Stage.cuh"

namespace distc::cuda {
namespace {

constexpr int warps = tileColumns / stageColumns;
constexpr int consumers = warps * warpSize;
constexpr int threads = consumers + warpSize; // and the producer's warp
constexpr int groupRows = tileRows / 2;
constexpr int maxSlots = maxRingBytes / tileBytes;
constexpr int halfBytes = tileBytes / 2;
constexpr int rowBytes = stageColumns * 2;           // of a tile: one warp's part of a row
constexpr int maxPassTiles = 14;                     // whose sums a block keeps at a time: no more without spills
constexpr int blockBytes = 227 * 1024;               // of shared memory: what a multiprocessor has for one block
constexpr int scratchFloats = 32 * warps * tileRows; // 32 tiles of one token, 4 of eight

/// Rows of the weights that are multiplied at once: n0 rows from r0 of weight w0, n1 rows from r1 of weight w1.
struct Tile {
  int w0, r0, n0, w1, r1, n1;
};

/// A block's tiles, one after the other.
struct TileWalk {
  const MatrixStage &stage;
  int unit, end;

  __device__ TileWalk(const MatrixStage &stage)
      : stage(stage), unit(int(stage.bounds[blockIdx.x])), end(int(stage.bounds[blockIdx.x + 1])) {}

  /// False: there are no more.
  __device__ bool next(Tile &tile) {
    if (unit >= end)
      return false;
    const int rows = stage.form == StageForm::Qkv ? pairUnit : rowUnit;
    int w = 0, first = 0, units = stage.weights[0].rows / rows;
    if (stage.form != StageForm::Glu)
      while (unit >= first + units) {
        first += units;
        units = stage.weights[++w].rows / rows;
      }
    const int at = unit - first, left = min(end, first + units) - unit;
    if (stage.form == StageForm::Rows) {
      const int n = min(2 * left, tileRows), n0 = min(n, groupRows);
      tile = {w, 2 * at, n0, w, 2 * at + n0, n - n0};
      unit += n / 2;
    } else if (stage.form == StageForm::Glu) {
      const int n = min(2 * left, groupRows);
      tile = {0, 2 * at, n, 1, 2 * at, n};
      unit += n / 2;
    } else if (stage.style == RopeStyle::Half) { // elements i and i + headDim / 2 of one head
      const int half = stage.headDim / 2, pair = 2 * at, head = pair / half, i = pair % half;
      const int n = min(min(2 * left, groupRows), half - i), row = head * stage.headDim + i;
      tile = {w, row, n, w, row + half, n};
      unit += n / 2;
    } else { // neighbours
      const int row = 4 * at, n = min(min(4 * left, tileRows), stage.headDim - row % stage.headDim);
      const int n0 = min(n, groupRows);
      tile = {w, row, n0, w, row + n0, n - n0};
      unit += n / 4;
    }
    return true;
  }
  /// The next tiles, up to `most`; how many.
  __device__ int take(Tile *tiles, int most) {
    int n = 0;
    while (n < most && next(tiles[n]))
      ++n;
    return n;
  }
};

struct Shared {
  uint64_t full[maxSlots], empty[maxSlots];
  Tile produced[maxPassTiles], tiles[maxPassTiles];
  float squares[warps][stageTokens];
  unsigned long long best[stageTokens];
  int tileCount;
};

__device__ inline void syncConsumers() { syncThreads(1, consumers); }

__device__ void produce(const MatrixStage &s, Shared &shared, uint32_t ring, int slots, int passTiles) {
  const uint64_t policy = evictFirst();
  const int blocks = (s.cols + tileColumns - 1) / tileColumns;
  TileWalk walk(s);
  int slot = 0;
  uint32_t parity = 1; // a fresh barrier counts as ended before
  while (const int count = walk.take(shared.produced, passTiles))
    for (int block = 0; block < blocks; ++block)
      for (int i = 0; i < count; ++i) {
        const Tile tile = shared.produced[i];
        waitBarrier(&shared.empty[slot], parity);
        arriveExpecting(&shared.full[slot], uint32_t(tile.n0 + tile.n1) * tileColumns * 2);
        const uint32_t to = ring + slot * tileBytes;
        const int at = block * (tileColumns / stageColumns);
        copyBox(to, s.weights[tile.w0].maps.box[tile.n0 / 2 - 1], tile.r0, at, &shared.full[slot], policy);
        if (tile.n1 > 0)
          copyBox(to + halfBytes, s.weights[tile.w1].maps.box[tile.n1 / 2 - 1], tile.r1, at, &shared.full[slot],
                  policy);
        if (++slot == slots) {
          slot = 0;
          parity ^= 1;
        }
      }
}

/// What is done with x before the product.
enum class Prologue { None, Norm, AddNorm };

/// A lane's part of x: of one token, 8 columns of each 32 of the warp's 64.
template <Prologue P> struct Columns {
  uint4 x[2];
};
template <> struct Columns<Prologue::AddNorm> {
  uint4 x[2], addend[2];
};

/// What a result needs besides its sums; loaded ahead of them.
struct Operands {
  float a = 0, b = 0; // bias and residual; cosine and sine
  int64_t slot = 0;   // Qkv: where the element lies in the cache
};

template <class T, Prologue P, int PassTiles> class Consumer {
  static constexpr bool withNorm = P != Prologue::None;
  /// Column blocks of x that are under way at once: when the stage before has ended, the ring is full, and waits.
  static constexpr int depth = P == Prologue::AddNorm ? (PassTiles > 4 ? 3 : 4) : PassTiles > 4 ? 4 : 6;

public:
  __device__ Consumer(const MatrixStage &s, const StageInput &in, Shared &shared, uint32_t ring, int slots,
                      float *scratch)
      : s(s), in(in), shared(shared), ring(ring), slots(slots), scratch(scratch), lane(threadIdx.x % warpSize),
        warp(threadIdx.x / warpSize), group(lane / 4), quad(lane % 4) {}

  __device__ void run() {
    const int blocks = (s.cols + tileColumns - 1) / tileColumns;
    TileWalk walk(s);
    if (threadIdx.x < stageTokens)
      shared.best[threadIdx.x] = 0;
    for (int pass = 0;; ++pass) {
      if (pass > 0)
        syncConsumers(); // the pass before has been read
      if (threadIdx.x == 0)
        shared.tileCount = walk.take(shared.tiles, PassTiles);
      syncConsumers();
      const int count = shared.tileCount;
      loadNorm();
      if (pass == 0)
        waitForPrevious();
      if (count == 0)
        break;
      Columns<P> ahead[depth];
#pragma unroll
      for (int d = 0; d < depth; ++d)
        loadInput(d, ahead[d]);
      const Operands first = operandsOf(int(threadIdx.x), count);

      float sums[PassTiles][4] = {};
      float squares = 0;
      const bool store = pass == 0 && s.bounds[blockIdx.x] == 0; // who has the first unit writes x + addend
      for (int block = 0; block < blocks; block += depth)
#pragma unroll
        for (int d = 0; d < depth; ++d)
          if (block + d < blocks)
            multiplyBlock(block + d, ahead[d], count, sums, squares, store);
      if constexpr (withNorm) {
        squares += __shfl_xor_sync(allLanes, squares, 1);
        squares += __shfl_xor_sync(allLanes, squares, 2);
        if (quad == 0)
          shared.squares[warp][group] = squares;
      }
      finish(sums, count, first);
    }
    syncConsumers();
    if (s.best && int(threadIdx.x) < in.tokens)
      s.best[threadIdx.x * gridDim.x + blockIdx.x] = shared.best[threadIdx.x];
  }

private:
  /// All tiles times a column block of x; then x of the block after the next is on its way.
  __device__ __forceinline__ void multiplyBlock(int block, Columns<P> &c, int count, float (&sums)[PassTiles][4],
                                                float &squares, bool store) {
    uint32_t x[2][4];
    prepare(block, c, x, squares, store);
    loadInput(block + depth, c);
#pragma unroll
    for (int i = 0; i < PassTiles; ++i)
      if (i < count)
        multiplyTile(shared.tiles[i].n0, shared.tiles[i].n1, x, sums[i]);
  }

  __device__ int columnOf(int block, int i) const {
    return block * tileColumns + warp * stageColumns + i * (stageColumns / 2) + quad * packElements;
  }

  /// The norm's weights of the warp's columns, into what is scratch later.
  __device__ void loadNorm() const {
    if constexpr (withNorm) {
      for (int column = warp * stageColumns + lane * 2; column < s.cols; column += tileColumns)
        *reinterpret_cast<float2 *>(scratch + column) = *reinterpret_cast<const float2 *>(s.norm + column);
      __syncwarp();
    }
  }

  __device__ void loadInput(int block, Columns<P> &c) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      c.x[i] = make_uint4(0, 0, 0, 0);
      if constexpr (P == Prologue::AddNorm)
        c.addend[i] = make_uint4(0, 0, 0, 0);
      const int column = columnOf(block, i);
      if (group >= in.tokens || column >= s.cols)
        continue;
      const int64_t at = int64_t(in.rows ? in.rows[group] : group) * s.cols + column;
      c.x[i] = loadFresh16(static_cast<const T *>(in.x) + at);
      if constexpr (P == Prologue::AddNorm)
        c.addend[i] = loadFresh16(static_cast<const T *>(in.addend) + at);
    }
  }

  /// x as an operand of the product: (x + addend) * norm, and the sum of the squares.
  __device__ void prepare(int block, const Columns<P> &c, uint32_t (&x)[2][4], float &squares, bool store) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      uint32_t raw[4] = {c.x[i].x, c.x[i].y, c.x[i].z, c.x[i].w};
      const int column = columnOf(block, i);
      if constexpr (P == Prologue::AddNorm) {
        const uint32_t addend[4] = {c.addend[i].x, c.addend[i].y, c.addend[i].z, c.addend[i].w};
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float2 a = Pair<T>::toFloats(raw[j]), b = Pair<T>::toFloats(addend[j]);
          raw[j] = Pair<T>::fromFloats(a.x + b.x, a.y + b.y);
        }
        if (store && group < in.tokens && column < s.cols)
          *reinterpret_cast<uint4 *>(static_cast<T *>(in.sum) + int64_t(group) * s.cols + column) =
              make_uint4(raw[0], raw[1], raw[2], raw[3]);
      }
      if constexpr (withNorm) {
        float norm[packElements] = {};
        if (column < s.cols)
          load8<true>(scratch + column, packElements, norm);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float2 v = Pair<T>::toFloats(raw[j]);
          squares = fmaf(v.x, v.x, squares);
          squares = fmaf(v.y, v.y, squares);
          raw[j] = Pair<T>::fromFloats(v.x * (norm[2 * j] * inputScale), v.y * (norm[2 * j + 1] * inputScale));
        }
      }
#pragma unroll
      for (int j = 0; j < 4; ++j)
        x[i][j] = raw[j];
    }
  }

  /// The warp's 64 columns of the tile that is next in the ring. A lane's 16 bytes of a row are the operands of two
  /// products: the columns are permuted, those of x in the same way. Of eight rows, lane group g reads row
  /// (g % 2) * 4 + g / 2: rows whose swizzled chunks lie in different banks.
  __device__ void multiplyTile(int n0, int n1, const uint32_t (&x)[2][4], float (&sum)[4]) {
    waitBarrier(&shared.full[slot], parity);
    const uint32_t tile = ring + slot * tileBytes;
    const int row0 = warp * n0 + rowOfGroup(), row1 = warp * n1 + rowOfGroup();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int chunk = i * 4 + quad;
      const uint4 a = loadShared16(tile + row0 * rowBytes + ((chunk ^ (row0 % 8)) * 16));
      const uint4 b = loadShared16(tile + halfBytes + row1 * rowBytes + ((chunk ^ (row1 % 8)) * 16));
      multiply<T>(sum, a.x, b.x, a.y, b.y, x[i][0], x[i][1]);
      multiply<T>(sum, a.z, b.z, a.w, b.w, x[i][2], x[i][3]);
    }
    __syncwarp();
    if (lane == 0)
      arrive(&shared.empty[slot]);
    if (++slot == slots) {
      slot = 0;
      parity ^= 1;
    }
  }
  __device__ int rowOfGroup() const { return group % 2 * 4 + group / 2; }

  /// Adds up the warps' sums of some tiles at a time, and finishes their results.
  __device__ void finish(const float (&sums)[PassTiles][4], int count, const Operands &first) {
    const int tokens = in.tokens, perRound = scratchFloats / (warps * tileRows * tokens);
    for (int begin = 0; begin < count; begin += perRound) {
      if (begin > 0 || withNorm)
        syncConsumers(); // what the scratch held has been read
#pragma unroll
      for (int i = 0; i < PassTiles; ++i)
        if (i >= begin && i < min(count, begin + perRound)) {
          float *to = scratch + ((i - begin) * warps + warp) * tokens * tileRows + rowOfGroup();
#pragma unroll
          for (int j = 0; j < 2; ++j)
            if (const int token = 2 * quad + j; token < tokens) {
              to[token * tileRows] = sums[i][j];
              to[token * tileRows + groupRows] = sums[i][2 + j];
            }
        }
      syncConsumers();
      const int tiles = min(perRound, count - begin), items = tiles * tokens * resultsOfTile();
      // Whole warps: results meet in shuffles.
      for (int item = int(threadIdx.x); item - lane < items; item += consumers) {
        const int all = begin * tokens * resultsOfTile() + item;
        const Operands operands = all == int(threadIdx.x) ? first : operandsOf(all, count);
        result(all, item < items, begin, operands);
      }
    }
  }
  __device__ int resultsOfTile() const { return s.form == StageForm::Rows ? tileRows : groupRows; }

  /// Of a weight's row and a token.
  __device__ float sumOf(int tile, int token, int row) const {
    const float *from = scratch + (tile * warps * in.tokens + token) * tileRows + row;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < warps; ++w)
      sum += from[w * in.tokens * tileRows];
    return sum;
  }
  __device__ float scaleOf(int token) const {
    if constexpr (!withNorm)
      return 1.0f;
    float squares = 0;
#pragma unroll
    for (int w = 0; w < warps; ++w)
      squares += shared.squares[w][token];
    return rsqrtf(squares / float(s.cols) + s.eps) * (1.0f / inputScale);
  }

  /// Result `item` of the pass: result `at` of tile `tile` for a token. False: there is none.
  __device__ bool locate(int item, int count, int &tile, int &token, int &at) const {
    const int results = resultsOfTile();
    at = item % results;
    token = item / results % in.tokens;
    tile = item / results / in.tokens;
    if (tile >= count)
      return false;
    const Tile &t = shared.tiles[tile];
    if (s.form == StageForm::Rows)
      return at < groupRows ? at < t.n0 : at - groupRows < t.n1;
    return s.form == StageForm::Qkv && s.style == RopeStyle::Interleaved ? 2 * at < t.n0 + t.n1 : at < t.n0;
  }

  __device__ Operands operandsOf(int item, int count) const {
    Operands o;
    int i, token, at;
    if (!locate(item, count, i, token, at))
      return o;
    const Tile &t = shared.tiles[i];
    const StageWeight &w = s.weights[t.w0];
    if (s.form == StageForm::Rows) {
      const int row = t.r0 + at;
      if (w.bias.data)
        o.a = static_cast<const float *>(w.bias.data)[row];
      if (w.residual.data) // fresh: it may be what a stage before has written
        o.b = toFloat(fresh(static_cast<const T *>(w.residual.data) + token * w.yStride + row));
    } else if (s.form == StageForm::Glu) {
      if (w.bias.data)
        o.a = static_cast<const float *>(w.bias.data)[t.r0 + at];
      if (s.weights[1].bias.data)
        o.b = static_cast<const float *>(s.weights[1].bias.data)[t.r0 + at];
    } else {
      const int position = in.batch.positions[token];
      if (t.w0 < 2) {
        const int half = s.headDim / 2;
        const int pair = s.style == RopeStyle::Half ? (t.r0 + at) % s.headDim : (t.r0 / 2 + at) % half;
        const float2 angle = reinterpret_cast<const float2 *>(s.cosSin)[int64_t(position) * half + pair];
        o.a = angle.x;
        o.b = angle.y;
      }
      if (t.w0 > 0) {
        const int64_t block =
            in.batch
                .blockTables[in.batch.sequenceOf[token] * in.batch.blocksPerSequence + position / s.cache.blockTokens];
        const int head = t.r0 / s.headDim;
        o.slot =
            (((block * 2 + (t.w0 - 1)) * s.cache.heads + head) * s.cache.blockTokens + position % s.cache.blockTokens) *
            s.cache.headDim;
      }
    }
    return o;
  }
  __device__ static T fresh(const T *p) {
    unsigned short bits;
    asm volatile("ld.global.cg.u16 %0, [%1];" : "=h"(bits) : "l"(p) : "memory");
    T v;
    memcpy(&v, &bits, sizeof(v));
    return v;
  }

  /// Finishes a result. All lanes come here; those without one take part in shuffles alone.
  __device__ void result(int item, bool valid, int begin, const Operands &o) {
    int i, token, at;
    valid = locate(item, shared.tileCount, i, token, at) && valid;
    if (s.form == StageForm::Rows) {
      float y = 0;
      int row = 0;
      if (valid) {
        const Tile &t = shared.tiles[i];
        const StageWeight &w = s.weights[t.w0];
        row = t.r0 + at;
        y = sumOf(i - begin, token, at) * scaleOf(token) + o.a + o.b;
        storeElement(w.y, token * w.yStride + row, y);
      }
      if (s.best)
        keepBest(valid && row < s.valid, row, token, y);
    } else if (valid && s.form == StageForm::Glu) {
      const Tile &t = shared.tiles[i];
      const float scale = scaleOf(token);
      const float gate = sumOf(i - begin, token, at) * scale + o.a;
      const float up = sumOf(i - begin, token, groupRows + at) * scale + o.b;
      storeElement(s.weights[0].y, token * s.weights[0].yStride + t.r0 + at, activated(gate) * up);
    } else if (valid) {
      rotated(shared.tiles[i], i - begin, token, at, o);
    }
  }

  __device__ float activated(float x) const {
    switch (s.activation) {
    case Activation::Silu:
      return activate<Activation::Silu>(x);
    case Activation::Gelu:
      return activate<Activation::Gelu>(x);
    case Activation::GeluTanh:
      return activate<Activation::GeluTanh>(x);
    default:
      return activate<Activation::Relu>(x);
    }
  }

  /// A pair of elements of a head of q, k or v.
  __device__ void rotated(const Tile &t, int tile, int token, int at, const Operands &o) {
    const bool half = s.style == RopeStyle::Half;
    const int in0 = half ? at : 2 * at, in1 = half ? groupRows + at : 2 * at + 1; // rows of the tile
    const int row0 = t.r0 + in0, row1 = half ? t.r1 + at : row0 + 1;
    const StageWeight &w = s.weights[t.w0];
    const float scale = scaleOf(token);
    float a = sumOf(tile, token, in0) * scale, b = sumOf(tile, token, in1) * scale;
    if (w.bias.data) {
      a += static_cast<const float *>(w.bias.data)[row0];
      b += static_cast<const float *>(w.bias.data)[row1];
    }
    if (t.w0 < 2) {
      const float rotated = fmaf(a, o.a, -(b * o.b));
      b = fmaf(a, o.b, b * o.a);
      a = rotated;
    }
    T *to = t.w0 == 0 ? static_cast<T *>(w.y.data) + token * w.yStride
                      : static_cast<T *>(s.cache.data) + o.slot - int64_t(t.r0 / s.headDim) * s.headDim;
    to[row0] = fromFloat<T>(a);
    to[row1] = fromFloat<T>(b);
  }

  /// 16 lanes have results of one token, and whole tokens are in a half of the warp.
  __device__ void keepBest(bool valid, int column, int token, float y) {
    unsigned long long key = valid ? keyOf(column, isnan(y) ? -INFINITY : y) : 0;
#pragma unroll
    for (int offset = tileRows / 2; offset > 0; offset /= 2)
      key = max(key, __shfl_xor_sync(allLanes, key, offset));
    if (lane % tileRows == 0 && key > 0)
      atomicMax(&shared.best[token], key);
  }

  // Of numbers in F16, whose range is small, a part in 16 is multiplied; an exact factor.
  static constexpr float inputScale = std::is_same_v<T, __half> && withNorm ? 1.0f / 16 : 1.0f;

  const MatrixStage &s;
  const StageInput &in;
  Shared &shared;
  const uint32_t ring;
  const int slots;
  float *scratch;
  const int lane, warp, group, quad;
  int slot = 0;
  uint32_t parity = 0;
};

/// The scratch also holds the norm's weights.
__host__ __device__ inline int scratchBytes(const MatrixStage &s) {
  const int norm = s.norm ? s.cols * int(sizeof(float)) : 0, sums = scratchFloats * int(sizeof(float));
  return ((norm > sums ? norm : sums) + 127) / 128 * 128;
}
__host__ __device__ inline int slotsOf(const MatrixStage &s) {
  const int room = blockBytes - int(sizeof(Shared)) - scratchBytes(s);
  return (s.ringBytes < room ? s.ringBytes : room) / tileBytes;
}

template <class T, Prologue P, int PassTiles>
__global__ void __launch_bounds__(threads, 1)
    matrixStageKernel(const __grid_constant__ MatrixStage stage, const __grid_constant__ StageInput input) {
  extern __shared__ __align__(1024) unsigned char dynamic[]; // the ring, the scratch, Shared
  letNextStart();
  const int slots = slotsOf(stage);
  float *scratch = reinterpret_cast<float *>(dynamic + slots * tileBytes);
  Shared &shared = *reinterpret_cast<Shared *>(dynamic + slots * tileBytes + scratchBytes(stage));
  if (threadIdx.x == 0) {
    for (int i = 0; i < slots; ++i) {
      initBarrier(&shared.full[i], 1);
      initBarrier(&shared.empty[i], warps);
    }
    fenceBarriers();
  }
  __syncthreads();
  if (threadIdx.x >= consumers) {
    if (threadIdx.x == consumers)
      produce(stage, shared, sharedAddress(dynamic), slots, PassTiles);
    return;
  }
  Consumer<T, P, PassTiles>(stage, input, shared, sharedAddress(dynamic), slots, scratch).run();
}

template <class T, Prologue P, int PassTiles>
cudaError_t launchStage(const MatrixStage &stage, const StageInput &input, cudaStream_t stream) {
  if (const cudaError_t error = prepareStage<matrixStageKernel<T, P, PassTiles>>(blockBytes); error != cudaSuccess)
    return error;
  const size_t bytes = size_t(slotsOf(stage)) * tileBytes + scratchBytes(stage) + sizeof(Shared);
  return launchOverlapped(stream, matrixStageKernel<T, P, PassTiles>, dim3(unsigned(stage.sms)), threads, bytes, 1,
                          stage, input);
}

template <class T, Prologue P>
cudaError_t launchPrologue(const MatrixStage &stage, const StageInput &input, cudaStream_t stream) {
  const bool few = stage.maxUnits * unitRows(stage.form) * (stage.form == StageForm::Glu ? 2 : 1) <= 2 * tileRows;
  return few ? launchStage<T, P, 4>(stage, input, stream) : launchStage<T, P, maxPassTiles>(stage, input, stream);
}

bool isSupported(const MatrixStage &s, const StageInput &in) {
  if (s.type == Type::F32 || s.cols <= 0 || s.cols % stageColumns != 0 || s.sms <= 0 || s.weightCount < 1 ||
      s.weightCount > 3 || (s.norm && s.cols > maxNormColumns) || slotsOf(s) < 2 || s.ringBytes > maxRingBytes ||
      s.ringBytes % tileBytes != 0 || in.tokens < 1 || in.tokens > stageTokens || (in.addend && !s.norm) ||
      (s.form == StageForm::Glu && s.weightCount != 2) ||
      (s.form == StageForm::Qkv && (s.weightCount != 3 || s.headDim % 4 != 0 || s.cache.type != s.type ||
                                    s.cache.headDim != s.headDim || s.weights[1].rows != s.cache.heads * s.headDim)))
    return false;
  for (int i = 0; i < s.weightCount; ++i)
    if (s.weights[i].rows <= 0 || s.weights[i].rows % unitRows(s.form) != 0)
      return false;
  return aligned16(in.x, s.norm) && (!in.addend || aligned16(in.addend, in.sum));
}

} // namespace

cudaError_t matrixStage(const MatrixStage &stage, const StageInput &input, cudaStream_t stream) {
  if (input.tokens == 0)
    return cudaSuccess;
  if (!isSupported(stage, input))
    return cudaErrorInvalidValue;
  return withType(stage.type, [&](auto element) {
    using T = decltype(element);
    if constexpr (std::is_same_v<T, float>)
      return cudaErrorInvalidValue;
    else if (!stage.norm)
      return launchPrologue<T, Prologue::None>(stage, input, stream);
    else if (!input.addend)
      return launchPrologue<T, Prologue::Norm>(stage, input, stream);
    else
      return launchPrologue<T, Prologue::AddNorm>(stage, input, stream);
  });
}

} // namespace distc::cuda
