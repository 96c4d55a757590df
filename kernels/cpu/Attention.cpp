// Attention of one token over a paged cache: one pass over tiles of positions with online softmax (Milakov and
// Gimelshein, "Online normalizer calculation for softmax", 2018). Tiles count from the first position that is attended
// to, so the bits depend neither on the size of a cache block nor on what else is in the call.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/Attention.cpp"
#include "hwy/foreach_target.h" // IWYU pragma: keep

#include "hwy/cache_control.h"
#include "hwy/contrib/math/math-inl.h"
#include "kernels/cpu/Candidate.h"
#include "kernels/cpu/Simd-inl.h"

#include <algorithm>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace distc::cpu::HWY_NAMESPACE {
namespace {

constexpr size_t maxHeadDim = 256;
constexpr size_t tilePositions = 16;
// Query heads that share one pass; more take further passes, the cache lines still being near.
constexpr size_t maxQueries = 8;
constexpr size_t lineFloats = 64 / sizeof(float);
static_assert(tilePositions % lanes == 0);

struct Tile {
  const float *k[tilePositions]; // behind count, the last one again: scores take four at a time
  const float *v[tilePositions];
  size_t count;
};

/// The state of up to maxQueries query heads of one token.
struct Queries {
  HWY_ALIGN float q[maxQueries][maxHeadDim]; // scaled, zeros behind headDim
  HWY_ALIGN float sum[maxQueries][maxHeadDim];
  HWY_ALIGN float weight[maxQueries][tilePositions];
  float maximum[maxQueries];
  float total[maxQueries];
  float correction[maxQueries];
  size_t count;
};

/// Each row of the cache is asked for a while before its first use; the rows are too short for the hardware to foresee.
HWY_INLINE void prefetchRows(const float *const *rows, size_t headDim) {
  for (size_t p = 0; p < 4; ++p)
    for (size_t i = 0; i < headDim; i += lineFloats)
      hwy::Prefetch(rows[p] + i);
}

/// sum[q][p] += q[g + q] * k[j + p] for one vector from i on, n lanes of it.
template <size_t Q>
HWY_INLINE void addProducts(VF (&sum)[Q][4], const Queries &s, const Tile &tile, size_t g, size_t j, size_t i,
                            size_t n) {
  const DF d;
  VF query[Q];
  for (size_t q = 0; q < Q; ++q)
    query[q] = hn::Load(d, s.q[g + q] + i);
  for (size_t p = 0; p < 4; ++p) {
    const VF key = load(d, tile.k[j + p] + i, n);
    for (size_t q = 0; q < Q; ++q)
      sum[q][p] = hn::MulAdd(query[q], key, sum[q][p]);
  }
}

/// weight[g][j] = q[g] . k[j] for Q query heads and four positions.
template <size_t Q> HWY_INLINE void scores(Queries &s, const Tile &tile, size_t g, size_t j, size_t headDim) {
  const DF d;
  if (g == 0)
    prefetchRows(tile.v + j, headDim);
  VF sum[Q][4];
  for (size_t q = 0; q < Q; ++q)
    for (size_t p = 0; p < 4; ++p)
      sum[q][p] = hn::Zero(d);
  size_t i = 0;
  for (; i + lanes <= headDim; i += lanes)
    addProducts(sum, s, tile, g, j, i, lanes);
  if (i < headDim)
    addProducts(sum, s, tile, g, j, i, headDim - i);
  for (size_t q = 0; q < Q; ++q)
    sumsOfLanes(d, sum[q][0], sum[q][1], sum[q][2], sum[q][3], &s.weight[g + q][j]);
}

/// Turns the scores of query head g into weights exp(score - maximum), with the new maximum of all positions so far.
HWY_INLINE void softmax(Queries &s, size_t g, size_t count, float softCap) {
  const DF d;
  float *weight = s.weight[g];
  std::fill(weight + count, weight + tilePositions, minusInfinity);
  VF maximum = hn::Set(d, s.maximum[g]);
  for (size_t j = 0; j < tilePositions; j += lanes) {
    VF score = hn::Load(d, weight + j);
    if (softCap > 0.0f) {
      const VF cap = hn::Set(d, softCap);
      const VF capped = hn::Mul(cap, hn::Tanh(d, hn::Div(score, cap)));
      score = hn::IfThenElse(hn::Eq(score, hn::Set(d, minusInfinity)), score, capped);
      hn::Store(score, d, weight + j);
    }
    maximum = hn::Max(maximum, score);
  }
  maximum = hn::MaxOfLanes(d, maximum);
  const VF correction = hn::Exp(d, hn::Sub(hn::Set(d, s.maximum[g]), maximum));
  VF total = hn::Zero(d);
  for (size_t j = 0; j < tilePositions; j += lanes) {
    const VF e = hn::Exp(d, hn::Sub(hn::Load(d, weight + j), maximum));
    hn::Store(e, d, weight + j);
    total = hn::Add(total, e);
  }
  s.maximum[g] = hn::GetLane(maximum);
  s.correction[g] = hn::GetLane(correction);
  s.total[g] = s.total[g] * s.correction[g] + sumOfLanes(d, total);
}

/// sum[g][i] = sum[g][i] * correction[g] + weight[g] . v[.][i] for Q query heads and V vectors of i; n lanes of the
/// last.
template <size_t Q, size_t V>
HWY_INLINE void values(Queries &s, const Tile &tile, const Tile &next, size_t g, size_t i, size_t n) {
  const DF d;
  VF sum[Q][V];
  for (size_t q = 0; q < Q; ++q)
    for (size_t v = 0; v < V; ++v)
      sum[q][v] = hn::Mul(hn::Load(d, s.sum[g + q] + i + v * lanes), hn::Set(d, s.correction[g + q]));
  for (size_t j = 0; j < tile.count; ++j) {
    for (size_t v = 0; v < V * lanes; v += lineFloats)
      hwy::Prefetch(next.k[j] + i + v);
    VF value[V];
    for (size_t v = 0; v < V; ++v)
      value[v] = load(d, tile.v[j] + i + v * lanes, v + 1 < V ? lanes : n);
    for (size_t q = 0; q < Q; ++q) {
      const VF weight = hn::Set(d, s.weight[g + q][j]);
      for (size_t v = 0; v < V; ++v)
        sum[q][v] = hn::MulAdd(weight, value[v], sum[q][v]);
    }
  }
  for (size_t q = 0; q < Q; ++q)
    for (size_t v = 0; v < V; ++v)
      hn::Store(sum[q][v], d, s.sum[g + q] + i + v * lanes);
}

HWY_INLINE void attendTile(Queries &s, const Tile &tile, const Tile &next, size_t headDim, float softCap) {
  constexpr size_t queries = 2, vectors = 4;
  for (size_t g = 0; g < s.count; g += queries)
    withConstant<queries>(std::min(queries, s.count - g), [&](auto q) HWY_ATTR {
      for (size_t j = 0; j < tile.count; j += 4)
        scores<q>(s, tile, g, j, headDim);
    });
  for (size_t g = 0; g < s.count; ++g)
    softmax(s, g, tile.count, softCap);
  for (size_t g = 0; g < s.count; g += queries)
    withConstant<queries>(std::min(queries, s.count - g), [&](auto q) HWY_ATTR {
      size_t i = 0;
      for (; i + vectors * lanes <= headDim; i += vectors * lanes)
        values<q, vectors>(s, tile, next, g, i, lanes);
      for (; i < headDim; i += lanes)
        values<q, 1>(s, tile, next, g, i, std::min(lanes, headDim - i));
    });
}

/// One KV head of one sequence: where each position's key and value are.
struct KeyValues {
  const float *data;
  const int32_t *table;
  int64_t blockTokens;
  int64_t headDim;
  int64_t plane; // from the keys of a block to its values

  HWY_INLINE void tile(int64_t first, int64_t last, Tile &out) const {
    out.count = size_t(last - first);
    // One division for a tile: one for each position would take longer than its scores.
    int64_t block = first / blockTokens, slot = first % blockTokens;
    for (size_t j = 0; j < tilePositions; ++j) {
      out.k[j] = data + table[block] * 2 * plane + slot * headDim;
      out.v[j] = out.k[j] + plane;
      if (j + 1 < out.count && ++slot == blockTokens) {
        ++block;
        slot = 0;
      }
    }
  }
};

void attendQueries(Queries &s, const float *q, const KeyValues &cache, const AttentionParams &params, int64_t position,
                   float *out) {
  const DF d;
  const size_t headDim = size_t(cache.headDim);
  for (size_t g = 0; g < s.count; ++g) {
    s.maximum[g] = minusInfinity;
    s.total[g] = 0.0f;
    forVectors(0, headDim, [&](int64_t i, size_t n) HWY_ATTR {
      hn::Store(hn::Mul(load(d, q + g * headDim + i, n), hn::Set(d, params.scale)), d, s.q[g] + i);
      hn::Store(hn::Zero(d), d, s.sum[g] + i);
    });
  }
  const int64_t end = position + 1;
  int64_t first = params.window > 0 ? std::max<int64_t>(0, end - params.window) : 0;
  Tile tiles[2];
  const auto fill = [&](int64_t from, Tile &tile)
                        HWY_ATTR { cache.tile(from, std::min<int64_t>(from + tilePositions, end), tile); };
  fill(first, tiles[0]);
  for (size_t i = 0; first < end; first += tilePositions, i ^= 1) {
    const bool last = first + int64_t(tilePositions) >= end;
    if (!last)
      fill(first + tilePositions, tiles[i ^ 1]);
    attendTile(s, tiles[i], tiles[last ? i : i ^ 1], headDim, params.softCap);
  }
  for (size_t g = 0; g < s.count; ++g)
    forVectors(0, headDim, [&](int64_t i, size_t n) HWY_ATTR {
      store(hn::Div(hn::Load(d, s.sum[g] + i), hn::Set(d, s.total[g])), d, out + g * headDim + i, n);
    });
}

void attention(const float *q, const KvView &cache, const AttentionParams &params, const int32_t *blockTables,
               int64_t blocksPerSequence, const int32_t *sequenceOf, const int32_t *positions, float *out,
               int64_t begin, int64_t end) {
  const int64_t group = params.heads / cache.heads;
  Queries state;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t t = item / cache.heads, kvHead = item % cache.heads;
    const KeyValues keyValues{cache.data + kvHead * cache.blockTokens * cache.headDim,
                              blockTables + sequenceOf[t] * blocksPerSequence, cache.blockTokens, cache.headDim,
                              cache.heads * cache.blockTokens * cache.headDim};
    for (int64_t g = 0; g < group; g += maxQueries) {
      const int64_t row = (t * params.heads + kvHead * group + g) * cache.headDim;
      state.count = size_t(std::min<int64_t>(maxQueries, group - g));
      attendQueries(state, q + row, keyValues, params, positions[t], out + row);
    }
  }
}

} // namespace
} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace distc::cpu {
HWY_EXPORT(attention);

void attention(const float *q, const KvView &cache, const AttentionParams &params, const int32_t *blockTables,
               int64_t blocksPerSequence, const int32_t *sequenceOf, const int32_t *positions, float *out,
               int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(attention)(q, cache, params, blockTables, blocksPerSequence, sequenceOf, positions, out, begin,
                                  end);
}
} // namespace distc::cpu
#endif
