// Products of many places with the weights of their experts, on Hopper's tensor cores. A cluster of two blocks is
// persistent and takes items, each 256 rows of an expert's weights and up to 256 of its places, which the blocks share:
// both multiply all of the rows, of which each copies half into both, so weights come from memory once, and from the
// second cache once for two multiprocessors. One warp group of a block copies: a thread the weights (tensor memory
// accelerator), all of them rows of x, which lie anywhere, 16 bytes at a time. The other two multiply: the weights are
// the operand of 64 rows, the places that of as many columns as there are, in steps of 16.
//
// Of a gated product an item has 128 rows of the gate and as many of the projection that the gate multiplies, so that
// both factors of an output meet in one thread.
#include "kernels/cuda/Activate.cuh"
#include "kernels/cuda/ExpertTiles.cuh"
#include "kernels/cuda/TensorMap.h"
#include "kernels/cuda/Wgmma.cuh"

#include <algorithm>

namespace distc::cuda {
namespace {

constexpr int consumers = 2; // warp groups
constexpr int threads = (1 + consumers) * warpGroup;
constexpr int clusterBlocks = 2;
constexpr int halfRows = 128, groupRows = 64; // of the weights: what a block copies; what a product takes
constexpr int blockPlaces = expertTilePlaces / clusterBlocks;
constexpr int placeStep = 16; // columns of products, and places that go out at a time
constexpr int placeSteps = blockPlaces / placeStep;
constexpr int tileDepth = 64; // what is summed over: 128 bytes
constexpr int lineBytes = tileDepth * 2;
constexpr int halfBytes = halfRows * lineBytes;
constexpr int stageBytes = 2 * halfBytes + blockPlaces * lineBytes;
constexpr int stages = 4;
constexpr int outBytes = placeStep * groupRows * 2; // on their way to memory: of a warp group, and twice
constexpr int ringBytes = stages * stageBytes, outsBytes = consumers * 2 * outBytes;
constexpr int sharedBytes = ringBytes + outsBytes + 2 * stages * int(sizeof(uint64_t));
static_assert(placeStep * groupRows == warpGroup * packElements); // a piece of each thread

template <class T> struct Arguments {
  CUtensorMap w[2]; // where the halves of an item's rows are
  const T *x;
  int repeat;
  ExpertLists lists;
  T *y;
  int rows, packs; // packs: of a row of x
  int tilesDown, depth;
  bool wholePieces; // of y: of 16 bytes, at multiples of them
  Activation activation;
};

/// A block's share of an item.
struct Item {
  int row;       // in the expert's
  int weightRow; // in all experts'
  int first, count;
};
template <int TileRows, class T> __device__ inline Item itemOf(const Arguments<T> &a, int index, int rank) {
  const ExpertTile tile = a.lists.tiles[index / a.tilesDown];
  const int tiles = tile.tiles(), within = index - tile.first * a.tilesDown;
  const int row = within / tiles * TileRows, share = within % tiles * clusterBlocks + rank;
  const auto bound = [&](int i) { return int(int64_t(tile.count) * i / (tiles * clusterBlocks)); };
  return {row, tile.expert * a.rows + row, tile.start + bound(share), bound(share + 1) - bound(share)};
}
__device__ inline int stepsOf(const Item &item) { return max(1, (item.count + placeStep - 1) / placeStep); }

/// f with a number of steps as a constant.
template <int Steps = 1, class F> __device__ inline void withSteps(int steps, F f) {
  if constexpr (Steps == placeSteps)
    f(std::integral_constant<int, Steps>());
  else if (steps == Steps)
    f(std::integral_constant<int, Steps>());
  else
    withSteps<Steps + 1>(steps, f);
}

struct Ring {
  char *memory;
  uint64_t *full, *empty;
  int stage = 0;
  uint32_t parity = 0;
  __device__ uint32_t address() const { return sharedAddress(memory) + stage * stageBytes; }
  __device__ void advance() {
    if (++stage == stages)
      stage = 0, parity ^= 1;
  }
};

template <class T, bool Gated> __device__ inline void produce(const Arguments<T> &a, Ring ring, int items, int rank) {
  constexpr int tileRows = Gated ? halfRows : 2 * halfRows;
  const int thread = int(threadIdx.x), line = thread / 8, piece = thread % 8;
  const int step = int(gridDim.x) / clusterBlocks;
  const uint32_t at = 2 * halfBytes + line * lineBytes + (piece ^ line % 8) * 16;
  // Where each of the thread's pieces is in x, in packs: of an item, and of the next.
  constexpr uint32_t nowhere = UINT32_MAX;
  const auto find = [&](int index, Item &item, uint32_t (&offsets)[placeSteps]) {
    if (index >= items)
      return;
    item = itemOf<tileRows>(a, index, rank);
#pragma unroll
    for (int i = 0; i < placeSteps; ++i) {
      const int j = line + i * placeStep;
      offsets[i] = j < item.count ? uint32_t(a.lists.places[item.first + j] / a.repeat) * uint32_t(a.packs) : nowhere;
    }
  };
  Item item, next;
  uint32_t offsets[placeSteps], nextOffsets[placeSteps];
  find(int(blockIdx.x) / clusterBlocks, next, nextOffsets);
  for (int index = int(blockIdx.x) / clusterBlocks; index < items; index += step) {
    item = next;
#pragma unroll
    for (int i = 0; i < placeSteps; ++i)
      offsets[i] = nextOffsets[i];
    const int steps = stepsOf(item);
    for (int k = 0; k < a.depth; ++k, ring.advance()) {
      waitBarrier(&ring.empty[ring.stage], ring.parity ^ 1);
      uint64_t *full = &ring.full[ring.stage];
      if (thread == 0) {
        arriveExpecting(full, 2 * halfBytes);
        copyBox(ring.memory + ring.stage * stageBytes + rank * halfBytes, &a.w[rank], k * tileDepth,
                item.weightRow + (Gated ? 0 : rank * halfRows), full, uint16_t((1 << clusterBlocks) - 1));
      }
      const uint32_t to = ring.address() + at;
      const int pack = k * 8 + piece;
#pragma unroll
      for (int i = 0; i < placeSteps; ++i)
        if (i < steps) {
          const bool wanted = offsets[i] != nowhere && pack < a.packs;
          copyAsync16(to + i * placeStep * lineBytes,
                      a.x + int64_t(wanted ? offsets[i] + uint32_t(pack) : 0) * packElements, wanted);
        }
      arriveAfterCopies(full);
      if (k == min(a.depth, stages) - 1) // the ring is full
        find(index + step, next, nextOffsets);
    }
  }
}

template <class T> __device__ inline void storePiece(const Arguments<T> &a, int place, int row, uint4 words) {
  T *const to = a.y + int64_t(place) * a.rows + row;
  if (a.wholePieces) {
    *reinterpret_cast<uint4 *>(to) = words;
    return;
  }
  Pack<T> pack;
  memcpy(&pack, &words, sizeof(pack));
#pragma unroll
  for (int e = 0; e < packElements; ++e)
    if (row + e < a.rows)
      to[e] = pack.e[e];
}

/// Stores what a warp group has of `groupRows` rows from `row` on, a step's values as valuesOf(step, values) gives
/// them; `places` are those of the thread's pieces.
template <class T, class F>
__device__ inline void storePlaces(const Arguments<T> &a, char *out, int &turn, int row, int steps,
                                   const int (&places)[placeSteps], F valuesOf) {
  const int thread = int(threadIdx.x) % warpGroup, warp = thread / warpSize, lane = thread % warpSize;
  const auto pieceAt = [&](int line, int piece) {
    return out + turn * outBytes + line * lineBytes + (piece ^ line % 8) * 16;
  };
#pragma unroll
  for (int i = 0; i < placeSteps; ++i)
    if (i < steps) {
      float values[8] = {};
      valuesOf(i, values);
      uint32_t words[4];
#pragma unroll
      for (int j = 0; j < 4; ++j)
        words[j] = Pair<T>::fromFloats(values[2 * j], values[2 * j + 1]);
      storeTransposed(sharedAddress(pieceAt(lane / 16 * 8 + lane % 8, warp * 2 + lane / 8 % 2)), words);
      syncThreads(1 + int(threadIdx.x) / warpGroup, warpGroup);
      const int line = thread / 8, piece = thread % 8;
      if (places[i] >= 0 && row + piece * packElements < a.rows)
        storePiece(a, places[i], row + piece * packElements, *reinterpret_cast<const uint4 *>(pieceAt(line, piece)));
      turn ^= 1; // the next sync is behind this read
    }
}

template <class T, bool Gated>
__device__ inline void consume(const Arguments<T> &a, Ring ring, char *outs, int items, int rank) {
  constexpr int tileRows = Gated ? halfRows : 2 * halfRows;
  const int group = int(threadIdx.x) / warpGroup - 1, thread = int(threadIdx.x) % warpGroup;
  char *const out = outs + group * 2 * outBytes;
  int turn = 0;
  const auto release = [&](int stage) { // to both blocks: each copies into this one
    if (thread < clusterBlocks)
      arriveAt(&ring.empty[stage], unsigned(thread));
  };
  float d[2][blockPlaces / 2];
  for (int index = int(blockIdx.x) / clusterBlocks; index < items; index += int(gridDim.x) / clusterBlocks) {
    const Item item = itemOf<tileRows>(a, index, rank);
    const int steps = stepsOf(item);
    int places[placeSteps];
#pragma unroll
    for (int i = 0; i < placeSteps; ++i) {
      const int j = thread / 8 + i * placeStep;
      places[i] = j < item.count ? a.lists.places[item.first + j] : -1;
    }
    withSteps(steps, [&](auto width) {
      constexpr int N = width.value * placeStep;
      int previous = 0;
      for (int k = 0; k < a.depth; ++k) {
        waitBarrier(&ring.full[ring.stage], ring.parity);
        fenceShared();
        const Operand w = operandOf(ring.address() + group * groupRows * lineBytes),
                      x = operandOf(ring.address() + 2 * halfBytes);
        settle(d[0]);
        settle(d[1]);
        beginProducts();
#pragma unroll
        for (int i = 0; i < tileDepth / 16; ++i)
#pragma unroll
          for (int half = 0; half < 2; ++half)
            multiply<T, N>(d[half], further(w, half * halfBytes + 32 * i), further(x, 32 * i), k > 0 || i > 0);
        commitProducts();
        if (k > 0) {
          waitProducts<1>();
          release(previous);
        }
        previous = ring.stage;
        ring.advance();
      }
      waitProducts<0>();
      release(previous);
    });
    settle(d[0]);
    settle(d[1]);
    const int row = item.row + group * groupRows;
    if constexpr (Gated) {
      storePlaces(a, out, turn, row, steps, places, [&](int i, float (&values)[8]) {
        forActivation(a.activation, [&](auto kind) {
#pragma unroll
          for (int j = 0; j < 8; ++j)
            values[j] = activateFast<kind.value>(d[0][8 * i + j]) * d[1][8 * i + j];
        });
      });
    } else {
#pragma unroll
      for (int half = 0; half < 2; ++half)
        storePlaces(a, out, turn, row + half * halfRows, steps, places, [&](int i, float (&values)[8]) {
#pragma unroll
          for (int j = 0; j < 8; ++j)
            values[j] = d[half][8 * i + j];
        });
    }
  }
}

template <class T, bool Gated>
__global__ void __launch_bounds__(threads, 1) groupedKernel(const __grid_constant__ Arguments<T> a) {
  char *const memory = reinterpret_cast<char *>(dynamicShared());
  auto *const full = reinterpret_cast<uint64_t *>(memory + ringBytes + outsBytes);
  const Ring ring{memory, full, full + stages};
  const int rank = int(clusterRank());
  if (threadIdx.x == 0) {
    prefetchMap(&a.w[rank]);
    for (int s = 0; s < stages; ++s) {
      initBarrier(&ring.full[s], 1 + warpGroup);
      initBarrier(&ring.empty[s], consumers * clusterBlocks);
    }
    fenceBarriers();
  }
  syncCluster();
  letNextStart();
  waitForPrevious(); // even the weights: which they are is said by the routes
  const int items = *a.lists.tileCount * a.tilesDown;
  if (threadIdx.x < warpGroup) {
    fewerRegisters<56>();
    produce<T, Gated>(a, ring, items, rank);
  } else {
    moreRegisters<224>();
    consume<T, Gated>(a, ring, memory + ringBytes, items, rank);
  }
  syncCluster(); // no block leaves while the other copies into it or arrives at its barriers
}

template <class T, bool Gated>
cudaError_t run(In x, int64_t repeat, void *lists, int64_t places, const ExpertMatrices &first, const void *second,
                Activation activation, void *y, cudaStream_t stream) {
  Arguments<T> a{{},
                 static_cast<const T *>(x.data),
                 int(repeat),
                 ExpertLists(lists, places, first.experts),
                 static_cast<T *>(y),
                 int(first.rows),
                 int(first.cols / packElements),
                 int(divideUp(first.rows, Gated ? halfRows : 2 * halfRows)),
                 int(divideUp(first.cols, tileDepth)),
                 wholePacks(first.rows, y),
                 activation};
  const void *const data[] = {first.data, second};
  for (int i = 0; i < 2; ++i)
    if (const cudaError_t error =
            mapMatrix({data[i], first.type, first.experts * first.rows, first.cols, first.cols}, halfRows, a.w[i]);
        error != cudaSuccess)
      return error;
  if (const cudaError_t error = allowShared<groupedKernel<T, Gated>>(sharedBytes); error != cudaSuccess)
    return error;
  const int64_t items = ExpertLists::maxTiles(places, first.experts) * a.tilesDown;
  if (items > INT32_MAX / 2)
    return cudaErrorInvalidValue;
  const auto blocks = unsigned(std::min<int64_t>(items, multiprocessors() / clusterBlocks) * clusterBlocks);
  return launchOverlapped(stream, groupedKernel<T, Gated>, dim3(blocks), threads, sharedBytes, clusterBlocks, a);
}

bool fits(int64_t repeat, int64_t places, const void *lists) {
  return places <= INT32_MAX / 2 && repeat >= 1 && repeat <= places && aligned16(lists);
}

} // namespace

bool groupedProductSuits(In x, int64_t places, const ExpertMatrices &w) {
  return x.type == w.type && x.type != Type::F32 && w.cols % packElements == 0 && aligned16(x.data, w.data) &&
         w.experts <= maxListedExperts && w.experts * w.rows <= INT32_MAX / 2 && w.cols <= INT32_MAX / 2 &&
         places * (w.cols / packElements) < UINT32_MAX; // where a row of x is, in packs
}

cudaError_t groupedProduct(In x, int64_t repeat, void *lists, int64_t places, const ExpertMatrices &w, void *y,
                           cudaStream_t stream) {
  if (places <= 0 || w.rows <= 0)
    return cudaSuccess;
  if (!groupedProductSuits(x, places, w) || !fits(repeat, places, lists))
    return cudaErrorInvalidValue;
  return x.type == Type::F16
             ? run<__half, false>(x, repeat, lists, places, w, w.data, Activation::Silu, y, stream)
             : run<__nv_bfloat16, false>(x, repeat, lists, places, w, w.data, Activation::Silu, y, stream);
}

cudaError_t groupedGatedProduct(In x, int64_t repeat, void *lists, int64_t places, const ExpertMatrices &gate,
                                const void *up, Activation activation, void *y, cudaStream_t stream) {
  if (places <= 0 || gate.rows <= 0)
    return cudaSuccess;
  if (!groupedProductSuits(x, places, gate) || !aligned16(up) || !fits(repeat, places, lists))
    return cudaErrorInvalidValue;
  return x.type == Type::F16 ? run<__half, true>(x, repeat, lists, places, gate, up, activation, y, stream)
                             : run<__nv_bfloat16, true>(x, repeat, lists, places, gate, up, activation, y, stream);
}

} // namespace distc::cuda
