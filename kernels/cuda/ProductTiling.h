// How a product is cut into tiles (Product.cu).
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>

namespace distc::cuda {

constexpr int pairBlocks = 2; // of a cluster, which share tiles of w; a cluster has a pair for each part of the depth

/// Columns of a tile and parts of the depth.
struct Tiling {
  int width, split;
};
constexpr Tiling tilings[] = {{128, 1}, {192, 1}, {224, 1}, {256, 1}, {128, 2},
                              {144, 2}, {160, 2}, {192, 2}, {128, 4}, {192, 4}};

/// Which of the tilings is done first, by times measured on an H200: 64 of the depth take 2.15 ns for each column of a
/// tile and 1 ns more for each block that is at work; to add up parts takes 3 us. `down`: pairs of tiles below each
/// other; `depth` in tiles; `clusters`: how many run at once with one, two and four parts. Parts are for products that
/// are not gated, and have all of their clusters at once.
inline int bestTiling(int64_t down, int64_t columns, int64_t depth, bool gated, const int (&clusters)[3]) {
  int best = 0;
  int64_t least = INT64_MAX;
  for (int i = 0; i < int(std::size(tilings)); ++i) {
    const auto [width, split] = tilings[i];
    const int tileColumns = gated ? width / 2 : width;
    const int64_t items = down * ((columns + tileColumns - 1) / tileColumns), atOnce = clusters[split / 2];
    if (split > 1 && (gated || items > atOnce || depth < 2 * split))
      continue;
    const int64_t turns = (items + atOnce - 1) / atOnce, blocks = std::min(items, atOnce) * pairBlocks * split;
    const int64_t cost =
        turns * ((depth + split - 1) / split) * (215 * width + 100 * blocks) + (split > 1 ? 300'000 : 0);
    if (cost <= least)
      least = cost, best = i;
  }
  return best;
}

} // namespace distc::cuda
