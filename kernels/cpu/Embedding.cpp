#include "distc/kernels/Cpu.h"

#include <algorithm>

namespace distc::cpu {

void embedding(const int32_t *tokens, const Matrix &table, int64_t firstRow, float *y, int64_t rowBegin,
               int64_t rowEnd) {
  for (int64_t t = rowBegin; t < rowEnd; ++t) {
    float *out = y + t * table.cols;
    const int64_t row = int64_t(tokens[t]) - firstRow;
    if (row < 0 || row >= table.rows) {
      std::fill_n(out, table.cols, 0.0f);
      continue;
    }
    const auto *source = static_cast<const uint8_t *>(table.data) +
                         row * (table.rowStride / blockElements(table.type)) * blockBytes(table.type);
    toF32(source, table.type, out, table.cols);
  }
}

void positionEmbedding(const float *x, const int32_t *positions, const Matrix &table, float *y, int64_t rowBegin,
                       int64_t rowEnd) {
  constexpr int64_t kPiece = 256; // whole blocks of every type
  float row[kPiece];
  for (int64_t t = rowBegin; t < rowEnd; ++t)
    for (int64_t i = 0; i < table.cols; i += kPiece) {
      const int64_t n = std::min(kPiece, table.cols - i), at = t * table.cols + i;
      const int64_t block = (positions[t] * table.rowStride + i) / blockElements(table.type);
      toF32(static_cast<const uint8_t *>(table.data) + block * blockBytes(table.type), table.type, row, n);
      add(x + at, row, y + at, 0, n);
    }
}

} // namespace distc::cpu
