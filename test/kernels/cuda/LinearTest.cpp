#include "DeviceTest.h"

namespace distc::cuda {
namespace {

class CudaLinearTest : public DeviceTest {};

struct Shape {
  int64_t cols, rows, padding, tokens;
};

TEST_F(CudaLinearTest, AgreesWithDoubles) {
  const Shape shapes[] = {{1, 1, 0, 1},     {3, 2, 5, 2},     {8, 9, 0, 3},     {64, 37, 0, 4},
                          {65, 40, 1, 5},   {127, 13, 3, 8},  {576, 66, 0, 7},  {512, 36, 8, 19},
                          {1024, 71, 0, 1}, {4096, 30, 0, 9}, {1500, 19, 4, 1}, {2048, 12, 16, 13}};
  for (const Shape &s : shapes)
    for (Type xType : types)
      for (Type wType : types)
        for (Type yType : {xType, Type::F32})
          for (bool extras : {false, true}) { // bias, addresses aligned to the element
            SCOPED_TRACE(testing::Message() << s.cols << "x" << s.rows << " tokens " << s.tokens << " types "
                                            << int(xType) << int(wType) << int(yType) << (extras ? " extras" : ""));
            const int64_t stride = s.cols + s.padding, yStride = s.rows + s.padding;
            const auto x = rounded(normal(s.tokens * s.cols), xType), w = rounded(normal(s.rows * stride), wType);
            const auto bias = rounded(normal(s.rows), xType);
            const DeviceValues dx(x, xType, extras), dw(w, wType, extras), dBias(bias, xType, extras);
            const DeviceValues y(s.tokens * yStride, yType, extras);
            ASSERT_CUDA(linear(dx, s.tokens, {dw.data(), wType, s.rows, s.cols, stride}, extras ? In(dBias) : In(), y,
                               yStride, nullptr));
            const auto expected =
                reference::linear(x, s.tokens, w, s.rows, s.cols, stride, extras ? bias.data() : nullptr);
            const std::vector<float> all = y.values();
            std::vector<float> out;
            for (int64_t t = 0; t < s.tokens; ++t)
              for (int64_t n = 0; n < yStride; ++n) {
                const float value = all[t * yStride + n];
                if (n < s.rows)
                  out.push_back(value);
                else
                  EXPECT_TRUE(std::isnan(value)) << "the gap between rows was written";
              }
            double squares = 0;
            for (double v : expected.sums)
              squares += v * v;
            EXPECT_LE(relativeError(out.data(), expected.sums, std::max(expected.scale, std::sqrt(squares))),
                      bound(yType, 2e-6));
          }
}

TEST_F(CudaLinearTest, BitsDependNeitherOnTokensNorOnAlignment) {
  for (const Shape &s : {Shape{64, 37, 0, 23}, Shape{577, 90, 3, 21}, Shape{1536, 41, 0, 20}, Shape{4096, 7, 0, 17}})
    for (Type type : types) {
      const int64_t stride = s.cols + s.padding;
      const auto x = normal(s.tokens * s.cols), w = normal(s.rows * stride);
      const DeviceValues dx(x, type), dw(w, type), shifted(w, type, true), all(s.tokens * s.rows, Type::F32);
      ASSERT_CUDA(linear(dx, s.tokens, {dw.data(), type, s.rows, s.cols, stride}, {}, all, s.rows, nullptr));
      const std::vector<float> expected = all.values();
      for (int64_t count : {1, 2, 3, 4, 5, 8, 9, 16}) {
        const int64_t first = uniform(0, s.tokens - count);
        const DeviceValues part(count * s.rows, Type::F32);
        const In from{static_cast<const char *>(dx.data()) + first * s.cols * bytesOf(type), type};
        ASSERT_CUDA(linear(from, count, {(count % 2 ? dw : shifted).data(), type, s.rows, s.cols, stride}, {}, part,
                           s.rows, nullptr));
        const std::vector<float> out = part.values();
        EXPECT_EQ(std::memcmp(out.data(), &expected[first * s.rows], out.size() * 4), 0)
            << s.cols << "x" << s.rows << " type " << int(type) << " tokens " << first << "+" << count;
      }
    }
}

TEST_F(CudaLinearTest, EmptyCallsWriteNothing) {
  const DeviceValues x(normal(8), Type::F32), w(normal(16), Type::F32), y(4, Type::F32);
  EXPECT_CUDA(linear(x, 0, {w.data(), Type::F32, 2, 8, 8}, {}, y, 2, nullptr));
  EXPECT_CUDA(linear(x, 1, {w.data(), Type::F32, 0, 8, 8}, {}, y, 2, nullptr));
  for (float v : y.values())
    EXPECT_TRUE(std::isnan(v));
}

} // namespace
} // namespace distc::cuda
