// The producer of a matrix stage (MatrixStage.cu), and the shared memory through which it meets the consumers; lists of
// tiles, and what is brought near of the next stage, in its wide form (WideStage.cuh) too.
//
// What is under way in memory delays whatever is asked for behind it: a few tiles keep memory busy, a whole ring of
// them would make x, of which nothing can be asked for earlier, wait for the ring. So there is a limit to the tiles
// under way. When a producer has no tiles left, it has the first ones of the next stage brought into the second cache,
// so that memory does not idle from one stage to the next.
#pragma once

#include "distc/kernels/CudaStage.h"
#include "kernels/cuda/Stage.cuh"
#include "kernels/cuda/WideStage.h"

namespace distc::cuda {

constexpr int stageWarps = tileColumns / stageColumns; // of consumers
constexpr int groupRows = tileRows / 2;
constexpr int halfTileBytes = tileBytes / 2;
constexpr int maxRingSlots = maxRingBytes / tileBytes;
constexpr int tilesUnderWay = 6;   // 4 keep memory busy; with 13, x comes late
constexpr int prefetchedTiles = 4; // of the next stage, for each multiprocessor
constexpr int maxPassTiles = 14;   // tiles whose sums a block keeps at a time: no more without spills

__host__ __device__ constexpr bool isOfExperts(StageForm form) {
  return form == StageForm::ExpertGlu || form == StageForm::ExpertSum;
}

/// The experts that the tokens of a step go to.
struct StageExperts {
  int count;                               // ascending, each once:
  int ids[expertPlaces];                   // of the expert
  int placeOf[expertPlaces][expertTokens]; // of a token, at that expert; -1: it does not go there
  float weights[expertPlaces];             // by place
  int wanted[expertPlaces];                // by place: the expert
  bool first[expertPlaces];                // by place: none before is of the same expert
};

struct StageOutcome {
  float scales[stageTokens];
  unsigned long long best[stageTokens];
};

__host__ __device__ inline int columnBlocks(const MatrixStage &s) { return (s.cols + tileColumns - 1) / tileColumns; }

/// Finds them in the routes; all threads of the block.
__device__ inline void findExperts(const MatrixStage &s, int tokens, StageExperts &experts) {
  const int place = int(threadIdx.x), places = tokens * s.count;
  int mine = 0;
  if (place < places) {
    experts.weights[place] = loadFresh(s.routes + 2 * place);
    mine = int(loadFresh(s.routes + 2 * place + 1));
    experts.wanted[place] = mine;
  }
  for (int i = place; i < expertPlaces * expertTokens; i += int(blockDim.x))
    experts.placeOf[i / expertTokens][i % expertTokens] = -1;
  __syncthreads();
  if (place < places) {
    bool first = true;
    for (int i = 0; i < place; ++i)
      first = first && experts.wanted[i] != mine;
    experts.first[place] = first;
  }
  __syncthreads();
  if (place < places) {
    int before = 0, all = 0;
    for (int i = 0; i < places; ++i) {
      all += experts.first[i];
      before += experts.first[i] && experts.wanted[i] < mine;
    }
    if (experts.first[place]) // one of those that write the same
      experts.ids[before] = mine;
    experts.placeOf[before][place / s.count] = place;
    if (place == 0)
      experts.count = all;
  }
  __syncthreads();
}

/// Goes through this block's tiles of ExpertGlu: an even share of all rows of all experts in use, one expert after the
/// other.
class ExpertTiles {
public:
  __device__ ExpertTiles(const MatrixStage &s, const StageExperts &experts)
      : experts(experts), rows(s.weights[0].rows), units(rows / rowUnit) {
    const int all = experts.count * units, blocks = int(gridDim.x), block = int(blockIdx.x);
    const int begin = all / blocks * block + min(block, all % blocks);
    left = all / blocks + (block < all % blocks);
    chosen = begin / units;
    at = begin - chosen * units;
  }
  /// How many a block has at most.
  __device__ static int most(const MatrixStage &s, const StageExperts &experts) {
    const int units = s.weights[0].rows / rowUnit, blocks = int(gridDim.x);
    const int share = (experts.count * units + blocks - 1) / blocks;
    return (share + groupRows / rowUnit - 1) / (groupRows / rowUnit) + share / units + 1;
  }
  /// The tile, none behind the last: no rows; moves on to the next.
  __device__ StageTile next() {
    if (left == 0)
      return {};
    const int n = min(min(left, groupRows / rowUnit), units - at);
    const int row = experts.ids[chosen] * rows + at * rowUnit;
    const StageTile tile{row, row, 0, uint8_t(n * rowUnit), 1, uint8_t(n * rowUnit), uint16_t(chosen)};
    left -= n;
    at += n;
    if (at == units) {
      at = 0;
      ++chosen;
    }
    return tile;
  }

private:
  const StageExperts &experts;
  const int rows, units; // of an expert
  int left, chosen, at;
};

/// A place in the ring, and the parity of its barrier's phase.
struct Place {
  int slot = 0;
  uint32_t parity = 0;

  __device__ void advance(int slots) {
    if (++slot == slots) {
      slot = 0;
      parity ^= 1;
    }
  }
};

/// What is done with x before the product.
enum class Prologue { None, Norm, AddNorm, LayerNorm, AddLayerNorm };
__host__ __device__ constexpr bool isLayerNorm(Prologue p) {
  return p == Prologue::LayerNorm || p == Prologue::AddLayerNorm;
}
__host__ __device__ constexpr bool hasAddend(Prologue p) {
  return p == Prologue::AddNorm || p == Prologue::AddLayerNorm;
}

/// The norm's weights, and biases behind them, into what is scratch later.
template <Prologue P> __device__ inline void loadNorm(const MatrixStage &s, uint64_t *barrier, float *scratch) {
  const uint32_t bytes = uint32_t(s.cols) * sizeof(float);
  const bool biased = isLayerNorm(P) && s.normBias;
  arriveExpecting(barrier, biased ? 2 * bytes : bytes);
  copyBytes(sharedAddress(scratch), s.norm, bytes, barrier);
  if (biased)
    copyBytes(sharedAddress(scratch) + bytes, s.normBias, bytes, barrier);
}

/// Tile `at` of this block; none behind the last: no rows.
__device__ inline StageTile tileAt(const MatrixStage &s, int at) {
  return at < s.maxTiles ? s.tiles[int(blockIdx.x) * s.maxTiles + at] : StageTile{};
}

/// Into the second cache, of what this block's successor in the next stage begins with: a tile for each lane.
__device__ inline void prefetchStage(const MatrixStage &s, int passTiles, int lane) {
  if (s.norm && blockIdx.x == 0 && lane == 0)
    prefetchBytes(s.norm, s.cols * int(sizeof(float)));
  const int count = __popc(__ballot_sync(allLanes, lane < passTiles && tileAt(s, lane).n0 > 0));
  const int block = count > 0 ? lane / count : 0;
  if (lane >= prefetchedTiles || count == 0 || block >= columnBlocks(s))
    return;
  const StageTile tile = tileAt(s, lane % count);
  const int at = block * (tileColumns / stageColumns);
  prefetchBox(s.weights[tile.w0].maps->box[tile.n0 / 2 - 1], tile.r0, at);
  if (tile.n1 > 0)
    prefetchBox(s.weights[tile.w1].maps->box[tile.n1 / 2 - 1], tile.r1, at);
}

/// How many column blocks a tile has: of ExpertSum those of all experts in use, one after the other.
template <StageForm Form> __device__ inline int blocksOf(const MatrixStage &s, const StageExperts *experts) {
  return Form == StageForm::ExpertSum ? experts->count * columnBlocks(s) : columnBlocks(s);
}
/// The most tiles that a block has.
template <StageForm Form> __device__ inline int tilesOf(const MatrixStage &s, const StageExperts *experts) {
  return Form == StageForm::ExpertGlu ? ExpertTiles::most(s, *experts) : s.maxTiles;
}
/// Lane i has tile i of the pass.
template <StageForm Form>
__device__ inline StageTile tileOfPass(const MatrixStage &s, const StageExperts *experts, int pass, int passTiles,
                                       int lane) {
  if constexpr (Form == StageForm::ExpertGlu) {
    ExpertTiles tiles(s, *experts);
    StageTile tile{};
    for (int i = lane < passTiles ? pass * passTiles + lane : -1; i >= 0; --i)
      tile = tiles.next();
    return tile;
  } else {
    return lane < passTiles ? tileAt(s, pass * passTiles + lane) : StageTile{};
  }
}

/// The tiles of a pass and the next, for which a producer's warp tells them to the warps that read them. Each lane
/// arrives for itself: a pass is long, and tools that look for races see no lane that arrives for its warp.
template <int Tiles> struct StageLists {
  uint64_t listed[2], done[2];
  StageTile tiles[2][Tiles];
  int counts[2];

  /// So many threads read them, whole warps.
  __device__ void init(int readers) {
    for (int i = 0; i < 2; ++i) {
      initBarrier(&listed[i], warpSize);
      initBarrier(&done[i], readers);
    }
  }
  /// All lanes of the warp; how many there are.
  template <StageForm Form>
  __device__ int write(const MatrixStage &s, const StageExperts *experts, int pass, int passTiles) {
    const int lane = threadIdx.x % warpSize;
    const StageTile mine = tileOfPass<Form>(s, experts, pass, passTiles, lane);
    const int count = __popc(__ballot_sync(allLanes, mine.n0 > 0));
    waitBarrier(&done[pass % 2], (pass / 2 + 1) % 2); // with the list of two passes before
    if (mine.n0 > 0)
      tiles[pass % 2][lane] = mine;
    if (lane == 0)
      counts[pass % 2] = count;
    __syncwarp(); // the warp reads them too
    arrive(&listed[pass % 2]);
    return count;
  }
  __device__ int read(int pass) {
    waitBarrier(&listed[pass % 2], pass / 2 % 2);
    return counts[pass % 2];
  }
  /// All lanes of a reader's warp.
  __device__ void release(int pass) { arrive(&done[pass % 2]); }
};

struct StageShared {
  uint64_t full[maxRingSlots], empty[maxRingSlots], norm;
  StageLists<maxPassTiles> lists;
  float squares[stageWarps][narrowTokens];
  StageOutcome outcome;
};

/// All lanes of the producer's warp.
template <StageForm Form>
__device__ inline void produce(const MatrixStage &s, const StageExperts *experts, StageShared &shared, uint32_t ring,
                               int slots, int passTiles, int nextPassTiles) {
  const int lane = threadIdx.x % warpSize, blocks = blocksOf<Form>(s, experts);
  const uint64_t policy = evictFirst();
  const int window = min(tilesUnderWay, slots);
  Place place{0, 1}, landed; // a fresh barrier counts as ended before
  int underWay = 0;
  for (int pass = 0; pass * passTiles < tilesOf<Form>(s, experts); ++pass) {
    const int count = shared.lists.write<Form>(s, experts, pass, passTiles);
    const StageTile *tiles = shared.lists.tiles[pass % 2];
    if (lane == 0) {
#pragma unroll 1
      for (int block = 0; block < blocks; ++block)
#pragma unroll 1
        for (int i = 0; i < count; ++i) {
          StageTile tile = tiles[i];
          int at = block * (tileColumns / stageColumns);
          if constexpr (Form == StageForm::ExpertSum) { // the same rows of each expert
            const int chosen = block / columnBlocks(s), row = experts->ids[chosen] * s.weights[0].rows;
            at -= chosen * columnBlocks(s) * (tileColumns / stageColumns);
            tile.r0 += row;
            tile.r1 += row;
          }
          if (underWay == window) {
            waitBarrier(&shared.full[landed.slot], landed.parity);
            landed.advance(slots);
          } else {
            ++underWay;
          }
          waitBarrier(&shared.empty[place.slot], place.parity);
          uint64_t *full = &shared.full[place.slot];
          arriveExpecting(full, uint32_t(tile.n0 + tile.n1) * tileColumns * 2);
          const uint32_t to = ring + place.slot * tileBytes;
          copyBox(to, s.weights[tile.w0].maps->box[tile.n0 / 2 - 1], tile.r0, at, full, policy);
          if (tile.n1 > 0)
            copyBox(to + halfTileBytes, s.weights[tile.w1].maps->box[tile.n1 / 2 - 1], tile.r1, at, full, policy);
          place.advance(slots);
        }
    }
    __syncwarp();
  }
  if (s.next)
    prefetchStage(*s.next, nextPassTiles, lane);
}

} // namespace distc::cuda
