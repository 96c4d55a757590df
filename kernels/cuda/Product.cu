// Products of many rows with weights: y = x wᵀ on Hopper's tensor cores. A block is persistent and has three warp
// groups: one of its threads copies tiles of x and w into a ring of shared memory, the other two multiply, each 64 of
// the 128 rows of a tile. Two blocks of a cluster take tiles below each other: each copies half of their tile of w
// into both. (The scheme is CUTLASS's warp-specialized persistent kernel's; the code is not.)
//
// Where there are too few tiles for all multiprocessors, what is summed over is split: a cluster has two or four such
// pairs, each sums over a part of the depth for the same tiles, and at the end each gets the sums of its share of the
// columns from the others, through the shared memory that the ring had.
//
// Of a gated product the first half of a tile's columns is of the gate and the second of the projection that the gate
// multiplies, so that both factors of an output meet in one thread.
#include "kernels/cuda/Activate.cuh"
#include "kernels/cuda/ProductRows.cuh"
#include "kernels/cuda/ProductTiling.h"
#include "kernels/cuda/TensorMap.h"

#include <cooperative_groups.h>

#include <algorithm>
#include <utility>

namespace distc::cuda {
namespace {

constexpr int tileRows = 128;
constexpr int tileDepth = 64; // what is summed over: 128 bytes
constexpr int consumers = 2;  // warp groups, 64 rows each
constexpr int threads = (1 + consumers) * warpGroup;
constexpr int tallGroup = 8; // pairs of tiles below each other that are done before the next column of tiles
constexpr int allStagingBytes = consumers * 4 * stagingBytes;
constexpr int sharedLimit = blockSharedBytes - allStagingBytes - 256; // of the ring; 256: its barriers

template <int N> constexpr int stageBytes = (tileRows + N) * tileDepth * 2;
template <int N> constexpr int stagesOf = std::min(6, sharedLimit / stageBytes<N>);

struct Arguments {
  CUtensorMap x, w;
  ProductPart parts[maxProductParts];
  int partEnds[maxProductParts]; // columns, of all parts
  const void *residual;
  int rows, columns;
  int depth; // tiles to sum over
  int tilesDown, tilesAcross;
  bool biased;
  Activation activation;
};

/// Where a cluster's item lies: tiles down (of pairs of blocks) and across.
struct Item {
  int down, across;
};
__device__ inline Item itemOf(const Arguments &a, int index) {
  const int down = (a.tilesDown + pairBlocks - 1) / pairBlocks;
  const int group = index / (tallGroup * a.tilesAcross), within = index % (tallGroup * a.tilesAcross);
  const int height = min(tallGroup, down - group * tallGroup);
  return {group * tallGroup + within % height, within / height};
}
__device__ inline int itemsOf(const Arguments &a) {
  return (a.tilesDown + pairBlocks - 1) / pairBlocks * a.tilesAcross;
}
/// Which part has a column, and where it starts in the columns of all.
__device__ inline int partOf(const Arguments &a, int column, int &start) {
  int part = 0;
  start = 0;
#pragma unroll
  for (int i = 0; i + 1 < maxProductParts; ++i)
    if (column >= a.partEnds[i])
      part = i + 1, start = a.partEnds[i];
  return part;
}

/// Stores the first `Columns` of a warp's 16 rows, `row` and `column` being those of the whole product. The residual is
/// added to what has been rounded.
template <class T, int Columns, int Size>
__device__ inline void storeRows(const Arguments &a, const float (&d)[Size], char *staging, int row, int column) {
  forAllPieces<T, Columns / 8>(d, staging, [&](int i, int j, uint4 words) {
    if (row + i >= a.rows || column + j >= a.columns)
      return;
    int start;
    const ProductPart &part = a.parts[partOf(a, column + j, start)];
    const int64_t at = (row + i) * part.columns + column + j - start;
    if (a.residual) {
      Pack<T> sum;
      memcpy(&sum, &words, sizeof(sum));
      const Pack<T> other = loadPack<true>(static_cast<const T *>(a.residual) + at, packElements);
#pragma unroll
      for (int e = 0; e < packElements; ++e)
        sum.e[e] = fromFloat<T>(toFloat(sum.e[e]) + toFloat(other.e[e]));
      memcpy(&words, &sum, sizeof(sum));
    }
    *reinterpret_cast<uint4 *>(static_cast<T *>(part.y) + at) = words;
  });
}

template <int N> __device__ inline void addBias(const Arguments &a, float (&d)[N / 2], int column) {
#pragma unroll
  for (int j = 0; j < N / 8; ++j) {
    const int at = column + j * 8 + int(threadIdx.x) % 4 * 2;
    int start;
    const ProductPart &part = a.parts[partOf(a, at, start)];
    if (part.bias && at < a.columns)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float bias = part.bias[at - start + e];
        d[4 * j + e] += bias;
        d[4 * j + 2 + e] += bias;
      }
  }
}

/// Adds up the sums of the parts of a cluster: each gets those of its share of the columns. The ring is free in all
/// blocks, and each consumer's part of it is for those with the same rows.
template <int Split, int Columns>
__device__ inline void addParts(const float (&d)[Columns * Split / 2], float (&sum)[Columns / 2], char *ring,
                                int rank) {
  constexpr int share = Columns / 2, senders = consumers * warpGroup;
  const auto placeOf = [&](char *memory, int part, int i) {
    return reinterpret_cast<float4 *>(memory) + (part * share + i) / 4 * senders + int(threadIdx.x) - warpGroup;
  };
#pragma unroll
  for (int part = 0; part < Split; ++part) {
    if (part == rank / pairBlocks) {
#pragma unroll
      for (int i = 0; i < share; ++i)
        sum[i] = d[part * share + i];
      continue;
    }
    char *const to = cooperative_groups::this_cluster().map_shared_rank(ring, part * pairBlocks + rank % pairBlocks);
#pragma unroll
    for (int i = 0; i < share; i += 4) {
      const float *const v = d + part * share + i;
      *placeOf(to, rank / pairBlocks, i) = {v[0], v[1], v[2], v[3]};
    }
  }
  syncCluster();
#pragma unroll
  for (int part = 0; part < Split; ++part)
    if (part != rank / pairBlocks)
#pragma unroll
      for (int i = 0; i < share; i += 4) {
        const float4 v = *placeOf(ring, part, i);
        sum[i] += v.x;
        sum[i + 1] += v.y;
        sum[i + 2] += v.z;
        sum[i + 3] += v.w;
      }
}

/// Split: parts of the depth; with several, a cluster has one item.
template <class T, int N, int Split, bool Gated>
__global__ void __launch_bounds__(threads, 1) productKernel(const __grid_constant__ Arguments a) {
  constexpr int stages = stagesOf<N>, halfColumns = N / 2;
  constexpr int xBytes = tileRows * tileDepth * 2, halfBytes = halfColumns * tileDepth * 2;
  char *const ring = reinterpret_cast<char *>(dynamicShared()); // then the staging, the barriers
  uint64_t *const full = reinterpret_cast<uint64_t *>(ring + stages * stageBytes<N> + allStagingBytes);
  uint64_t *const empty = full + stages;
  const int rank = int(clusterRank()), row = rank % pairBlocks, part = rank / pairBlocks;
  const int firstDepth = part * a.depth / Split, depth = (part + 1) * a.depth / Split - firstDepth;
  if (threadIdx.x == 0) {
    prefetchMap(&a.x);
    for (int s = 0; s < stages; ++s) {
      initBarrier(&full[s], 1);
      initBarrier(&empty[s], consumers * pairBlocks);
    }
    fenceBarriers();
  }
  syncCluster();
  letNextStart();

  const int items = itemsOf(a), step = int(gridDim.x) / (pairBlocks * Split);
  const int begin = int(blockIdx.x) / (pairBlocks * Split);
  if (threadIdx.x < warpGroup) {
    fewerRegisters<40>();
    if (threadIdx.x == 0) {
      // Walks through the tiles to sum over, of one item after the other.
      struct Cursor {
        int index, k = 0;
        int row = 0, weightRow = 0;
      };
      const auto find = [&](Cursor &c) {
        const Item item = itemOf(a, c.index);
        c.row = (item.down * pairBlocks + row) * tileRows;
        c.weightRow = Gated ? item.across * halfColumns + row * a.columns : item.across * N + row * halfColumns;
      };
      const auto advance = [&](Cursor &c) {
        if (++c.k == depth) {
          c.k = 0;
          c.index += step;
          find(c);
        }
      };
      const auto copyWeight = [&](const Cursor &c, int stage) {
        copyBox(ring + stage * stageBytes<N> + xBytes + row * halfBytes, &a.w, (firstDepth + c.k) * tileDepth,
                c.weightRow, &full[stage], uint16_t(((1 << pairBlocks) - 1) << part * pairBlocks));
      };
      const auto copyInput = [&](const Cursor &c, int stage) {
        copyBox(sharedAddress(ring + stage * stageBytes<N>), &a.x, (firstDepth + c.k) * tileDepth, c.row, &full[stage]);
      };
      Cursor weights{begin}, inputs{begin};
      find(weights);
      find(inputs);
      // Weights are nobody's output: those of the first turn of the ring are under way before the kernel before ends.
      const int64_t total = begin < items ? int64_t((items - begin - 1) / step + 1) * depth : 0;
      const int ahead = int(min(int64_t(stages), total));
      for (int i = 0; i < ahead; ++i, advance(weights)) {
        arriveExpecting(&full[i], stageBytes<N>);
        copyWeight(weights, i);
      }
      waitForPrevious();
      for (int i = 0; i < ahead; ++i, advance(inputs))
        copyInput(inputs, i);
      int stage = 0;
      uint32_t parity = 0;
      for (int64_t i = stages; i < total; ++i, advance(inputs)) {
        waitBarrier(&empty[stage], parity);
        arriveExpecting(&full[stage], stageBytes<N>);
        copyWeight(inputs, stage);
        copyInput(inputs, stage);
        if (++stage == stages)
          stage = 0, parity ^= 1;
      }
    }
  } else {
    moreRegisters<232>();
    waitForPrevious(); // what is stored may be what it reads
    const int group = int(threadIdx.x) / warpGroup - 1;
    const auto release = [&](int stage) { // to both blocks of the pair: each copies into this one
      if (threadIdx.x % warpGroup < pairBlocks)
        arriveAt(&empty[stage], unsigned(part * pairBlocks) + threadIdx.x % warpGroup);
    };
    int stage = 0;
    uint32_t parity = 0;
    float d[N / 2];
    for (int index = begin; index < items; index += step) {
      for (int k = 0; k < depth; ++k) {
        waitBarrier(&full[stage], parity);
        const uint32_t tiles = sharedAddress(ring + stage * stageBytes<N>);
        const Operand x = operandOf(tiles + group * 64 * tileDepth * 2), w = operandOf(tiles + xBytes);
        settle(d);
        beginProducts();
#pragma unroll
        for (int i = 0; i < tileDepth / 16; ++i)
          multiply<T, N>(d, further(x, 32 * i), further(w, 32 * i), k > 0 || i > 0);
        commitProducts();
        if (k > 0) {
          waitProducts<1>();
          release(stage == 0 ? stages - 1 : stage - 1);
        }
        if (++stage == stages)
          stage = 0, parity ^= 1;
      }
      waitProducts<0>();
      settle(d);
      release(stage == 0 ? stages - 1 : stage - 1);

      const Item item = itemOf(a, index);
      const int warp = int(threadIdx.x) / warpSize - warpGroup / warpSize;
      const int firstRow = (item.down * pairBlocks + row) * tileRows + warp * 16;
      char *const staging = ring + stages * stageBytes<N> + warp * stagingBytes;
      if constexpr (Gated) {
        forActivation(a.activation, [&](auto kind) {
#pragma unroll
          for (int i = 0; i < N / 4; ++i)
            d[i] = activateFast<kind.value>(d[i]) * d[i + N / 4];
        });
        storeRows<T, halfColumns>(a, d, staging, firstRow, item.across * halfColumns);
      } else if constexpr (Split > 1) {
        constexpr int columns = N / Split;
        float sum[columns / 2];
        syncCluster();
        addParts<Split, columns>(d, sum, ring, rank);
        if (a.biased)
          addBias<columns>(a, sum, item.across * N + part * columns);
        storeRows<T, columns>(a, sum, staging, firstRow, item.across * N + part * columns);
      } else {
        if (a.biased)
          addBias<N>(a, d, item.across * N);
        storeRows<T, N>(a, d, staging, firstRow, item.across * N);
      }
    }
  }
  // No block leaves while another of its cluster copies into it, arrives at its barriers or sends it sums.
  if constexpr (Split == 1) {
    syncCluster();
  } else if (threadIdx.x < warpGroup) { // the consumers have been at both meetings
    syncCluster();
    syncCluster();
  }
}

template <int N> constexpr size_t sharedBytes = stagesOf<N> * (stageBytes<N> + 2 * sizeof(uint64_t)) + allStagingBytes;

/// Clusters of so many pairs that run at once.
template <int Split> int clustersAtOnce() {
  static const int count = [] {
    constexpr auto kernel = productKernel<__half, 128, Split, false>;
    if (allowShared<productKernel<__half, 128, Split, false>>(sharedBytes<128>) != cudaSuccess)
      return 0;
    return activeClusters(kernel, threads, sharedBytes<128>, pairBlocks * Split);
  }();
  return count;
}

template <class T, int N, int Split, bool Gated>
cudaError_t launchTiles(Arguments &a, const Matrix &w, cudaStream_t stream) {
  constexpr size_t bytes = sharedBytes<N>;
  if (const cudaError_t error = mapMatrix(w, N / 2, a.w); error != cudaSuccess)
    return error;
  if (const cudaError_t error = allowShared<productKernel<T, N, Split, Gated>>(bytes); error != cudaSuccess)
    return error;
  a.tilesAcross = int(divideUp(a.columns, Gated ? N / 2 : N));
  constexpr int clusterBlocks = pairBlocks * Split;
  const int64_t items = divideUp(a.tilesDown, pairBlocks) * a.tilesAcross;
  const auto blocks =
      unsigned((Split > 1 ? items : std::min<int64_t>(items, multiprocessors() / pairBlocks)) * clusterBlocks);
  return launchOverlapped(stream, productKernel<T, N, Split, Gated>, dim3(blocks), threads, bytes, clusterBlocks, a);
}

template <class T, size_t... I>
cudaError_t launchBest(Arguments &a, const Matrix &w, bool gated, int best, cudaStream_t stream,
                       std::index_sequence<I...>) {
  cudaError_t error = cudaErrorInvalidValue;
  const auto launchIf = [&](auto index) {
    constexpr Tiling t = tilings[index.value];
    if (int(index.value) != best)
      return;
    if (!gated)
      error = launchTiles<T, t.width, t.split, false>(a, w, stream);
    else if constexpr (t.split == 1)
      error = launchTiles<T, t.width, 1, true>(a, w, stream);
  };
  (launchIf(std::integral_constant<size_t, I>()), ...);
  return error;
}

cudaError_t run(In x, int64_t rows, const Matrix &w, Arguments &a, bool gated, cudaStream_t stream) {
  if (rows <= 0)
    return cudaSuccess;
  if (rows > INT32_MAX / 2)
    return cudaErrorInvalidValue;
  if (const cudaError_t error = mapMatrix({x.data, x.type, rows, w.cols, w.cols}, tileRows, a.x); error != cudaSuccess)
    return error;
  a.rows = int(rows);
  a.depth = int(divideUp(w.cols, tileDepth));
  a.tilesDown = int(divideUp(rows, tileRows));
  const int clusters[] = {multiprocessors() / pairBlocks, clustersAtOnce<2>(), clustersAtOnce<4>()};
  const int best = bestTiling(divideUp(a.tilesDown, pairBlocks), a.columns, a.depth, gated, clusters);
  constexpr auto all = std::make_index_sequence<std::size(tilings)>();
  return x.type == Type::F16 ? launchBest<__half>(a, w, gated, best, stream, all)
                             : launchBest<__nv_bfloat16>(a, w, gated, best, stream, all);
}

} // namespace

bool productSuits(In x, const Matrix &w) {
  return x.type != Type::F32 && w.type == x.type && w.cols % packElements == 0 && w.rowStride % packElements == 0 &&
         aligned16(x.data, w.data) && w.rows <= INT32_MAX / 2 && w.cols <= INT32_MAX / 2;
}

cudaError_t product(In x, int64_t rows, const Matrix &w, const ProductPart *parts, int count, In residual,
                    cudaStream_t stream) {
  if (!productSuits(x, w) || count < 1 || count > maxProductParts ||
      (residual.data && (count != 1 || residual.type != x.type || !aligned16(residual.data))))
    return cudaErrorInvalidValue;
  Arguments a{};
  for (int i = 0; i < maxProductParts; ++i) {
    if (i < count) {
      if (!aligned16(parts[i].y) || parts[i].columns % packElements != 0)
        return cudaErrorInvalidValue;
      a.parts[i] = parts[i];
      a.columns += int(parts[i].columns);
      a.biased = a.biased || parts[i].bias;
    }
    a.partEnds[i] = a.columns;
  }
  if (a.columns != w.rows)
    return cudaErrorInvalidValue;
  a.residual = residual.data;
  return run(x, rows, w, a, false, stream);
}

cudaError_t gatedProduct(In x, int64_t rows, const Matrix &w, Activation activation, void *y, cudaStream_t stream) {
  if (!productSuits(x, w) || w.rows % (2 * packElements) != 0 || !aligned16(y))
    return cudaErrorInvalidValue;
  Arguments a{};
  a.columns = int(w.rows / 2);
  a.parts[0] = {y, nullptr, a.columns};
  std::fill_n(a.partEnds, maxProductParts, a.columns);
  a.activation = activation;
  return run(x, rows, w, a, true, stream);
}

} // namespace distc::cuda
