// The consumers of a matrix stage (MatrixStage.cu): eight warps that multiply the tiles of the ring by x and finish the
// results.
//
// The order of a sum: inside a column block by the tensor core, then the blocks of a warp, then the warps. It depends
// on the number of columns alone.
#pragma once

#include "kernels/cuda/StageResults.cuh"

namespace distc::cuda {

constexpr int stageConsumers = stageWarps * warpSize; // threads
constexpr int warpRowBytes = stageColumns * 2;        // of a tile: one warp's part of a row

/// Column blocks of x that are under way at once.
__host__ __device__ constexpr int inputDepth(int groups) { return groups == 1 ? 4 : 2; }

/// Of the norm's weights, and its biases where it has them.
__host__ __device__ inline int normBytes(const MatrixStage &s, Prologue p) {
  const int rows = isLayerNorm(p) ? 2 : p != Prologue::None ? 1 : 0;
  return (rows * s.cols * int(sizeof(float)) + 127) / 128 * 128;
}

__device__ inline void syncConsumers() { syncThreads(1, stageConsumers); }

/// The tokens are `Groups` groups of eight.
template <class T, StageForm Form, Prologue P, int Groups, int PassTiles>
class StageConsumer : StageResults<T, Form, P, stageWarps> {
  using Base = StageResults<T, Form, P, stageWarps>;
  using Base::withNorm, Base::withScale, Base::mayKeepBest, Base::inputScale, Base::results, Base::s, Base::in,
      Base::experts, Base::outcome, Base::scratch, Base::lane, Base::tiles, Base::count, Base::exists, Base::operandsOf,
      Base::result, Base::setScale;
  static_assert(!isLayerNorm(P) || Groups == 1);
  static constexpr int sources = hasAddend(P) ? 2 : 1;
  static constexpr int depth = inputDepth(Groups);

public:
  /// `scratch`: the norm's weights, then x; later sums. `experts`: of stages of experts.
  __device__ StageConsumer(const MatrixStage &s, const StageInput &in, const StageExperts *experts, StageShared &shared,
                           uint32_t ring, int slots, float *scratch, int scratchBytes)
      : Base(s, in, experts, shared.outcome, scratch), perToken(1.0f / float(in.tokens)), shared(shared), ring(ring),
        slots(slots), scratchBytes(scratchBytes), warp(threadIdx.x / warpSize), group(lane / 4), quad(lane % 4),
        inputs(sharedAddress(scratch) + normBytes(s, P) + warp * depth * inputBytes() + lane * 16) {}

  __device__ void run() {
    const int blocks = blocksOf<Form>(s, experts);
    if (threadIdx.x < narrowTokens)
      outcome.best[threadIdx.x] = 0;
    for (int pass = 0; pass * PassTiles < tilesOf<Form>(s, experts); ++pass) {
      if (pass == 0) {
        waitForPrevious();
      } else {
        if constexpr (withNorm)
          fenceShared(); // the scratch is written by a copy next
        syncConsumers(); // the pass before has been read
        if (withNorm && threadIdx.x == 0)
          loadNorm<P>(s, &shared.norm, scratch);
      }
#pragma unroll 1
      for (int block = 0; block < depth; ++block) {
        if (block < blocks)
          loadInput(block);
        endCopies();
      }
      count = shared.lists.read(pass);
      tiles = shared.lists.tiles[pass % 2];
      const Operands first = operandsAt(int(threadIdx.x));
      if constexpr (withNorm)
        waitBarrier(&shared.norm, pass % 2);
      if constexpr (isLayerNorm(P))
        if (pass == 0)
          makeMoments(blocks);

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
      if constexpr (withScale) {
#pragma unroll
        for (int n = 0; n < Groups; ++n) {
          squares[n] += __shfl_xor_sync(allLanes, squares[n], 1);
          squares[n] += __shfl_xor_sync(allLanes, squares[n], 2);
          if (quad == 0)
            shared.squares[warp][n * 8 + group] = squares[n];
        }
      }
      finish(sums, first);
      shared.lists.release(pass);
    }
    syncConsumers();
    if (mayKeepBest && s.best && int(threadIdx.x) < in.tokens)
      s.best[threadIdx.x * gridDim.x + blockIdx.x] = outcome.best[threadIdx.x];
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
        if constexpr (hasAddend(P))
          copyAsync16(inputAt(block, 1, i, n), static_cast<const T *>(in.addend) + at, wanted);
      }
    }
  }

  /// The sum of f over the elements of this lane's token, x + addend, from all warps; `place`: of their parts.
  template <class F> __device__ float sumOfToken(int blocks, int place, F f) {
    float sum = 0;
#pragma unroll 1
    for (int block = 0; block < blocks; ++block)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column = columnOf(block, i);
        if (group >= in.tokens || column >= s.cols)
          continue;
        const auto element = [&](int source, const void *from) {
          return block < depth ? loadShared16(inputAt(block, source, i, 0))
                               : loadFresh16(static_cast<const T *>(from) + int64_t(group) * s.cols + column);
        };
        const uint4 c = element(0, in.x);
        uint32_t raw[4] = {c.x, c.y, c.z, c.w};
        if constexpr (hasAddend(P))
          addPairs<T>(raw, element(1, in.addend));
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float2 v = Pair<T>::toFloats(raw[j]);
          sum += f(v.x);
          sum += f(v.y);
        }
      }
    sum += __shfl_xor_sync(allLanes, sum, 1);
    sum += __shfl_xor_sync(allLanes, sum, 2);
    if (quad == 0)
      shared.squares[warp][place * 8 + group] = sum;
    syncConsumers();
    sum = 0;
#pragma unroll
    for (int w = 0; w < stageWarps; ++w)
      sum += shared.squares[w][place * 8 + group];
    return sum;
  }
  /// Of this lane's token, from what the ring holds of x first, and from memory what it does not.
  __device__ void makeMoments(int blocks) {
    waitCopies<0>();
    mean = sumOfToken(blocks, 0, [](float x) { return x; }) / float(s.cols);
    const float squares = sumOfToken(blocks, 1, [this](float x) { return (x - mean) * (x - mean); });
    perDeviation = 1.0f / sqrtf(squares / float(s.cols) + s.eps);
  }

  /// x as an operand of the product: (x + addend) * (norm + its offset), and the sum of the squares; or the layer norm.
  __device__ __forceinline__ void prepare(int block, uint32_t (&x)[Groups][2][4], float (&squares)[Groups],
                                          bool store) const {
    waitCopies<depth - 1>();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int column = columnOf(block, i);
      float norm[packElements] = {}, bias[packElements] = {};
      if (withNorm && column < s.cols) {
        load8<true>(scratch + column, packElements, norm);
        if (isLayerNorm(P) && s.normBias)
          load8<true>(scratch + s.cols + column, packElements, bias);
#pragma unroll
        for (int j = 0; withScale && j < packElements; ++j)
          norm[j] = (norm[j] + s.normOffset) * inputScale;
      }
#pragma unroll
      for (int n = 0; n < Groups; ++n) {
        const int token = n * 8 + group;
        const bool wanted = token < in.tokens;
        const uint4 c = wanted ? loadShared16(inputAt(block, 0, i, n)) : make_uint4(0, 0, 0, 0);
        uint32_t raw[4] = {c.x, c.y, c.z, c.w};
        if constexpr (hasAddend(P)) {
          addPairs<T>(raw, wanted ? loadShared16(inputAt(block, 1, i, n)) : make_uint4(0, 0, 0, 0));
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
        if constexpr (isLayerNorm(P)) {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const float2 v = Pair<T>::toFloats(raw[j]);
            raw[j] = Pair<T>::fromFloats((v.x - mean) * perDeviation * norm[2 * j] + bias[2 * j],
                                         (v.y - mean) * perDeviation * norm[2 * j + 1] + bias[2 * j + 1]);
          }
        } else if constexpr (withNorm) {
          weigh<T>(raw, norm, squares[n]);
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
      if (withScale && begin == 0 && int(threadIdx.x) < tokens) {
        float squares = 0;
#pragma unroll
        for (int w = 0; w < stageWarps; ++w)
          squares += shared.squares[w][threadIdx.x];
        setScale(int(threadIdx.x), squares);
      }
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
        const Operands operands = all == int(threadIdx.x) ? first : operandsAt(all);
        int i, token, at;
        const bool valid = locate(all, i, token, at) && item < items;
        result(i, token, at, valid, begin, operands);
      }
    }
  }

  /// Result `item` of the pass: result `at` of tile `tile` for a token. False: there is none.
  __device__ bool locate(int item, int &tile, int &token, int &at) const {
    at = item % results;
    tile = int((float(item / results) + 0.5f) * perToken); // exact: there are few items
    token = item / results - tile * in.tokens;
    return exists(tile, at);
  }
  __device__ Operands operandsAt(int item) const {
    int i, token, at;
    return locate(item, i, token, at) ? operandsOf(i, token, at) : Operands{};
  }

  const float perToken;
  StageShared &shared;
  const uint32_t ring;
  const int slots;
  const int scratchBytes;
  const int warp, group, quad;
  const uint32_t inputs;            // of this lane
  float mean = 0, perDeviation = 0; // of this lane's token
  Place place;
};

} // namespace distc::cuda
