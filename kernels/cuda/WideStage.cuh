// The warps of a wide matrix stage (WideStage.cu), and the shared memory in which they meet.
#pragma once

#include "kernels/cuda/StageResults.cuh"
#include "kernels/cuda/Wgmma.cuh"

namespace distc::cuda {

constexpr int groupTiles = 4; // 64 rows: what is multiplied together
constexpr int maxGroups = 4;  // whose sums stand in registers
constexpr int chunkBoxes = chunkColumns / stageColumns;
constexpr int maxWideSlots = 32, maxInputs = 12;
constexpr int helperThreads = 2 * warpGroup;

/// x and the addend, and how a block divides its shared memory.
struct WideInput {
  CUtensorMap x, addend;
  int inputs; // chunks of x
  int slots, slotBytes;
  int window; // slots of weights under way
};

struct WideShared {
  uint64_t full[maxWideSlots], empty[maxWideSlots];               // weights
  uint64_t landed[maxInputs], ready[maxInputs], taken[maxInputs]; // x; behind the norm; multiplied
  StageLists<maxGroups * groupTiles> lists;
  StageOutcome outcome;
};

/// Where they are in shared memory.
struct WideMemory {
  uint32_t ring, inputs, norms;
  float *scratch; // sums of a group of tiles
  WideShared *shared;
};

/// N tokens; sums of so many groups of tiles at a time.
template <Prologue Kind, int Tokens, int GroupCount> struct WideShape {
  static constexpr Prologue prologue = Kind;
  static constexpr bool withNorm = Kind != Prologue::None, withAddend = Kind == Prologue::AddNorm;
  static constexpr int N = Tokens, groups = GroupCount;
  static constexpr int passTiles = groups * groupTiles;
  static constexpr int halfBytes = groupRows * chunkColumns * 2; // of half a tile
  static constexpr int boxBytes = N * stageColumns * 2;          // of x
  static constexpr int sourceBytes = chunkBoxes * boxBytes;      // of a chunk of x, or of the addend
  static constexpr int inputBytes = (withAddend ? 2 : 1) * sourceBytes;
  static constexpr int normBytes = chunkColumns * int(sizeof(float));

  __device__ static int chunksOf(const MatrixStage &s) { return (s.cols + chunkColumns - 1) / chunkColumns; }
};

__device__ inline int groupsOf(int tiles) { return (tiles + groupTiles - 1) / groupTiles; }

/// A warp that streams the weights: tile after tile of a chunk of columns, then the next.
template <StageForm Form, class Shape>
__device__ inline void streamWeights(const MatrixStage &s, const WideInput &w, const WideMemory &memory) {
  WideShared &shared = *memory.shared;
  const int lane = threadIdx.x % warpSize;
  const uint64_t policy = evictFirst();
  Place place{0, 1}, landed; // a fresh barrier counts as ended before
  int underWay = 0;
  for (int pass = 0; pass * Shape::passTiles < s.maxTiles; ++pass) {
    const int count = shared.lists.write<Form>(s, nullptr, pass, Shape::passTiles);
    const StageTile *tiles = shared.lists.tiles[pass % 2];
#pragma unroll 1
    for (int chunk = 0; chunk < Shape::chunksOf(s); ++chunk)
#pragma unroll 1
      for (int first = 0; first < count; first += groupTiles) {
        // Each lane of eight copies half a tile: eight rows, of which some may belong to nobody here.
        const int i = first + lane / 2;
        const StageTile tile = lane < 2 * groupTiles && i < count ? tiles[i] : StageTile{};
        const bool second = lane % 2, any = (second ? tile.n1 : tile.n0) > 0;
        const int halves = __popc(__ballot_sync(allLanes, any));
        if (underWay == w.window) {
          waitBarrier(&shared.full[landed.slot], landed.parity);
          landed.advance(w.slots);
        } else {
          ++underWay;
        }
        waitBarrier(&shared.empty[place.slot], place.parity);
        uint64_t *full = &shared.full[place.slot];
        if (lane == 0)
          arriveExpecting(full, uint32_t(halves * Shape::halfBytes));
        __syncwarp();
        if (any)
          copyBox(memory.ring + place.slot * w.slotBytes + lane * Shape::halfBytes,
                  s.weights[second ? tile.w1 : tile.w0].maps->wide, second ? tile.r1 : tile.r0, chunkBoxes * chunk,
                  full, policy);
        place.advance(w.slots);
      }
    __syncwarp();
  }
  if (s.next)
    prefetchStage(*s.next, s.next->maxTiles <= groupTiles ? groupTiles : maxGroups * groupTiles, lane);
}

/// A thread that copies x, the addend and the norm's weights, in passes over all columns.
template <class Shape>
__device__ inline void streamInput(const MatrixStage &s, const WideInput &w, const WideMemory &memory) {
  WideShared &shared = *memory.shared;
  const int all = (s.maxTiles + Shape::passTiles - 1) / Shape::passTiles * Shape::chunksOf(s);
  const auto next = [&](int column) { return column + chunkColumns < s.cols ? column + chunkColumns : 0; };
  const auto begin = [&](int column, int stage) { // what no kernel before writes
    uint32_t bytes = Shape::inputBytes, ofNorm = 0;
    if constexpr (Shape::withNorm)
      bytes += ofNorm = uint32_t(min(chunkColumns, s.cols - column)) * sizeof(float);
    arriveExpecting(&shared.landed[stage], bytes);
    if constexpr (Shape::withNorm)
      copyBytes(memory.norms + stage * Shape::normBytes, s.norm + column, ofNorm, &shared.landed[stage]);
  };
  const auto copy = [&](int column, int stage) {
    const uint32_t to = memory.inputs + stage * Shape::inputBytes;
#pragma unroll 1
    for (int box = 0; box < chunkBoxes; ++box) {
      copyBox(to + box * Shape::boxBytes, &w.x, column + box * stageColumns, 0, &shared.landed[stage]);
      if constexpr (Shape::withAddend)
        copyBox(to + Shape::sourceBytes + box * Shape::boxBytes, &w.addend, column + box * stageColumns, 0,
                &shared.landed[stage]);
    }
  };
  Place place{0, 1};
  int column = 0;
  if constexpr (Shape::withNorm)
#pragma unroll 1
    for (int i = 0, c = 0; i < min(w.inputs, all); ++i, c = next(c))
      begin(c, i);
  waitForPrevious();
#pragma unroll 1
  for (int i = 0; i < all; ++i, column = next(column)) {
    waitBarrier(&shared.taken[place.slot], place.parity); // a fresh barrier counts as ended before
    if (!Shape::withNorm || i >= w.inputs)
      begin(column, place.slot);
    copy(column, place.slot);
    place.advance(w.inputs);
  }
}

/// The multiplier's 4 warps and the helpers: the sums of a group of tiles go through the scratch.
__device__ inline void syncSums() { syncThreads(1, warpGroup + helperThreads); }

/// The warp group that multiplies. Its thread's sums of a group of tiles are those of tile threadIdx.x / 32 of it.
template <class T, class Shape>
__device__ inline void multiplyTiles(const MatrixStage &s, const StageInput &in, const WideInput &w,
                                     const WideMemory &memory) {
  WideShared &shared = *memory.shared;
  constexpr int N = Shape::N;
  const int thread = threadIdx.x % warpGroup, lane = threadIdx.x % warpSize, chunks = Shape::chunksOf(s);
  const auto release = [&](int slot) {
    if (thread == 0)
      arrive(&shared.empty[slot == 0 ? w.slots - 1 : slot - 1]);
  };
  const auto releaseInput = [&](int stage) {
    if (thread == 0)
      arrive(&shared.taken[stage]);
  };
  Place place, input;
  float d[Shape::groups][N / 2];
  for (int pass = 0; pass * Shape::passTiles < s.maxTiles; ++pass) {
    const int count = shared.lists.read(pass), groups = groupsOf(count);
#pragma unroll 1
    for (int chunk = 0; chunk < chunks; ++chunk) {
      waitBarrier(Shape::withNorm ? &shared.ready[input.slot] : &shared.landed[input.slot], input.parity);
      const Operand x = operandOf(memory.inputs + input.slot * Shape::inputBytes);
#pragma unroll
      for (int g = 0; g < Shape::groups; ++g)
        if (g < groups) {
          waitBarrier(&shared.full[place.slot], place.parity);
          const Operand rows = operandOf(memory.ring + place.slot * w.slotBytes, Shape::halfBytes);
          settle(d[g]);
          beginProducts();
#pragma unroll
          for (int box = 0; box < chunkBoxes; ++box)
#pragma unroll
            for (int i = 0; i < stageColumns / 16; ++i)
              multiply<T, N>(d[g], further(rows, box * (Shape::halfBytes / chunkBoxes) + 32 * i),
                             further(x, box * Shape::boxBytes + 32 * i), chunk > 0 || box > 0 || i > 0);
          commitProducts();
          waitProducts<1>(); // those of the slot before, and at g = 0 of the chunk before
          if (chunk > 0 || g > 0)
            release(place.slot);
          if (g == 0 && chunk > 0)
            releaseInput(input.slot == 0 ? w.inputs - 1 : input.slot - 1);
          place.advance(w.slots);
        }
      if (groups == 0) {
        syncThreads(3, warpGroup); // all have seen it
        releaseInput(input.slot);
      }
      input.advance(w.inputs);
    }
    waitProducts<0>();
    if (groups > 0) {
      release(place.slot);
      releaseInput(input.slot == 0 ? w.inputs - 1 : input.slot - 1);
    }
    float *to = memory.scratch + thread / warpSize * in.tokens * tileRows + lane / 4;
#pragma unroll
    for (int g = 0; g < Shape::groups; ++g)
      if (g < groups) {
        syncSums(); // what the scratch held has been read
        settle(d[g]);
#pragma unroll
        for (int j = 0; j < N / 4; ++j)
          if (const int token = j / 2 * 8 + lane % 4 * 2 + j % 2; token < in.tokens) {
            to[token * tileRows] = d[g][j / 2 * 4 + j % 2];
            to[token * tileRows + groupRows] = d[g][j / 2 * 4 + 2 + j % 2];
          }
        syncSums();
      }
    shared.lists.release(pass);
  }
}

/// The warps beside it: x as an operand of the products where there is a norm; later the results.
template <class T, StageForm Form, class Shape> class WideHelper : StageResults<T, Form, Shape::prologue, 1> {
  using Base = StageResults<T, Form, Shape::prologue, 1>;
  using Base::inputScale, Base::results, Base::s, Base::in, Base::outcome, Base::lane, Base::tiles, Base::count,
      Base::exists, Base::operandsOf, Base::result, Base::setScale;
  static constexpr int ahead = 4; // results of a thread whose operands are on their way
  // Of two boxes of x, which are transformed together:
  static constexpr int N = Shape::N, pieces = 2 * stageColumns / packElements;
  static constexpr int tokenStep = helperThreads / pieces; // a thread's tokens lie so far from each other
  static_assert(N % tokenStep == 0 && tokenStep % 8 == 0 && chunkBoxes % 2 == 0);

public:
  __device__ WideHelper(const MatrixStage &s, const StageInput &in, const WideInput &w, const WideMemory &memory)
      : Base(s, in, nullptr, memory.shared->outcome, memory.scratch), w(w), memory(memory), shared(*memory.shared),
        thread(threadIdx.x - 2 * warpGroup), tokenResults(results * (s.maxTiles == 1   ? 1
                                                                     : s.maxTiles == 2 ? 2
                                                                                       : groupTiles)),
        firstToken(thread / tokenResults), tokenTurn(helperThreads / tokenResults),
        tile(thread % tokenResults / results), at(thread % results) {}

  __device__ void run() {
    waitForPrevious();
    if (thread < stageTokens)
      outcome.best[thread] = 0;
    for (int pass = 0; pass * Shape::passTiles < s.maxTiles; ++pass) {
      count = shared.lists.read(pass);
      tiles = shared.lists.tiles[pass % 2];
      next = {tile, firstToken};
#pragma unroll 1
      for (int i = 0; i < ahead; ++i)
        load();
      if constexpr (Shape::withNorm)
        transform(pass == 0);
#pragma unroll 1
      for (int g = 0; g < groupsOf(count); ++g) {
        syncSums(); // the scratch is free
        syncSums(); // and has sums
        // Whole warps: results meet in shuffles.
        const int i = g * groupTiles + tile;
        const bool any = exists(i, at);
#pragma unroll 1
        for (int token = firstToken; token - firstToken < in.tokens; token += tokenTurn) {
          const Operands now = operands[0];
          load();
          result(i, token, at, any && token < in.tokens, g * groupTiles, now);
        }
      }
      shared.lists.release(pass);
    }
    syncThreads(2, helperThreads);
    if (Base::mayKeepBest && s.best && thread < in.tokens)
      s.best[thread * gridDim.x + blockIdx.x] = outcome.best[thread];
  }

private:
  /// The operands of this thread's next result behind those that are on their way.
  __device__ void load() {
#pragma unroll
    for (int i = 0; i + 1 < ahead; ++i)
      operands[i] = operands[i + 1];
    operands[ahead - 1] =
        next.token < in.tokens && exists(next.tile, at) ? operandsOf(next.tile, next.token, at) : Operands{};
    next.token += tokenTurn;
    if (next.token - firstToken >= in.tokens)
      next = {next.tile + groupTiles, firstToken};
  }

  /// (x + addend) * (norm + its offset), in its place, and 1 / RMS of each token. A thread has 8 columns of a chunk,
  /// of each tokenStep-th token.
  __device__ void transform(bool firstPass) {
    const int piece = thread % pieces, first = thread / pieces;
    const uint32_t place =
        piece / packElements * Shape::boxBytes + first * stageColumns * 2 + ((piece % packElements) ^ (first % 8)) * 16;
    float squares[N / tokenStep] = {};
    int owner = 0; // the block that writes the chunk's x + addend
#pragma unroll 1
    for (int chunk = 0; chunk < Shape::chunksOf(s); ++chunk, owner = owner + 1 < int(gridDim.x) ? owner + 1 : 0) {
      waitBarrier(&shared.landed[input.slot], input.parity);
#pragma unroll 1
      for (int box = 0; box < chunkBoxes; box += 2) {
        const int ofChunk = box * stageColumns + piece * packElements;
        if (const int column = chunk * chunkColumns + ofChunk; column < s.cols)
          transformPieces(memory.inputs + input.slot * Shape::inputBytes + box * Shape::boxBytes + place,
                          memory.norms + input.slot * Shape::normBytes + ofChunk * int(sizeof(float)), first, column,
                          firstPass && owner == int(blockIdx.x), squares);
      }
      fenceShared();
      arrive(&shared.ready[input.slot]);
      input.advance(w.inputs);
    }
    if (!firstPass) // others may still read the scales, which stay
      return;
#pragma unroll
    for (int i = 0; i < N / tokenStep; ++i) {
#pragma unroll
      for (int offset = pieces / 2; offset > 0; offset /= 2)
        squares[i] += __shfl_xor_sync(allLanes, squares[i], offset);
      if (const int token = first + i * tokenStep; piece == 0 && token < in.tokens)
        setScale(token, squares[i]);
    }
  }

  __device__ __forceinline__ void transformPieces(uint32_t x, uint32_t norms, int first, int column, bool store,
                                                  float (&squares)[N / tokenStep]) const {
    float norm[packElements];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint4 v = loadShared16(norms + i * 16);
      const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int j = 0; j < 4; ++j)
        norm[i * 4 + j] = (__uint_as_float(words[j]) + s.normOffset) * inputScale;
    }
#pragma unroll
    for (int i = 0; i < N / tokenStep; ++i) {
      const int token = first + i * tokenStep;
      if (token >= in.tokens)
        continue;
      const uint32_t at = x + i * tokenStep * stageColumns * 2;
      const uint4 c = loadShared16(at);
      uint32_t raw[4] = {c.x, c.y, c.z, c.w};
      if constexpr (Shape::withAddend) {
        addPairs<T>(raw, loadShared16(at + Shape::sourceBytes));
        if (store)
          *reinterpret_cast<uint4 *>(static_cast<T *>(in.sum) + int64_t(token) * s.cols + column) =
              make_uint4(raw[0], raw[1], raw[2], raw[3]);
      }
      weigh<T>(raw, norm, squares[i]);
      storeShared16(at, make_uint4(raw[0], raw[1], raw[2], raw[3]));
    }
  }

  const WideInput &w;
  const WideMemory &memory;
  WideShared &shared;
  const int thread;
  // Results of a group of tiles are dealt out token by token; so a thread's are of one row of the group, and one of
  // each tokenTurn tokens.
  const int tokenResults, firstToken, tokenTurn, tile, at;
  Place input;
  Operands operands[ahead];
  struct {
    int tile, token;
  } next;
};

} // namespace distc::cuda
