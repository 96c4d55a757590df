// The consumers of a matrix stage (MatrixStage.cu): eight warps that multiply the tiles of the ring by x and finish the
// results.
//
// The order of a sum: inside a column block by the tensor core, then the blocks of a warp, then the warps. It depends
// on the number of columns alone.
#pragma once

#include "kernels/cuda/Activate.cuh"
#include "kernels/cuda/Candidate.cuh"
#include "kernels/cuda/StageProducer.cuh"

namespace distc::cuda {

constexpr int stageConsumers = stageWarps * warpSize; // threads
constexpr int warpRowBytes = stageColumns * 2;        // of a tile: one warp's part of a row

/// What is done with x before the product.
enum class Prologue { None, Norm, AddNorm };

/// Column blocks of x that are under way at once.
__host__ __device__ constexpr int inputDepth(int groups) { return groups == 1 ? 4 : 2; }

__host__ __device__ inline int normBytes(const MatrixStage &s) {
  return s.norm ? (s.cols * int(sizeof(float)) + 127) / 128 * 128 : 0;
}

__device__ inline void syncConsumers() { syncThreads(1, stageConsumers); }

/// What a result needs besides its sums; loaded ahead of them.
struct Operands {
  float a = 0, b = 0; // bias and residual; cosine and sine
  int64_t slot = 0;   // Qkv: where the element lies in the cache
};

/// The tokens are `Groups` groups of eight.
template <class T, StageForm Form, Prologue P, int Groups, int PassTiles> class StageConsumer {
  static constexpr bool withNorm = P != Prologue::None;
  static constexpr int sources = P == Prologue::AddNorm ? 2 : 1;
  static constexpr int depth = inputDepth(Groups);
  static constexpr bool ofRows = Form == StageForm::Rows || Form == StageForm::ExpertSum;
  static constexpr int results = ofRows ? tileRows : groupRows; // of a tile

public:
  /// `scratch`: the norm's weights, then x; later sums. `experts`: of stages of experts.
  __device__ StageConsumer(const MatrixStage &s, const StageInput &in, const StageExperts *experts, StageShared &shared,
                           uint32_t ring, int slots, float *scratch, int scratchBytes)
      : s(s), in(in), experts(experts), shared(shared), ring(ring), slots(slots), scratch(scratch),
        scratchBytes(scratchBytes), lane(threadIdx.x % warpSize), warp(threadIdx.x / warpSize), group(lane / 4),
        quad(lane % 4), inputs(sharedAddress(scratch) + normBytes(s) + warp * depth * inputBytes() + lane * 16),
        perToken(1.0f / float(in.tokens)) {}

  __device__ void run() {
    const int blocks = blocksOf<Form>(s, experts);
    if (threadIdx.x < stageTokens)
      shared.best[threadIdx.x] = 0;
    for (int pass = 0; pass * PassTiles < tilesOf<Form>(s, experts); ++pass) {
      if (pass == 0) {
        waitForPrevious();
      } else {
        if constexpr (withNorm)
          fenceShared(); // the scratch is written by a copy next
        syncConsumers(); // the pass before has been read
        if (withNorm && threadIdx.x == 0)
          loadNorm(s, shared, scratch);
      }
#pragma unroll 1
      for (int block = 0; block < depth; ++block) {
        if (block < blocks)
          loadInput(block);
        endCopies();
      }
      waitBarrier(&shared.listed[pass % 2], pass / 2 % 2);
      tiles = shared.tiles[pass % 2];
      count = shared.counts[pass % 2];
      const Operands first = operandsOf(int(threadIdx.x));
      if constexpr (withNorm)
        waitBarrier(&shared.norm, pass % 2);

      float sums[PassTiles][Groups][4] = {};
      float squares[Groups] = {};
#pragma unroll 1
      for (int block = 0; block < blocks; ++block) {
        uint32_t x[Groups][2][4];
        prepare(block, x, squares, pass == 0 && blockIdx.x == 0); // who writes x + addend
        if (block + depth < blocks)
          loadInput(block + depth);
        endCopies();
#pragma unroll
        for (int i = 0; i < PassTiles; ++i)
          if (i < count)
            multiplyTile(tiles[i].n0, tiles[i].n1, x, sums[i]);
      }
      if constexpr (withNorm) {
#pragma unroll
        for (int n = 0; n < Groups; ++n) {
          squares[n] += __shfl_xor_sync(allLanes, squares[n], 1);
          squares[n] += __shfl_xor_sync(allLanes, squares[n], 2);
          if (quad == 0)
            shared.squares[warp][n * 8 + group] = squares[n];
        }
      }
      finish(sums, first);
      __syncwarp();
      if (lane == 0)
        arrive(&shared.done[pass % 2]);
    }
    syncConsumers();
    if (Form == StageForm::Rows && s.best && int(threadIdx.x) < in.tokens)
      s.best[threadIdx.x * gridDim.x + blockIdx.x] = shared.best[threadIdx.x];
  }

private:
  /// Of ExpertSum: which of the experts in use a column block is of.
  __device__ int chosenOf(int block) const { return Form == StageForm::ExpertSum ? block / columnBlocks(s) : 0; }
  __device__ int columnOf(int block, int i) const {
    if constexpr (Form == StageForm::ExpertSum)
      block -= chosenOf(block) * columnBlocks(s);
    return block * tileColumns + warp * stageColumns + i * (stageColumns / 2) + quad * packElements;
  }

  /// A warp's part of a column block of x, and of the addend. A lane loads what it reads: of one token, 8 columns of
  /// each 32 of 64. Lanes of tokens that there are not have none.
  __device__ int inputBytes() const { return sources * 2 * in.tokens * 64; }
  __device__ uint32_t inputAt(int block, int source, int i, int n) const {
    return inputs + block % depth * inputBytes() + (source * 2 + i) * in.tokens * 64 + n * 8 * 64;
  }

  __device__ void loadInput(int block) const {
#pragma unroll
    for (int n = 0; n < Groups; ++n) {
      const int token = n * 8 + group;
      if (token >= in.tokens)
        continue;
      int line = token;
      if constexpr (Form == StageForm::ExpertSum)
        line = experts->placeOf[chosenOf(block)][token];
      const int64_t row = int64_t(line) * s.cols;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column = columnOf(block, i);
        const bool wanted = column < s.cols && line >= 0;
        const int64_t at = wanted ? row + column : 0;
        copyAsync16(inputAt(block, 0, i, n), static_cast<const T *>(in.x) + at, wanted);
        if constexpr (P == Prologue::AddNorm)
          copyAsync16(inputAt(block, 1, i, n), static_cast<const T *>(in.addend) + at, wanted);
      }
    }
  }

  /// x as an operand of the product: (x + addend) * (norm + its offset), and the sum of the squares.
  __device__ __forceinline__ void prepare(int block, uint32_t (&x)[Groups][2][4], float (&squares)[Groups],
                                          bool store) const {
    waitCopies<depth - 1>();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int column = columnOf(block, i);
      float norm[packElements] = {};
      if (withNorm && column < s.cols) {
        load8<true>(scratch + column, packElements, norm);
#pragma unroll
        for (int j = 0; j < packElements; ++j)
          norm[j] += s.normOffset;
      }
#pragma unroll
      for (int n = 0; n < Groups; ++n) {
        const int token = n * 8 + group;
        const bool wanted = token < in.tokens;
        const uint4 c = wanted ? loadShared16(inputAt(block, 0, i, n)) : make_uint4(0, 0, 0, 0);
        uint32_t raw[4] = {c.x, c.y, c.z, c.w};
        if constexpr (P == Prologue::AddNorm) {
          const uint4 d = wanted ? loadShared16(inputAt(block, 1, i, n)) : make_uint4(0, 0, 0, 0);
          const uint32_t addend[4] = {d.x, d.y, d.z, d.w};
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const float2 a = Pair<T>::toFloats(raw[j]), b = Pair<T>::toFloats(addend[j]);
            raw[j] = Pair<T>::fromFloats(a.x + b.x, a.y + b.y);
          }
          if (store && wanted && column < s.cols)
            *reinterpret_cast<uint4 *>(static_cast<T *>(in.sum) + int64_t(token) * s.cols + column) =
                make_uint4(raw[0], raw[1], raw[2], raw[3]);
        }
        if constexpr (Form == StageForm::ExpertSum) {
          const int place = wanted ? experts->placeOf[chosenOf(block)][token] : -1;
          const float weight = place >= 0 ? experts->weights[place] : 0;
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const float2 v = Pair<T>::toFloats(raw[j]);
            raw[j] = Pair<T>::fromFloats(v.x * weight, v.y * weight);
          }
        }
        if constexpr (withNorm) {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const float2 v = Pair<T>::toFloats(raw[j]);
            squares[n] = fmaf(v.x, v.x, squares[n]);
            squares[n] = fmaf(v.y, v.y, squares[n]);
            raw[j] = Pair<T>::fromFloats(v.x * (norm[2 * j] * inputScale), v.y * (norm[2 * j + 1] * inputScale));
          }
        }
#pragma unroll
        for (int j = 0; j < 4; ++j)
          x[n][i][j] = raw[j];
      }
    }
  }

  /// The warp's 64 columns of the tile that is next in the ring. A lane's 16 bytes of a row are the operands of two
  /// products: the columns are permuted, those of x in the same way. Of eight rows, lane group g reads row
  /// (g % 2) * 4 + g / 2: rows whose swizzled chunks lie in different banks.
  __device__ void multiplyTile(int n0, int n1, const uint32_t (&x)[Groups][2][4], float (&sum)[Groups][4]) {
    waitBarrier(&shared.full[place.slot], place.parity);
    const uint32_t tile = ring + place.slot * tileBytes;
    const int row0 = warp * n0 + rowOfGroup(), row1 = warp * n1 + rowOfGroup();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int chunk = i * 4 + quad;
      const uint4 a = loadShared16(tile + row0 * warpRowBytes + ((chunk ^ (row0 % 8)) * 16));
      const uint4 b = loadShared16(tile + halfTileBytes + row1 * warpRowBytes + ((chunk ^ (row1 % 8)) * 16));
#pragma unroll
      for (int n = 0; n < Groups; ++n) {
        multiply<T>(sum[n], a.x, b.x, a.y, b.y, x[n][i][0], x[n][i][1]);
        multiply<T>(sum[n], a.z, b.z, a.w, b.w, x[n][i][2], x[n][i][3]);
      }
    }
    __syncwarp();
    if (lane == 0)
      arrive(&shared.empty[place.slot]);
    place.advance(slots);
  }
  __device__ int rowOfGroup() const { return group % 2 * 4 + group / 2; }

  /// Adds up the warps' sums of some tiles at a time, and finishes their results.
  __device__ __forceinline__ void finish(const float (&sums)[PassTiles][Groups][4], const Operands &first) {
    const int tokens = in.tokens, perRound = scratchBytes / (stageWarps * tileRows * tokens * int(sizeof(float)));
#pragma unroll 1
    for (int begin = 0; begin < count; begin += perRound) {
      syncConsumers(); // what the scratch held has been read
      if (withNorm && begin == 0 && int(threadIdx.x) < tokens)
        makeScale(int(threadIdx.x));
#pragma unroll
      for (int i = 0; i < PassTiles; ++i)
        if (i >= begin && i < min(count, begin + perRound)) {
          float *to = scratch + ((i - begin) * stageWarps + warp) * tokens * tileRows + rowOfGroup();
#pragma unroll
          for (int j = 0; j < 2 * Groups; ++j)
            if (const int token = j / 2 * 8 + 2 * quad + j % 2; token < tokens) {
              to[token * tileRows] = sums[i][j / 2][j % 2];
              to[token * tileRows + groupRows] = sums[i][j / 2][2 + j % 2];
            }
        }
      syncConsumers();
      const int items = min(perRound, count - begin) * tokens * results;
      // Whole stageWarps: results meet in shuffles.
#pragma unroll 1
      for (int item = int(threadIdx.x); item - lane < items; item += stageConsumers) {
        const int all = begin * tokens * results + item;
        const Operands operands = all == int(threadIdx.x) ? first : operandsOf(all);
        result(all, item < items, begin, operands);
      }
    }
  }

  /// Of a weight's row and a token.
  __device__ float sumOf(int tile, int token, int row) const {
    const float *from = scratch + (tile * stageWarps * in.tokens + token) * tileRows + row;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < stageWarps; ++w)
      sum += from[w * in.tokens * tileRows];
    return sum;
  }
  /// 1 / RMS of a token, from all warps' sums of squares.
  __device__ void makeScale(int token) {
    float squares = 0;
#pragma unroll
    for (int w = 0; w < stageWarps; ++w)
      squares += shared.squares[w][token];
    shared.scales[token] = rsqrtf(squares / float(s.cols) + s.eps) * (1.0f / inputScale);
  }
  __device__ float scaleOf(int token) const { return withNorm ? shared.scales[token] : 1.0f; }

  /// Result `item` of the pass: result `at` of tile `tile` for a token. False: there is none.
  __device__ bool locate(int item, int &tile, int &token, int &at) const {
    at = item % results;
    tile = int((float(item / results) + 0.5f) * perToken); // exact: there are few items
    token = item / results - tile * in.tokens;
    if (tile >= count)
      return false;
    const StageTile &t = tiles[tile];
    if constexpr (ofRows)
      return at < groupRows ? at < t.n0 : at - groupRows < t.n1;
    return Form == StageForm::Qkv && s.style == RopeStyle::Interleaved ? 2 * at < t.n0 + t.n1 : at < t.n0;
  }

  __device__ Operands operandsOf(int item) const {
    Operands o;
    int i, token, at;
    if (!locate(item, i, token, at))
      return o;
    const StageTile &t = tiles[i];
    const StageWeight &w = s.weights[t.w0];
    if constexpr (ofRows) {
      const int row = t.r0 + at;
      if (w.bias.data)
        o.a = static_cast<const float *>(w.bias.data)[row];
      if (w.residual.data) // fresh: it may be what a stage before has written
        o.b = toFloat(loadFresh(static_cast<const T *>(w.residual.data) + token * w.yStride + row));
    } else if constexpr (Form == StageForm::Glu) {
      if (w.bias.data)
        o.a = static_cast<const float *>(w.bias.data)[t.r0 + at];
      if (s.weights[1].bias.data)
        o.b = static_cast<const float *>(s.weights[1].bias.data)[t.r0 + at];
    } else if constexpr (Form == StageForm::Qkv) {
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

  /// Finishes a result. All lanes come here; those without one take part in shuffles alone.
  __device__ __forceinline__ void result(int item, bool valid, int begin, const Operands &o) {
    int i, token, at;
    valid = locate(item, i, token, at) && valid;
    if constexpr (ofRows) {
      float y = 0;
      int row = 0;
      if (valid) {
        const StageTile &t = tiles[i];
        const StageWeight &w = s.weights[t.w0];
        row = t.r0 + at;
        y = (sumOf(i - begin, token, at) * scaleOf(token) + o.a) * s.factor + o.b;
        storeElement(w.y, token * w.yStride + row, y);
      }
      if (Form == StageForm::Rows && s.best)
        keepBest(valid && row < s.valid, row, token, y);
    } else if (valid) {
      if constexpr (Form == StageForm::Glu) {
        const float scale = scaleOf(token);
        const float gate = sumOf(i - begin, token, at) * scale + o.a;
        const float up = sumOf(i - begin, token, groupRows + at) * scale + o.b;
        storeElement(s.weights[0].y, token * s.weights[0].yStride + tiles[i].r0 + at, activated(gate) * up);
      } else if constexpr (Form == StageForm::ExpertGlu) {
        const StageTile &t = tiles[i];
        const int place = experts->placeOf[t.chosen][token], row = t.r0 - experts->ids[t.chosen] * s.weights[0].rows;
        if (place >= 0)
          storeElement(s.weights[0].y, place * s.weights[0].yStride + row + at,
                       activated(sumOf(i - begin, token, at)) * sumOf(i - begin, token, groupRows + at));
      } else {
        rotated(tiles[i], i - begin, token, at, o);
      }
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
  __device__ void rotated(const StageTile &t, int tile, int token, int at, const Operands &o) {
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
  const StageExperts *experts;
  StageShared &shared;
  const uint32_t ring;
  const int slots;
  float *scratch;
  const int scratchBytes;
  const int lane, warp, group, quad;
  const uint32_t inputs; // of this lane
  const float perToken;
  const StageTile *tiles = nullptr;
  int count = 0;
  Place place;
};

} // namespace distc::cuda
