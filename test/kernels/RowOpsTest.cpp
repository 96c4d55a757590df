// Every op but linear, attention and sampling.
#include "Blocks.h"
#include "KernelTest.h"

#include <fstream>

namespace distc::cpu {
namespace {

class RowOpsTest : public KernelTest {};
DISTC_KERNEL_SUITE(RowOpsTest);

TEST_P(RowOpsTest, RmsNorm) {
  for (int64_t width : {1, 2, 7, 16, 64, 129, 576, 4096}) {
    const int64_t rows = 5;
    const std::vector<float> x = normal(rows * width, width % 2 ? 3.0f : 0.003f), weight = normal(width);
    const std::vector<double> expected = reference::rmsNorm(x, weight, 1e-5);
    Guarded y(rows * width), inPlace(x), parts(rows * width);
    rmsNorm(x.data(), weight.data(), 1e-5f, width, y.data(), 0, rows);
    EXPECT_LE(relativeError(y.data(), expected), 1e-6) << width;
    rmsNorm(inPlace.data(), weight.data(), 1e-5f, width, inPlace.data(), 0, rows);
    EXPECT_TRUE(sameBits(y.data(), inPlace.data(), y.size()));
    for (int64_t t = rows; t-- > 0;)
      rmsNorm(x.data(), weight.data(), 1e-5f, width, parts.data(), t, t + 1);
    EXPECT_TRUE(sameBits(y.data(), parts.data(), y.size()));
  }
}

TEST_P(RowOpsTest, RmsNormWithAnOffset) {
  const std::vector<float> x = normal(3 * 37), weight = normal(37);
  std::vector<float> factors = weight;
  for (float &factor : factors)
    factor += 1;
  Guarded y(x.size());
  rmsNorm(x.data(), weight.data(), 1e-5f, 37, y.data(), 0, 3, 1.0f);
  EXPECT_LE(relativeError(y.data(), reference::rmsNorm(x, factors, 1e-5)), 1e-6);
}

// Two parts of each row, normalized from the sum of their squares: as the whole.
TEST_P(RowOpsTest, RmsNormOfParts) {
  for (int64_t width : {1, 7, 64, 129}) {
    const int64_t rows = 5;
    const std::vector<float> x = normal(rows * 2 * width), weight = normal(2 * width);
    std::vector<float> factors = weight;
    for (float &factor : factors)
      factor += 0.5f;
    const std::vector<double> expected = reference::rmsNorm(x, factors, 1e-5);
    std::vector<float> parts[2];
    Guarded sums[] = {Guarded(rows * 3), Guarded(rows * 3)}, y(rows * width);
    for (int64_t part : {0, 1}) {
      for (int64_t t = 0; t < rows; ++t)
        parts[part].insert(parts[part].end(), &x[(2 * t + part) * width], &x[(2 * t + part) * width] + width);
      squareSum(parts[part].data(), width, sums[part].data() + 1, 3, 2, rows);
      squareSum(parts[part].data(), width, sums[part].data() + 1, 3, 0, 2);
    }
    std::vector<float> squares;
    for (int64_t t = 0; t < rows; ++t)
      squares.push_back(sums[0].data()[t * 3 + 1] + sums[1].data()[t * 3 + 1]);
    for (int64_t part : {0, 1}) {
      rmsNormOfParts(parts[part].data(), {squares.data(), 1, 2 * width}, weight.data() + part * width, 1e-5f, width,
                     y.data(), 0, rows, 0.5f);
      for (int64_t t = 0; t < rows; ++t)
        for (int64_t i = 0; i < width; ++i) {
          const double wanted = expected[(2 * t + part) * width + i];
          EXPECT_NEAR(y.data()[t * width + i], wanted, 1e-6 * std::fabs(wanted) + 1e-30) << width;
        }
    }
  }
}

TEST_P(RowOpsTest, EmbeddingOfPartOfTheVocabulary) {
  for (WeightType type : {WeightType::F32, WeightType::F16, WeightType::BF16}) {
    const int64_t rows = 11, cols = 37, stride = 40, firstRow = 100;
    const StoredWeight table(normal(rows * stride), type);
    const std::vector<int32_t> tokens{
        100, 99, 110, 111, 105, -1, std::numeric_limits<int32_t>::max(), 0, std::numeric_limits<int32_t>::min()};
    Guarded y(tokens.size() * cols);
    embedding(tokens.data(), {table.data(), type, rows, cols, stride}, firstRow, y.data(), 0, 4);
    embedding(tokens.data(), {table.data(), type, rows, cols, stride}, firstRow, y.data(), 4, tokens.size());
    for (size_t t = 0; t < tokens.size(); ++t)
      for (int64_t i = 0; i < cols; ++i) {
        const int64_t row = int64_t(tokens[t]) - firstRow;
        EXPECT_EQ(y[t * cols + i], row >= 0 && row < rows ? table.exact[row * stride + i] : 0.0f);
      }
  }
}

TEST_P(RowOpsTest, Rope) {
  for (RopeStyle style : {RopeStyle::Half, RopeStyle::Interleaved})
    for (int64_t dim : {2, 6, 16, 64, 80, 90, 128}) {
      const int64_t rows = 4, heads = 3;
      const std::vector<int32_t> positions{7, 0, 3, 9};
      const std::vector<float> cosSin = reference::ropeTable(10, dim);
      const std::vector<float> x = normal(rows * heads * dim);
      const std::vector<double> expected =
          reference::rope(x, positions, cosSin, heads, dim, style == RopeStyle::Interleaved);
      Guarded y(x.size()), inPlace(x), parts(x.size());
      rope(x.data(), positions.data(), cosSin.data(), heads, dim, dim, style, y.data(), 0, rows);
      EXPECT_LE(relativeError(y.data(), expected), 2e-7) << dim;
      rope(inPlace.data(), positions.data(), cosSin.data(), heads, dim, dim, style, inPlace.data(), 0, rows);
      EXPECT_TRUE(sameBits(y.data(), inPlace.data(), y.size()));
      for (int64_t t = rows; t-- > 0;)
        rope(x.data(), positions.data(), cosSin.data(), heads, dim, dim, style, parts.data(), t, t + 1);
      EXPECT_TRUE(sameBits(y.data(), parts.data(), y.size()));
    }
}

TEST_P(RowOpsTest, RopeOfAPartOfAHead) {
  for (RopeStyle style : {RopeStyle::Half, RopeStyle::Interleaved})
    for (auto [dim, rotated] : {std::pair<int64_t, int64_t>{16, 12}, {16, 2}, {128, 96}, {90, 22}}) {
      const int64_t rows = 4, heads = 3;
      const std::vector<int32_t> positions{7, 0, 3, 9};
      const std::vector<float> cosSin = reference::ropeTable(10, rotated), x = normal(rows * heads * dim);
      const std::vector<double> expected =
          reference::ropeOfPart(x, positions, cosSin, heads, dim, rotated, style == RopeStyle::Interleaved);
      Guarded y(x.size()), inPlace(x);
      rope(x.data(), positions.data(), cosSin.data(), heads, dim, rotated, style, y.data(), 0, rows);
      EXPECT_LE(relativeError(y.data(), expected), 2e-7) << dim;
      rope(inPlace.data(), positions.data(), cosSin.data(), heads, dim, rotated, style, inPlace.data(), 0, rows);
      EXPECT_TRUE(sameBits(y.data(), inPlace.data(), y.size()));
    }
}

TEST_P(RowOpsTest, LayerNorm) {
  for (int64_t width : {1, 2, 7, 16, 64, 129, 768, 4096})
    for (bool biased : {false, true}) {
      if (width == 1 && !biased)
        continue; // zeros, of which there is no relative error
      const int64_t rows = 5;
      std::vector<float> x = normal(rows * width, 3.0f);
      for (size_t i = 0; i < x.size();
           ++i) // a mean that is not 0, and neighbours apart: of two alike only errors are left
        x[i] = 5 + (i % 2 ? 1 : -1) * (1 + std::abs(x[i]));
      const std::vector<float> weight = normal(width), bias = normal(width);
      const float *shift = biased ? bias.data() : nullptr;
      const std::vector<double> expected =
          reference::layerNorm(x, weight, biased ? bias : std::vector<float>(width), 1e-5);
      Guarded y(rows * width), inPlace(x), parts(rows * width);
      layerNorm(x.data(), weight.data(), shift, 1e-5f, width, y.data(), 0, rows);
      EXPECT_LE(relativeError(y.data(), expected, reference::layerNormScale(expected, bias)), 2e-6) << width;
      layerNorm(inPlace.data(), weight.data(), shift, 1e-5f, width, inPlace.data(), 0, rows);
      EXPECT_TRUE(sameBits(y.data(), inPlace.data(), y.size()));
      for (int64_t t = rows; t-- > 0;)
        layerNorm(x.data(), weight.data(), shift, 1e-5f, width, parts.data(), t, t + 1);
      EXPECT_TRUE(sameBits(y.data(), parts.data(), y.size()));
    }
}

TEST_P(RowOpsTest, PositionEmbedding) {
  for (WeightType type : {WeightType::F32, WeightType::F16, WeightType::BF16})
    for (int64_t cols : {37, 600}) {
      const int64_t rows = 11, stride = cols + 3;
      const std::vector<int32_t> positions{10, 0, 3, 9};
      const StoredWeight table(normal(rows * stride), type);
      const std::vector<float> x = normal(4 * cols);
      const Matrix matrix{table.data(), type, rows, cols, stride};
      Guarded y(x.size()), inPlace(x);
      positionEmbedding(x.data(), positions.data(), matrix, y.data(), 0, 1);
      positionEmbedding(x.data(), positions.data(), matrix, y.data(), 1, 4);
      for (size_t t = 0; t < positions.size(); ++t)
        for (int64_t i = 0; i < cols; ++i)
          EXPECT_EQ(y[t * cols + i], x[t * cols + i] + static_cast<float>(table.exact[positions[t] * stride + i]));
      positionEmbedding(inPlace.data(), positions.data(), matrix, inPlace.data(), 0, 4);
      EXPECT_TRUE(sameBits(y.data(), inPlace.data(), y.size()));
    }
}

TEST_P(RowOpsTest, KvAppend) {
  const int64_t heads = 3, blockTokens = 4, dim = 10, blocks = 6, plane = heads * blockTokens * dim;
  const std::vector<int32_t> tables{5, 0, 2, 4}, sequenceOf{0, 0, 1, 1}, positions{3, 4, 0, 7};
  const std::vector<float> k = normal(4 * heads * dim), v = normal(4 * heads * dim);
  const std::vector<float> before = normal(blocks * 2 * plane);
  Guarded cache(before);
  kvAppend(k.data(), v.data(), {cache.data(), heads, blockTokens, dim}, tables.data(), 2, sequenceOf.data(),
           positions.data(), 0, 4);
  std::vector<float> expected = before;
  for (int64_t t = 0; t < 4; ++t)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t i = 0; i < dim; ++i) {
        const int64_t block = tables[sequenceOf[t] * 2 + positions[t] / blockTokens];
        const int64_t at = ((block * 2 * heads + h) * blockTokens + positions[t] % blockTokens) * dim + i;
        expected[at] = k[(t * heads + h) * dim + i];
        expected[at + plane] = v[(t * heads + h) * dim + i];
      }
  EXPECT_TRUE(sameBits(cache.data(), expected.data(), expected.size()));
}

TEST_P(RowOpsTest, AddAndAccumulate) {
  for (int64_t n : {1, 5, 16, 333}) {
    const std::vector<float> a = normal(n), b = normal(n);
    Guarded out(n), sum(a), left(a), right(b);
    add(a.data(), b.data(), out.data(), 0, n / 2);
    add(a.data(), b.data(), out.data(), n / 2, n);
    accumulate(b.data(), sum.data(), 0, n);
    add(left.data(), b.data(), left.data(), 0, n);
    add(a.data(), right.data(), right.data(), 0, n);
    for (int64_t i = 0; i < n; ++i)
      EXPECT_TRUE(out[i] == a[i] + b[i] && sum[i] == out[i] && left[i] == out[i] && right[i] == out[i]);
  }
}

TEST_P(RowOpsTest, ScaleAndSoftCap) {
  for (int64_t n : {1, 5, 16, 333})
    for (float cap : {0.5f, 30.0f}) {
      const std::vector<float> x = normal(n, 2 * cap);
      Guarded scaled(n), capped(n), inPlace(x), capInPlace(x);
      scale(x.data(), 0.22f, scaled.data(), 0, n / 2);
      scale(x.data(), 0.22f, scaled.data(), n / 2, n);
      scale(inPlace.data(), 0.22f, inPlace.data(), 0, n);
      softCap(x.data(), cap, capped.data(), n / 3, n);
      softCap(x.data(), cap, capped.data(), 0, n / 3);
      softCap(capInPlace.data(), cap, capInPlace.data(), 0, n);
      EXPECT_TRUE(sameBits(capped.data(), capInPlace.data(), n));
      for (int64_t i = 0; i < n; ++i) {
        EXPECT_TRUE(scaled[i] == x[i] * 0.22f && inPlace[i] == scaled[i]);
        const double expected = cap * std::tanh(double(x[i]) / cap);
        EXPECT_NEAR(capped[i], expected, 1e-6 * std::fabs(expected)) << x[i];
      }
    }
}

TEST_P(RowOpsTest, Glu) {
  for (Activation activation : {Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu}) {
    const std::vector<float> gate = reference::gates(random);
    const std::vector<float> up = normal(gate.size());
    Guarded out(gate.size()), inPlace(gate), parts(gate.size());
    glu(gate.data(), up.data(), activation, out.data(), 0, gate.size());
    for (size_t i = 0; i < gate.size(); ++i) {
      const double expected = reference::activation(int(activation), gate[i]) * up[i];
      EXPECT_NEAR(out[i], expected, 1e-6 * std::fabs(expected) + 1e-37) << int(activation) << " of " << gate[i];
    }
    glu(inPlace.data(), up.data(), activation, inPlace.data(), 0, gate.size());
    EXPECT_TRUE(sameBits(out.data(), inPlace.data(), out.size()));
    glu(gate.data(), up.data(), activation, parts.data(), 13, gate.size());
    glu(gate.data(), up.data(), activation, parts.data(), 0, 13);
    EXPECT_TRUE(sameBits(out.data(), parts.data(), out.size()));
    glu(gate.data(), nullptr, activation, out.data(), 0, gate.size());
    for (size_t i = 0; i < gate.size(); ++i) {
      const double expected = reference::activation(int(activation), gate[i]);
      EXPECT_NEAR(out[i], expected, 1e-6 * std::fabs(expected) + 1e-37) << int(activation) << " of " << gate[i];
    }
  }
}

TEST_P(RowOpsTest, ConversionsAreExact) {
  for (WeightType type : {WeightType::F32, WeightType::F16, WeightType::BF16})
    for (float deviation : {1e-6f, 1.0f, 1000.0f}) {
      const StoredWeight stored(normal(1003, deviation), type);
      Guarded out(1003);
      toF32(stored.data(), type, out.data(), 1003);
      EXPECT_TRUE(sameBits(out.data(), stored.exact.data(), 1003)) << int(type);
    }
  const uint16_t special[] = {0x7C00, 0xFC00, 0x0001, 0x8000, 0x7BFF};
  Guarded out(5);
  toF32(special, WeightType::F16, out.data(), 5);
  EXPECT_EQ(out[0], std::numeric_limits<float>::infinity());
  EXPECT_EQ(out[1], -std::numeric_limits<float>::infinity());
  EXPECT_EQ(out[2], 0x1p-24f);
  EXPECT_TRUE(out[3] == 0.0f && std::signbit(out[3]));
  EXPECT_EQ(out[4], 65504.0f);
}

TEST_P(RowOpsTest, Dequantize) {
  std::mt19937 bytes(unsigned(uniform(0, 1 << 30)));
  for (WeightType type : reference::kQuantizedTypes) {
    // One byte off any alignment; every element, so that no place of a bit is left out.
    std::vector<uint8_t> blocks = reference::randomBlocks(type, 9, bytes);
    const std::vector<float> expected = reference::dequantized(type, blocks);
    blocks.insert(blocks.begin(), 0);
    Guarded out(expected.size());
    dequantize(blocks.data() + 1, type, out.data(), int64_t(expected.size()));
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_EQ(out[i], expected[i]) << int(type) << ", element " << i;
  }
}

// What an independent program makes of some blocks: test/data/blocks.bin, written by test/support/make_blocks.py.
TEST_P(RowOpsTest, DequantizeAsTheGgufPackageDoes) {
  std::ifstream file(DISTC_SOURCE_DIR "/test/data/blocks.bin", std::ios::binary);
  for (WeightType type : reference::kQuantizedTypes) {
    std::vector<char> blocks(3 * blockBytes(type));
    std::vector<float> expected(3 * blockElements(type));
    file.read(blocks.data(), std::streamsize(blocks.size()));
    file.read(reinterpret_cast<char *>(expected.data()), std::streamsize(expected.size() * sizeof(float)));
    ASSERT_TRUE(file.good());
    Guarded out(expected.size());
    dequantize(blocks.data(), type, out.data(), int64_t(expected.size()));
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_EQ(out[i], expected[i]) << int(type) << ", element " << i;
  }
}

TEST_P(RowOpsTest, EmbeddingOfQuantizedRows) {
  std::mt19937 bytes(unsigned(uniform(0, 1 << 30)));
  for (WeightType type : reference::kQuantizedTypes) {
    const int64_t cols = blockElements(type) * 3, stride = blockElements(type) * 4;
    const std::vector<uint8_t> blocks = reference::randomBlocks(type, 4 * 5, bytes);
    const std::vector<float> exact = reference::dequantized(type, blocks);
    const int32_t tokens[] = {12, 10, 15, 9, 14};
    Guarded out(5 * cols);
    embedding(tokens, {blocks.data(), type, 5, cols, stride}, 10, out.data(), 0, 5);
    for (int64_t t = 0; t < 5; ++t)
      for (int64_t k = 0; k < cols; ++k)
        ASSERT_EQ(out[t * cols + k], tokens[t] < 10 || tokens[t] > 14 ? 0 : exact[(tokens[t] - 10) * stride + k]);
  }
}

} // namespace
} // namespace distc::cpu
