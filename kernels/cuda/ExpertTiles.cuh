// The places of each expert, side by side and ascending, dealt out in tiles: what listExperts leaves in memory for
// products with their weights.
#pragma once

#include "kernels/cuda/Device.cuh"

namespace distc::cuda {

constexpr int expertTilePlaces = 256;

/// Of each tile of places; those of an expert follow each other.
struct alignas(16) ExpertTile {
  int expert;
  int first;        // of the expert's tiles
  int start, count; // the expert's places in the list
  __host__ __device__ int tiles() const { return (count + expertTilePlaces - 1) / expertTilePlaces; }
};

/// Where they are in the memory of `expertListBytes`.
struct ExpertLists {
  int *tileCount;
  ExpertTile *tiles;
  int *places;

  /// The most tiles there can be: of each expert one may be in part.
  __host__ __device__ static int64_t maxTiles(int64_t places, int64_t experts) {
    return (places < experts ? places : experts) + places / expertTilePlaces;
  }
  ExpertLists(void *memory, int64_t places, int64_t experts)
      : tileCount(static_cast<int *>(memory)), tiles(static_cast<ExpertTile *>(memory) + 1),
        places(reinterpret_cast<int *>(tiles + maxTiles(places, experts))) {}
};

} // namespace distc::cuda
