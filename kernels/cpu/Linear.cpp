// y = x w^T + bias. One tile routine serves every path: a tile of M tokens x N rows holds one vector of partial sums
// for each (token, row), and every path feeds it the same vectors of K in the same order, so the bits of a result do
// not depend on the path, that is on the number of tokens or the range of rows. Sums that wait in memory between blocks
// of K are stored as whole vectors, which is exact, as is the conversion of a weight to f32.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/Linear.cpp"
#include "hwy/foreach_target.h" // IWYU pragma: keep

#include "kernels/cpu/Simd-inl.h"

#include <algorithm>

HWY_BEFORE_NAMESPACE();
namespace distc::cpu::HWY_NAMESPACE {
namespace {

// Tiles are sized by the registers: 12 sums of 16 registers, or 24 of 32.
constexpr size_t tileTokens = 4;
constexpr size_t tileRows = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_NEON ? 6 : 3;
// With one or two tokens the weight is streamed and not kept: more rows hide the latency of memory and of the sums.
constexpr size_t streamTokens = 2;
constexpr size_t streamRows = 4;
// A block of K of a panel of rows and of a tile of tokens fits the first cache; the block of all tokens, the second.
constexpr size_t blockCols = 512;
constexpr size_t panelRows = 6;
constexpr size_t blockRows = 6 * panelRows;
constexpr size_t blockTokens = 48;
static_assert(blockCols % lanes == 0 && panelRows % tileRows == 0 && blockTokens % tileTokens == 0);

/// sums[m * sumStride + n] += x[m] * w[n], vector by vector of `cols` columns; a vector of sums is `lanes` floats.
template <size_t M, size_t N, class T>
HWY_INLINE void accumulateTile(const float *x, size_t xStride, const T *w, size_t wStride, size_t cols,
                               float *HWY_RESTRICT sums, size_t sumStride) {
  const DF d;
  VF sum[M][N];
  for (size_t m = 0; m < M; ++m)
    for (size_t n = 0; n < N; ++n)
      sum[m][n] = hn::Load(d, sums + (m * sumStride + n) * lanes);
  for (size_t k = 0; k < cols; k += lanes) {
    VF row[N];
    for (size_t n = 0; n < N; ++n)
      row[n] = loadF32(d, w + n * wStride + k);
    for (size_t m = 0; m < M; ++m) {
      const VF token = hn::LoadU(d, x + m * xStride + k);
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

HWY_INLINE float total(const float *sums, const float *bias, int64_t n) {
  const DF d;
  const float sum = sumOfLanes(d, hn::Load(d, sums));
  return bias ? sum + bias[n] : sum;
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

  void stream(size_t begin, size_t end) const {
    for (size_t n = begin; n < end; n += streamRows)
      withConstant<streamTokens>(tokens, [&](auto m) {
        withConstant<streamRows>(std::min(streamRows, end - n), [&](auto rows) { streamTile<m, rows>(n); });
      });
  }

  template <size_t M, size_t N> HWY_INLINE void streamTile(size_t row) const {
    HWY_ALIGN float sums[M * N * lanes] = {};
    const T *weight = w + row * rowStride;
    const size_t whole = cols - cols % lanes;
    accumulateTile<M, N>(x, cols, weight, rowStride, whole, sums, N);
    if (whole < cols) {
      HWY_ALIGN float xTail[M * lanes];
      HWY_ALIGN float wTail[N * lanes];
      for (size_t m = 0; m < M; ++m)
        pack(x + m * cols + whole, cols - whole, xTail + m * lanes);
      for (size_t n = 0; n < N; ++n)
        pack(weight + n * rowStride + whole, cols - whole, wTail + n * lanes);
      accumulateTile<M, N>(xTail, lanes, wTail, lanes, lanes, sums, N);
    }
    for (size_t m = 0; m < M; ++m)
      for (size_t n = 0; n < N; ++n)
        y[m * yStride + row + n] = total(sums + (m * N + n) * lanes, bias, row + n);
  }

  void blocked(size_t begin, size_t end) const {
    for (size_t t = 0; t < tokens; t += blockTokens)
      for (size_t n = begin; n < end; n += blockRows)
        block(t, std::min(blockTokens, tokens - t), n, std::min(blockRows, end - n));
  }

  void block(size_t token, size_t tokenCount, size_t row, size_t rowCount) const {
    HWY_ALIGN float xBlock[blockTokens * blockCols];
    HWY_ALIGN float panel[panelRows * blockCols];
    HWY_ALIGN float sums[blockTokens * blockRows * lanes];
    std::memset(sums, 0, tokenCount * blockRows * lanes * sizeof(float));
    for (size_t k = 0; k < cols; k += blockCols) {
      const size_t count = std::min(blockCols, cols - k);
      const size_t padded = hwy::RoundUpTo(count, lanes);
      for (size_t t = 0; t < tokenCount; ++t)
        pack(x + (token + t) * cols + k, count, xBlock + t * blockCols);
      for (size_t p = 0; p < rowCount; p += panelRows) {
        const size_t rows = std::min(panelRows, rowCount - p);
        for (size_t n = 0; n < rows; ++n)
          pack(w + (row + p + n) * rowStride + k, count, panel + n * blockCols);
        for (size_t t = 0; t < tokenCount; t += tileTokens)
          for (size_t n = 0; n < rows; n += tileRows)
            withConstant<tileTokens>(std::min(tileTokens, tokenCount - t), [&](auto m) {
              withConstant<tileRows>(std::min(tileRows, rows - n), [&](auto r) {
                accumulateTile<m, r>(xBlock + t * blockCols, blockCols, panel + n * blockCols, blockCols, padded,
                                     sums + (t * blockRows + p + n) * lanes, blockRows);
              });
            });
      }
    }
    for (size_t t = 0; t < tokenCount; ++t)
      for (size_t n = 0; n < rowCount; ++n)
        y[(token + t) * yStride + row + n] = total(sums + (t * blockRows + n) * lanes, bias, row + n);
  }
};

void linear(const float *x, int64_t tokens, const Matrix &w, const float *bias, float *y, int64_t yStride,
            int64_t rowBegin, int64_t rowEnd) {
  if (tokens <= 0 || rowBegin >= rowEnd)
    return;
  withElement(w.type, [&](auto element) {
    using T = decltype(element);
    const Linear<T> op{x, size_t(tokens), static_cast<const T *>(w.data), size_t(w.cols), size_t(w.rowStride), bias,
                       y, size_t(yStride)};
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
  HWY_DYNAMIC_DISPATCH(linear)(x, tokens, w, bias, y, yStride, rowBegin, rowEnd);
}
} // namespace distc::cpu
#endif
