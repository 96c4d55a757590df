// y = x w^T + bias. One tile routine serves every path: a tile of M tokens x N rows holds one vector of partial sums
// for each (token, row), and every path feeds it the same vectors of K in the same order, so the bits of a result do
// not depend on the path, that is on the number of tokens or the range of rows. Sums that wait in memory between blocks
// of K are stored as whole vectors, which is exact, as is the conversion of a weight to f32.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/Linear.cpp"
#include "hwy/foreach_target.h" // IWYU pragma: keep

#include "hwy/cache_control.h"
#include "kernels/cpu/LinearQuantized.h"
#include "kernels/cpu/Simd-inl.h"

#include <algorithm>

HWY_BEFORE_NAMESPACE();
namespace distc::cpu::HWY_NAMESPACE {
namespace {

// Tiles are sized by the registers: 12 sums of 16 registers, or 24 of 32.
constexpr size_t tileTokens = 4;
constexpr size_t tileRows = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_NEON ? 6 : 3;
// Up to here the weight is streamed as it is stored; beyond, it pays to convert a panel once for all tokens.
constexpr size_t streamTokens = 16;
// How far ahead of the loads a streamed row is asked for.
constexpr size_t aheadBytes = 1024;
// With one or two tokens a tile has registers left for more rows, which hide the latency of memory.
constexpr size_t streamRows = 4;
// A block of K of a panel of rows and of a tile of tokens fits the first cache; the block of all tokens, the second.
constexpr size_t blockCols = 640;
constexpr size_t panelRows = 6;
constexpr size_t blockRows = 12 * panelRows;
constexpr size_t blockTokens = 64;
static_assert(blockCols % lanes == 0 && panelRows % tileRows == 0 && blockTokens % tileTokens == 0);

/// Rows of x: one after the other, or chosen ones.
struct Strided {
  const float *x;
  size_t stride;
  HWY_INLINE const float *operator()(size_t m) const { return x + m * stride; }
  HWY_INLINE Strided from(size_t k) const { return {x + k, stride}; }
};
template <size_t M> struct Chosen {
  const float *x[M];
  HWY_INLINE const float *operator()(size_t m) const { return x[m]; }
  HWY_INLINE Chosen from(size_t k) const {
    Chosen moved;
    for (size_t m = 0; m < M; ++m)
      moved.x[m] = x[m] + k;
    return moved;
  }
};

/// sums[m * sumStride + n] += x(m) * w[n], vector by vector of `cols` columns; a vector of sums is `lanes` floats.
/// Prefetches the same part of the rows at `ahead`, if Ahead.
template <size_t M, size_t N, bool Ahead = false, class X, class T>
HWY_INLINE void accumulateTile(const X &x, const T *w, size_t wStride, size_t cols, float *HWY_RESTRICT sums,
                               size_t sumStride, const T *ahead = nullptr) {
  const DF d;
  VF sum[M][N];
  for (size_t m = 0; m < M; ++m)
    for (size_t n = 0; n < N; ++n)
      sum[m][n] = hn::Load(d, sums + (m * sumStride + n) * lanes);
  for (size_t k = 0; k < cols; k += lanes) {
    VF row[N];
    for (size_t n = 0; n < N; ++n)
      row[n] = loadF32(d, w + n * wStride + k);
    if constexpr (Ahead)
      for (size_t n = 0; n < N; ++n)
        hwy::Prefetch(ahead + n * wStride + k);
    for (size_t m = 0; m < M; ++m) {
      const VF token = hn::LoadU(d, x(m) + k);
      for (size_t n = 0; n < N; ++n)
        sum[m][n] = hn::MulAdd(token, row[n], sum[m][n]);
    }
  }
  for (size_t m = 0; m < M; ++m)
    for (size_t n = 0; n < N; ++n)
      hn::Store(sum[m][n], d, sums + (m * sumStride + n) * lanes);
}

/// Copies `cols` elements as f32 and pads them with zeros to whole vectors.
template <class T> HWY_INLINE void pack(const T *from, size_t cols, float *to) {
  const DF d;
  forVectors(0, cols, [&](int64_t k, size_t n) { hn::Store(load(d, from + k, n), d, to + k); });
}

template <class T> struct Linear {
  const float *x;
  size_t tokens;
  const T *w;
  size_t cols;
  size_t rowStride;
  const float *bias;
  float *y;
  size_t yStride;
  const int32_t *items = nullptr; // token t is row items[t] / repeat of x, and row items[t] of y
  size_t repeat = 1;

  HWY_INLINE const float *xOf(size_t token) const { return x + (items ? size_t(items[token]) / repeat : token) * cols; }
  HWY_INLINE float *yOf(size_t token) const { return y + (items ? size_t(items[token]) : token) * yStride; }

  void stream(size_t begin, size_t end) const {
    const size_t step = tokens <= 2 ? streamRows : tileRows;
    for (size_t n = begin; n < end; n += step)
      for (size_t t = 0; t < tokens; t += tileTokens)
        withConstant<tileTokens>(std::min(tileTokens, tokens - t), [&](auto m) HWY_ATTR {
          withConstant<std::max(streamRows, tileRows)>(std::min(step, end - n),
                                                       [&](auto rows) HWY_ATTR { streamTile<m, rows>(t, n, end); });
        });
  }

  template <size_t M, size_t N> HWY_INLINE void streamTile(size_t token, size_t row, size_t rowEnd) const {
    if (items == nullptr)
      return streamTile<M, N>(Strided{xOf(token), cols}, token, row, rowEnd);
    Chosen<M> in;
    for (size_t m = 0; m < M; ++m)
      in.x[m] = xOf(token + m);
    streamTile<M, N>(in, token, row, rowEnd);
  }

  template <size_t M, size_t N, class X>
  HWY_INLINE void streamTile(const X &in, size_t token, size_t row, size_t rowEnd) const {
    HWY_ALIGN float sums[M * N * lanes] = {};
    const T *weight = w + row * rowStride;
    const size_t whole = cols - cols % lanes;
    if (token == 0 && row + 2 * N <= rowEnd) {
      // The prefetch runs from the end of these rows on into the next.
      const size_t own = whole - std::min(whole, aheadBytes / sizeof(T));
      accumulateTile<M, N, true>(in, weight, rowStride, own, sums, N, weight + (whole - own));
      accumulateTile<M, N, true>(in.from(own), weight + own, rowStride, whole - own, sums, N, weight + N * rowStride);
    } else {
      accumulateTile<M, N>(in, weight, rowStride, whole, sums, N);
    }
    if (whole < cols) {
      HWY_ALIGN float xTail[M * lanes];
      HWY_ALIGN float wTail[N * lanes];
      for (size_t m = 0; m < M; ++m)
        pack(in(m) + whole, cols - whole, xTail + m * lanes);
      for (size_t n = 0; n < N; ++n)
        pack(weight + n * rowStride + whole, cols - whole, wTail + n * lanes);
      accumulateTile<M, N>(Strided{xTail, lanes}, wTail, lanes, lanes, sums, N);
    }
    for (size_t m = 0; m < M; ++m)
      total(sums + m * N * lanes, N, bias ? bias + row : nullptr, yOf(token + m) + row);
  }

  void blocked(size_t begin, size_t end) const {
    for (size_t t = 0; t < tokens; t += blockTokens)
      for (size_t n = begin; n < end; n += blockRows)
        block(t, std::min(blockTokens, tokens - t), n, std::min(blockRows, end - n));
  }

  /// The panel that is converted next comes to the cache while this one is multiplied, a part with each tile of tokens:
  /// its rows are too far apart for the prefetchers of the hardware.
  HWY_INLINE void prefetchPanel(size_t row, size_t rowEnd, size_t col, size_t count, size_t token,
                                size_t tokenCount) const {
    constexpr size_t lineElements = 64 / sizeof(T);
    const size_t begin = count * token / tokenCount / lineElements * lineElements;
    const size_t end = std::min(count, count * (token + tileTokens) / tokenCount);
    for (size_t n = row; n < std::min(row + panelRows, rowEnd); ++n)
      for (size_t k = begin; k < end; k += lineElements)
        hwy::Prefetch(w + n * rowStride + col + k);
  }

  void block(size_t token, size_t tokenCount, size_t row, size_t rowCount) const {
    HWY_ALIGN float xBlock[blockTokens * blockCols];
    HWY_ALIGN float panel[panelRows * blockCols];
    HWY_ALIGN float sums[blockTokens * blockRows * lanes];
    std::memset(sums, 0, tokenCount * blockRows * lanes * sizeof(float));
    // Blocks of equal size: a short one at the end would cost as much as a whole one at each change of tile.
    const size_t step = hwy::RoundUpTo(hwy::DivCeil(cols, std::max<size_t>(1, hwy::DivCeil(cols, blockCols))), lanes);
    for (size_t k = 0; k < cols; k += step) {
      const size_t count = std::min(step, cols - k);
      const size_t padded = hwy::RoundUpTo(count, lanes);
      for (size_t t = 0; t < tokenCount; ++t)
        pack(xOf(token + t) + k, count, xBlock + t * blockCols);
      for (size_t p = 0; p < rowCount; p += panelRows) {
        const size_t rows = std::min(panelRows, rowCount - p);
        for (size_t n = 0; n < rows; ++n)
          pack(w + (row + p + n) * rowStride + k, count, panel + n * blockCols);
        const bool last = p + panelRows >= rowCount;
        const size_t nextRow = row + (last ? 0 : p + panelRows), nextCol = last ? k + step : k;
        for (size_t t = 0; t < tokenCount; t += tileTokens) {
          prefetchPanel(nextRow, row + rowCount, nextCol, nextCol < cols ? std::min(step, cols - nextCol) : 0, t,
                        tokenCount);
          for (size_t n = 0; n < rows; n += tileRows)
            withConstant<tileTokens>(std::min(tileTokens, tokenCount - t), [&](auto m) HWY_ATTR {
              withConstant<tileRows>(std::min(tileRows, rows - n), [&](auto r) HWY_ATTR {
                accumulateTile<m, r>(Strided{xBlock + t * blockCols, blockCols}, panel + n * blockCols, blockCols,
                                     padded, sums + (t * blockRows + p + n) * lanes, blockRows);
              });
            });
        }
      }
    }
    for (size_t t = 0; t < tokenCount; ++t)
      total(sums + t * blockRows * lanes, rowCount, bias ? bias + row : nullptr, yOf(token + t) + row);
  }
};

void linear(const float *x, int64_t tokens, const int32_t *items, int64_t repeat, const Matrix &w, const float *bias,
            float *y, int64_t yStride, int64_t rowBegin, int64_t rowEnd) {
  if (tokens <= 0 || rowBegin >= rowEnd)
    return;
  withElement(w.type, [&](auto element) {
    using T = decltype(element);
    const Linear<T> op{x,
                       size_t(tokens),
                       static_cast<const T *>(w.data),
                       size_t(w.cols),
                       size_t(w.rowStride),
                       bias,
                       y,
                       size_t(yStride),
                       items,
                       size_t(repeat)};
    if (op.tokens <= streamTokens)
      op.stream(rowBegin, rowEnd);
    else
      op.blocked(rowBegin, rowEnd);
  });
}

} // namespace
} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace distc::cpu {
HWY_EXPORT(linear);

void linear(const float *x, int64_t tokens, const Matrix &w, const float *bias, float *y, int64_t yStride,
            int64_t rowBegin, int64_t rowEnd) {
  if (isQuantized(w.type))
    return linearQuantized(x, tokens, w, bias, y, yStride, rowBegin, rowEnd);
  HWY_DYNAMIC_DISPATCH(linear)(x, tokens, nullptr, 1, w, bias, y, yStride, rowBegin, rowEnd);
}

void linearOf(const int32_t *items, int64_t count, const float *x, int64_t repeat, const Matrix &w, float *y,
              int64_t yStride, int64_t rowBegin, int64_t rowEnd) {
  if (isQuantized(w.type)) {
    for (int64_t i = 0; i < count; ++i)
      linearQuantized(x + items[i] / repeat * w.cols, 1, w, nullptr, y + items[i] * yStride, yStride, rowBegin, rowEnd);
    return;
  }
  HWY_DYNAMIC_DISPATCH(linear)(x, count, items, repeat, w, nullptr, y, yStride, rowBegin, rowEnd);
}
} // namespace distc::cpu
#endif
