// y = x w^T + bias with w in the block formats of GGUF, which are read as they are: a block becomes vectors of f32 in
// registers. The sums are those of Linear.cpp over the dequantized matrix, vector by vector in the same order, so the
// bits are too, for any number of tokens.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/LinearQuantized.cpp"
#include "hwy/foreach_target.h" // IWYU pragma: keep

#include "hwy/cache_control.h"
#include "kernels/cpu/Blocks-inl.h"
#include "kernels/cpu/LinearQuantized.h"

#include <algorithm>

HWY_BEFORE_NAMESPACE();
namespace distc::cpu::HWY_NAMESPACE {
namespace {

// A block is decoded again for each tile of tokens; from here on a panel of rows is decoded once for all.
constexpr size_t streamTokens = 4;
constexpr size_t panelFloats = 48 << 10;
constexpr size_t aheadBytes = 1024;

void dequantize(const void *source, WeightType type, float *out, int64_t n) {
  withBlock(type, [&](auto format) HWY_ATTR {
    using Block = decltype(format);
    const auto *block = static_cast<const uint8_t *>(source);
    for (int64_t i = 0; i < n; i += Block::elements, block += Block::bytes)
      Block::decode(block, [&](size_t k, VF v) HWY_ATTR { hn::StoreU(v, DF(), out + i + k); });
  });
}

template <class Block> struct Quantized {
  const float *x;
  size_t tokens;
  const uint8_t *w;
  size_t cols;
  size_t rowBytes; // from a row to the next
  const float *bias;
  float *y;
  size_t yStride;

  /// Row n of the tile and those after it, of one block.
  template <size_t M, size_t N, size_t n>
  static HWY_INLINE void rows(const float *x, size_t cols, const uint8_t *block, size_t rowBytes, VF (&sum)[M][N]) {
    if constexpr (n < N) {
      hwy::Prefetch(block + aheadBytes);
      Block::decode(block, [&](size_t k, VF v) HWY_ATTR {
        for (size_t m = 0; m < M; ++m)
          sum[m][n] = hn::MulAdd(hn::LoadU(DF(), x + m * cols + k), v, sum[m][n]);
      });
      rows<M, N, n + 1>(x, cols, block + rowBytes, rowBytes, sum);
    }
  }

  template <size_t M, size_t N> HWY_INLINE void tile(size_t token, size_t row) const {
    const DF d;
    VF sum[M][N];
    for (size_t m = 0; m < M; ++m)
      for (size_t n = 0; n < N; ++n)
        sum[m][n] = hn::Zero(d);
    const uint8_t *block = w + row * rowBytes;
    for (size_t k = 0; k < cols; k += Block::elements, block += Block::bytes)
      rows<M, N, 0>(x + token * cols + k, cols, block, rowBytes, sum);
    HWY_ALIGN float sums[N * lanes];
    for (size_t m = 0; m < M; ++m) {
      for (size_t n = 0; n < N; ++n)
        hn::Store(sum[m][n], d, sums + n * lanes);
      total(sums, N, bias ? bias + row : nullptr, y + (token + m) * yStride + row);
    }
  }

  void stream(size_t begin, size_t end) const {
    for (size_t t = 0; t < tokens; t += streamTokens)
      withConstant<streamTokens>(std::min(streamTokens, tokens - t), [&](auto m) HWY_ATTR {
        constexpr size_t step = m == 1 ? 4 : 2; // rows whose sums wait for each other's no longer than they must
        size_t n = begin;
        for (; n + step <= end; n += step)
          tile<m, step>(t, n);
        for (; n < end; ++n)
          tile<m, 1>(t, n);
      });
  }
};

void linearQuantized(const float *x, int64_t tokens, const Matrix &w, const float *bias, float *y, int64_t yStride,
                     int64_t rowBegin, int64_t rowEnd) {
  const int64_t rowBytes = w.rowStride / blockElements(w.type) * blockBytes(w.type);
  const auto *data = static_cast<const uint8_t *>(w.data);
  const int64_t panelRows = int64_t(panelFloats) / w.cols;
  if (tokens <= int64_t(streamTokens) || panelRows < 4)
    return withBlock(w.type, [&](auto format) {
      const Quantized<decltype(format)> op{x, size_t(tokens), data, size_t(w.cols), size_t(rowBytes), bias,
                                           y, size_t(yStride)};
      op.stream(rowBegin, rowEnd);
    });
  HWY_ALIGN float panel[panelFloats];
  for (int64_t row = rowBegin; row < rowEnd; row += panelRows) {
    const int64_t count = std::min(panelRows, rowEnd - row);
    for (int64_t n = 0; n < count; ++n)
      dequantize(data + (row + n) * rowBytes, w.type, panel + n * w.cols, w.cols);
    const Matrix rows{panel, WeightType::F32, count, w.cols, w.cols};
    cpu::linear(x, tokens, rows, bias ? bias + row : nullptr, y + row, yStride, 0, count);
  }
}

} // namespace
} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace distc::cpu {
HWY_EXPORT(dequantize);
HWY_EXPORT(linearQuantized);

void dequantize(const void *source, WeightType type, float *out, int64_t n) {
  HWY_DYNAMIC_DISPATCH(dequantize)(source, type, out, n);
}
void linearQuantized(const float *x, int64_t tokens, const Matrix &w, const float *bias, float *y, int64_t yStride,
                     int64_t rowBegin, int64_t rowEnd) {
  HWY_DYNAMIC_DISPATCH(linearQuantized)(x, tokens, w, bias, y, yStride, rowBegin, rowEnd);
}
} // namespace distc::cpu
#endif
