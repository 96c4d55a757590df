#include "Blocks.h"
#include "KernelTest.h"

#include <array>

namespace distc::cpu {
namespace {

class LinearTest : public KernelTest {};
DISTC_KERNEL_SUITE(LinearTest);

struct Shape {
  int64_t cols, rows, padding, tokens;
};
const Shape shapes[] = {{1, 1, 0, 1},     {3, 2, 5, 2},     {8, 9, 0, 3},     {64, 37, 0, 4},    {65, 40, 1, 5},
                        {127, 13, 3, 8},  {576, 65, 0, 7},  {513, 50, 7, 50}, {512, 36, 0, 48},  {1024, 71, 0, 49},
                        {1500, 19, 2, 1}, {1031, 5, 0, 97}, {31, 100, 0, 2},  {2048, 12, 16, 13}};

TEST_P(LinearTest, AgreesWithDoubles) {
  for (const Shape &s : shapes)
    for (WeightType type : {WeightType::F32, WeightType::F16, WeightType::BF16})
      for (bool biased : {false, true}) {
        SCOPED_TRACE(testing::Message() << s.cols << "x" << s.rows << " tokens " << s.tokens << " type " << int(type));
        const int64_t stride = s.cols + s.padding, yStride = s.rows + s.padding;
        const StoredWeight weight(normal(s.rows * stride), type);
        const std::vector<float> x = normal(s.tokens * s.cols), bias = normal(s.rows);
        Guarded y(s.tokens * yStride);
        linear(x.data(), s.tokens, {weight.data(), type, s.rows, s.cols, stride}, biased ? bias.data() : nullptr,
               y.data(), yStride, 0, s.rows);
        std::vector<float> out;
        for (int64_t t = 0; t < s.tokens; ++t)
          for (int64_t n = 0; n < yStride; ++n)
            if (n < s.rows)
              out.push_back(y[t * yStride + n]);
            else
              EXPECT_TRUE(std::isnan(y[t * yStride + n])) << "the gap between rows was written";
        const auto expected =
            reference::linear(x, s.tokens, weight.exact, s.rows, s.cols, stride, biased ? bias.data() : nullptr);
        EXPECT_LE(relativeError(out.data(), expected.sums, expected.scale), 3e-6);
      }
}

TEST_P(LinearTest, BitsDependNeitherOnTokensNorOnRange) {
  for (const Shape &s : {Shape{64, 37, 0, 53}, Shape{577, 90, 3, 101}, Shape{1536, 41, 0, 50}, Shape{7, 11, 0, 9}})
    for (WeightType type : {WeightType::F32, WeightType::F16, WeightType::BF16}) {
      const int64_t stride = s.cols + s.padding;
      const StoredWeight weight(normal(s.rows * stride), type);
      const std::vector<float> x = normal(s.tokens * s.cols), bias = normal(s.rows);
      const Matrix w{weight.data(), type, s.rows, s.cols, stride};
      Guarded all(s.tokens * s.rows);
      linear(x.data(), s.tokens, w, bias.data(), all.data(), s.rows, 0, s.rows);
      for (int64_t count : {1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 47, 48, 49, 52}) {
        if (count > s.tokens)
          continue;
        const int64_t first = uniform(0, s.tokens - count);
        const int64_t begin = uniform(0, s.rows - 1), end = uniform(begin + 1, s.rows);
        Guarded part(count * s.rows);
        linear(x.data() + first * s.cols, count, w, bias.data(), part.data(), s.rows, begin, end);
        for (int64_t t = 0; t < count; ++t)
          for (int64_t n = 0; n < s.rows; ++n) {
            if (n < begin || n >= end)
              ASSERT_TRUE(std::isnan(part[t * s.rows + n])) << "written outside the range";
            else
              ASSERT_TRUE(sameBits(&part.data()[t * s.rows + n], &all.data()[(first + t) * s.rows + n], 1))
                  << s.cols << "x" << s.rows << " type " << int(type) << " tokens " << first << "+" << count << " of "
                  << s.tokens << ", rows " << begin << ".." << end << ", at token " << t << " row " << n;
          }
      }
    }
}

// The bits of a product with a quantized matrix are those with its values as f32, for any number of tokens and range.
TEST_P(LinearTest, QuantizedIsTheDequantizedMatrix) {
  std::mt19937 bytes(unsigned(uniform(0, 1 << 30)));
  for (WeightType type : reference::kQuantizedTypes)
    for (const auto &[blocks, rows, tokens] :
         {std::array<int64_t, 3>{1, 5, 1}, {3, 13, 2}, {2, 9, 3}, {4, 11, 4}, {5, 60, 5}, {2, 33, 21}, {7, 7, 70}}) {
      const int64_t cols = blocks * blockElements(type), padded = cols + blockElements(type);
      const std::vector<uint8_t> stored = reference::randomBlocks(type, rows * (blocks + 1), bytes);
      const std::vector<float> values = reference::dequantized(type, stored), x = normal(tokens * cols),
                               bias = normal(rows);
      const int64_t begin = uniform(0, rows - 1), end = uniform(begin + 1, rows);
      Guarded y(tokens * rows), expected(tokens * rows);
      linear(x.data(), tokens, {stored.data(), type, rows, cols, padded}, bias.data(), y.data(), rows, begin, end);
      linear(x.data(), tokens, {values.data(), WeightType::F32, rows, cols, padded}, bias.data(), expected.data(), rows,
             begin, end);
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t n = 0; n < rows; ++n) {
          const int64_t i = t * rows + n;
          if (n < begin || n >= end)
            ASSERT_TRUE(std::isnan(y[i])) << "written outside the range";
          else
            ASSERT_EQ(y[i], expected[i]) << int(type) << " " << cols << "x" << rows << ", token " << t << " of "
                                         << tokens;
        }
    }
}

TEST_P(LinearTest, EmptyCallsWriteNothing) {
  const std::vector<float> x = normal(8), w = normal(16);
  Guarded y(4);
  linear(x.data(), 0, {w.data(), WeightType::F32, 2, 8, 8}, nullptr, y.data(), 2, 0, 2);
  linear(x.data(), 1, {w.data(), WeightType::F32, 2, 8, 8}, nullptr, y.data(), 2, 1, 1);
  for (size_t i = 0; i < 4; ++i)
    EXPECT_TRUE(std::isnan(y[i]));
}

} // namespace
} // namespace distc::cpu
