// The mixture of experts: routes, products with the weights of chosen experts, their sum.
#include "DeviceTest.h"

namespace distc::cuda {
namespace {

class CudaExpertsTest : public DeviceTest {
protected:
  std::vector<float> randomRoutes(int64_t rows, int64_t count, int64_t experts) {
    return reference::randomRoutes(random, rows, count, experts);
  }

  /// What each place's expert makes of its row of x.
  static reference::Linear products(const std::vector<float> &x, const std::vector<float> &w,
                                    const std::vector<float> &routes, int64_t repeat, int64_t rows, int64_t cols) {
    reference::Linear result;
    double squares = 0;
    for (int64_t i = 0; i < int64_t(routes.size()) / 2; ++i) {
      const auto row = x.begin() + i / repeat * cols;
      const auto matrix = w.begin() + int64_t(routes[size_t(2 * i + 1)]) * rows * cols;
      const auto product =
          reference::linear({row, row + cols}, 1, {matrix, matrix + rows * cols}, rows, cols, cols, nullptr);
      result.sums.insert(result.sums.end(), product.sums.begin(), product.sums.end());
      squares += product.scale * product.scale;
    }
    result.scale = std::sqrt(squares);
    return result;
  }
};

TEST_F(CudaExpertsTest, RouteAgreesWithDoubles) {
  for (auto [rows, experts, count] : {std::tuple{1, 1, 1}, {7, 5, 2}, {9, 8, 8}, {300, 128, 8}, {3, 1000, 40}})
    for (bool normalize : {false, true}) {
      const std::vector<float> logits = normal(size_t(rows * experts), 3.0f);
      const DeviceValues dLogits(logits, Type::F32), routes(size_t(rows * count * 2), Type::F32);
      ASSERT_CUDA(route(dLogits.floats(), rows, experts, count, normalize, routes.floats(), nullptr));
      EXPECT_LE(reference::routeError(logits, experts, count, normalize, routes.values().data()),
                reference::kRouteError)
          << experts << " experts, " << count;
    }
}

TEST_F(CudaExpertsTest, RouteBreaksTiesByTheLowerIdAndTakesNoNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const std::vector<float> logits{1, 3, 3, nan, 3, 1, /**/ nan, nan, nan, nan, nan, nan, /**/ -inf, 0, -inf, nan, 0, 0};
  const DeviceValues dLogits(logits, Type::F32), routes(3 * 4 * 2, Type::F32);
  ASSERT_CUDA(route(dLogits.floats(), 3, 6, 4, true, routes.floats(), nullptr));
  const std::vector<float> out = routes.values();
  std::vector<float> ids;
  for (size_t i = 0; i < 12; ++i)
    ids.push_back(out[2 * i + 1]);
  EXPECT_EQ(ids, (std::vector<float>{1, 2, 4, 0, 0, 1, 2, 3, 1, 4, 5, 0}));
  EXPECT_EQ(out[0], out[2]);
  EXPECT_EQ(out[22], 0.0f);
}

// Few places, each with a block of its own; many; all of one expert, more than a block keeps at a time.
TEST_F(CudaExpertsTest, ProductsAgreeWithDoubles) {
  struct Shape {
    int64_t tokens, count, experts, rows, cols;
  };
  const Shape shapes[] = {{1, 1, 1, 1, 1},  {1, 2, 5, 37, 64},   {3, 2, 16, 9, 65},  {1, 8, 128, 24, 256},
                          {5, 3, 6, 42, 7}, {40, 2, 5, 13, 128}, {700, 1, 1, 6, 24}, {90, 8, 8, 4, 40}};
  for (const Shape &s : shapes)
    for (Type xType : types)
      for (Type wType : types)
        for (bool each : {false, true}) {
          SCOPED_TRACE(testing::Message()
                       << s.tokens << " tokens, " << s.count << " of " << s.experts << " experts of " << s.rows << "x"
                       << s.cols << " types " << int(xType) << int(wType) << (each ? " each" : ""));
          const int64_t places = s.tokens * s.count;
          const auto x = rounded(normal(size_t((each ? places : s.tokens) * s.cols)), xType),
                     w = rounded(normal(size_t(s.experts * s.rows * s.cols)), wType);
          const std::vector<float> routes = randomRoutes(s.tokens, s.count, s.experts);
          const DeviceValues dx(x, xType, each), dw(w, wType), dRoutes(routes, Type::F32);
          const DeviceValues y(size_t(places * s.rows), xType);
          ASSERT_CUDA(expertLinear(dx, each ? 1 : s.count, dRoutes.floats(), places,
                                   {dw.data(), wType, s.experts, s.rows, s.cols}, y, nullptr));
          const reference::Linear expected = products(x, w, routes, each ? 1 : s.count, s.rows, s.cols);
          EXPECT_LE(relativeError(y.values().data(), expected.sums, expected.scale), bound(xType, 2e-6));
        }
}

// Tiles that are not full, columns that are no whole blocks, more places than a block keeps at a time.
TEST_F(CudaExpertsTest, ProductsOnTensorCoresAgreeWithDoubles) {
  struct Shape {
    int64_t tokens, count, experts, rows, cols;
  };
  for (const Shape &s : {Shape{1, 1, 1, 1, 8}, Shape{9, 2, 5, 66, 64}, Shape{40, 3, 4, 70, 200},
                         Shape{300, 1, 1, 16, 72}, Shape{20, 8, 16, 128, 128}})
    for (Type type : {Type::F16, Type::BF16})
      for (bool each : {false, true}) {
        SCOPED_TRACE(testing::Message() << s.tokens << " tokens, " << s.count << " of " << s.experts << " experts of "
                                        << s.rows << "x" << s.cols << " type " << int(type) << (each ? " each" : ""));
        const int64_t places = s.tokens * s.count;
        const auto x = rounded(normal(size_t((each ? places : s.tokens) * s.cols)), type),
                   w = rounded(normal(size_t(s.experts * s.rows * s.cols)), type);
        const std::vector<float> routes = randomRoutes(s.tokens, s.count, s.experts);
        const DeviceValues dx(x, type), dw(w, type), dRoutes(routes, Type::F32), y(size_t(places * s.rows), type);
        const ExpertMatrices matrices{dw.data(), type, s.experts, s.rows, s.cols};
        ASSERT_TRUE(expertProductSuits(dx, matrices));
        ASSERT_CUDA(expertProduct(dx, each ? 1 : s.count, dRoutes.floats(), places, matrices, y.data(), nullptr));
        const reference::Linear expected = products(x, w, routes, each ? 1 : s.count, s.rows, s.cols);
        EXPECT_LE(relativeError(y.values().data(), expected.sums, expected.scale), bound(type, 1e-5));
      }
}

TEST_F(CudaExpertsTest, BitsDependNeitherOnTokensNorOnAlignment) {
  const int64_t tokens = 30, count = 2, experts = 6, rows = 10, cols = 576;
  for (Type type : types) {
    const auto x = normal(size_t(tokens * cols)), w = normal(size_t(experts * rows * cols));
    const std::vector<float> routes = randomRoutes(tokens, count, experts);
    const DeviceValues dx(x, type), dw(w, type), shifted(w, type, true), dRoutes(routes, Type::F32);
    const DeviceValues all(size_t(tokens * count * rows), Type::F32);
    ASSERT_CUDA(expertLinear(dx, count, dRoutes.floats(), tokens * count, {dw.data(), type, experts, rows, cols}, all,
                             nullptr));
    const std::vector<float> expected = all.values();
    for (int64_t part : {1, 2, 5, 16}) {
      const int64_t first = uniform(0, tokens - part);
      const DeviceValues y(size_t(part * count * rows), Type::F32);
      const In from{static_cast<const char *>(dx.data()) + first * cols * int64_t(bytesOf(type)), type};
      ASSERT_CUDA(expertLinear(from, count, dRoutes.floats() + first * count * 2, part * count,
                               {(part % 2 ? dw : shifted).data(), type, experts, rows, cols}, y, nullptr));
      const std::vector<float> out = y.values();
      EXPECT_EQ(std::memcmp(out.data(), &expected[size_t(first * count * rows)], out.size() * 4), 0)
          << "type " << int(type) << " tokens " << first << "+" << part;
    }
  }
}

TEST_F(CudaExpertsTest, Combine) {
  for (auto [rows, count, width] : {std::tuple{1, 1, 1}, {5, 2, 37}, {3, 8, 256}, {70, 2, 2056}})
    for (Type type : types)
      for (bool shifted : {false, true}) {
        const std::vector<float> routes = randomRoutes(rows, count, 16);
        const auto x = rounded(normal(size_t(rows * count * width)), type);
        const DeviceValues dx(x, type, shifted), dRoutes(routes, Type::F32), y(size_t(rows * width), type, shifted);
        ASSERT_CUDA(combine(dx, dRoutes.floats(), rows, count, width, y, nullptr));
        const reference::Linear expected = reference::combine(x, routes, count, width);
        EXPECT_LE(relativeError(y.values().data(), expected.sums, expected.scale), bound(type, 1e-6));
      }
}

TEST_F(CudaExpertsTest, EmptyCallsWriteNothing) {
  const DeviceValues x(normal(8), Type::F32), w(normal(16), Type::F32), routes(normal(2), Type::F32), y(4, Type::F32);
  EXPECT_CUDA(route(x.floats(), 0, 8, 2, true, y.floats(), nullptr));
  EXPECT_CUDA(expertLinear(x, 1, routes.floats(), 0, {w.data(), Type::F32, 1, 2, 8}, y, nullptr));
  EXPECT_CUDA(combine(x, routes.floats(), 0, 1, 4, y, nullptr));
  for (float v : y.values())
    EXPECT_TRUE(std::isnan(v));
}

} // namespace
} // namespace distc::cuda
