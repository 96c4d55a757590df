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

// Of routes, which may be of few experts: what listExperts and the grouped products make of them.
class CudaGroupedProductTest : public CudaExpertsTest {
protected:
  struct Case {
    int64_t tokens, count, experts, rows, cols;
    int64_t used = 0; // experts that tokens go to; 0: all
  };
  const std::vector<Case> cases{{1, 1, 1, 8, 8},           {9, 2, 5, 67, 64},        {40, 3, 4, 136, 200},
                                {300, 1, 1, 264, 72},      {20, 8, 16, 128, 320},    {130, 2, 3, 301, 136},
                                {60, 2, 64, 128, 64, 2},   {70, 4, 12, 64, 264, 4},  {520, 1, 3, 128, 64, 1},
                                {33, 1, 1000, 16, 72, 40}, {260, 2, 4, 520, 392, 3}, {700, 4, 8, 40, 24}};

  std::vector<float> routesOf(const Case &c) {
    std::vector<float> routes = randomRoutes(c.tokens, c.count, c.used > 0 ? c.used : c.experts);
    // The experts that are used lie anywhere among all.
    std::vector<int64_t> ids(size_t(c.experts), 0);
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), random.engine);
    for (size_t i = 1; i < routes.size(); i += 2)
      routes[i] = float(ids[size_t(routes[i])]);
    return routes;
  }
  static std::string nameOf(const Case &c, Type type, bool each) {
    return std::to_string(c.tokens) + " tokens, " + std::to_string(c.count) + " of " + std::to_string(c.experts) +
           " experts (" + std::to_string(c.used) + ") of " + std::to_string(c.rows) + "x" + std::to_string(c.cols) +
           " type " + std::to_string(int(type)) + (each ? " each" : "");
  }
};

TEST_F(CudaGroupedProductTest, AgreesWithDoubles) {
  for (const Case &c : cases)
    for (Type type : {Type::F16, Type::BF16})
      for (bool each : {false, true}) {
        SCOPED_TRACE(nameOf(c, type, each));
        const int64_t places = c.tokens * c.count, repeat = each ? 1 : c.count;
        const auto x = rounded(normal(size_t((each ? places : c.tokens) * c.cols)), type),
                   w = rounded(normal(size_t(c.experts * c.rows * c.cols)), type);
        const std::vector<float> routes = routesOf(c);
        const DeviceValues dx(x, type), dw(w, type), dRoutes(routes, Type::F32), y(size_t(places * c.rows), type);
        const DeviceBytes lists(size_t(expertListBytes(places, c.experts)));
        const ExpertMatrices matrices{dw.data(), type, c.experts, c.rows, c.cols};
        ASSERT_TRUE(groupedProductSuits(dx, places, matrices));
        ASSERT_CUDA(listExperts(dRoutes.floats(), places, c.experts, lists.data(), nullptr));
        ASSERT_CUDA(groupedProduct(dx, repeat, lists.data(), places, matrices, y.data(), nullptr));
        const reference::Linear expected = products(x, w, routes, repeat, c.rows, c.cols);
        EXPECT_LE(relativeError(y.values().data(), expected.sums, expected.scale), bound(type, 1e-5));
      }
}

TEST_F(CudaGroupedProductTest, GatedAgreesWithDoubles) {
  for (const Case &c : cases)
    for (Type type : {Type::F16, Type::BF16}) {
      const auto activation = Activation(uniform(0, 3));
      SCOPED_TRACE(nameOf(c, type, false) + " activation " + std::to_string(int(activation)));
      const int64_t places = c.tokens * c.count;
      const auto size = size_t(c.experts * c.rows * c.cols);
      const float deviation = 2 / std::sqrt(float(c.cols));
      const auto x = rounded(normal(size_t(c.tokens * c.cols)), type), gate = rounded(normal(size, deviation), type),
                 up = rounded(normal(size, deviation), type);
      const std::vector<float> routes = routesOf(c);
      const DeviceValues dx(x, type), dUp(up, type), dGate(gate, type), dRoutes(routes, Type::F32);
      const DeviceValues y(size_t(places * c.rows), type);
      const DeviceBytes lists(size_t(expertListBytes(places, c.experts)));
      ASSERT_CUDA(listExperts(dRoutes.floats(), places, c.experts, lists.data(), nullptr));
      ASSERT_CUDA(groupedGatedProduct(dx, c.count, lists.data(), places,
                                      {dGate.data(), type, c.experts, c.rows, c.cols}, dUp.data(), activation, y.data(),
                                      nullptr));
      const auto first = products(x, gate, routes, c.count, c.rows, c.cols),
                 second = products(x, up, routes, c.count, c.rows, c.cols);
      std::vector<double> expected;
      for (size_t i = 0; i < first.sums.size(); ++i)
        expected.push_back(reference::activation(int(activation), first.sums[i]) * second.sums[i]);
      EXPECT_LE(relativeError(y.values().data(), expected), bound(type, 1e-4));
    }
}

TEST_F(CudaGroupedProductTest, WhatIsNoNumberStaysWithItsToken) {
  const Case c{150, 3, 6, 136, 136};
  const int64_t places = c.tokens * c.count, spoilt = uniform(0, c.tokens - 1);
  for (Type type : {Type::F16, Type::BF16})
    for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      auto x = rounded(normal(size_t(c.tokens * c.cols)), type);
      const auto w = normal(size_t(c.experts * c.rows * c.cols));
      const std::vector<float> routes = routesOf(c);
      const DeviceValues dw(w, type), dRoutes(routes, Type::F32);
      const DeviceBytes lists(size_t(expertListBytes(places, c.experts)));
      ASSERT_CUDA(listExperts(dRoutes.floats(), places, c.experts, lists.data(), nullptr));
      const auto run = [&] {
        const DeviceValues dx(x, type), y(size_t(places * c.rows), type);
        EXPECT_CUDA(groupedProduct(dx, c.count, lists.data(), places, {dw.data(), type, c.experts, c.rows, c.cols},
                                   y.data(), nullptr));
        return y.values();
      };
      const std::vector<float> before = run();
      for (int64_t k = 0; k < c.cols; ++k)
        x[size_t(spoilt * c.cols + k)] = bad;
      const std::vector<float> after = run();
      for (int64_t i = 0; i < places * c.rows; ++i)
        if (i / c.rows / c.count == spoilt)
          EXPECT_FALSE(std::isfinite(after[size_t(i)]));
        else
          ASSERT_EQ(before[size_t(i)], after[size_t(i)]) << "place " << i / c.rows << " of token " << spoilt;
    }
}

// Widths of products are other ones with fewer places.
TEST_F(CudaGroupedProductTest, BitsDependOnNoOtherToken) {
  const Case c{90, 2, 3, 40, 200};
  for (Type type : {Type::F16, Type::BF16}) {
    const auto x = normal(size_t(c.tokens * c.cols)), w = normal(size_t(c.experts * c.rows * c.cols));
    const std::vector<float> routes = routesOf(c);
    const DeviceValues dx(x, type), dw(w, type), dRoutes(routes, Type::F32);
    const auto run = [&](int64_t first, int64_t tokens) {
      const int64_t places = tokens * c.count;
      const float *from = dRoutes.floats() + first * c.count * 2;
      const DeviceBytes lists(size_t(expertListBytes(places, c.experts)));
      const DeviceValues y(size_t(places * c.rows), type);
      EXPECT_CUDA(listExperts(from, places, c.experts, lists.data(), nullptr));
      EXPECT_CUDA(groupedProduct({static_cast<const char *>(dx.data()) + first * c.cols * 2, type}, c.count,
                                 lists.data(), places, {dw.data(), type, c.experts, c.rows, c.cols}, y.data(),
                                 nullptr));
      return y.values();
    };
    const std::vector<float> all = run(0, c.tokens);
    for (int64_t part : {1, 5, 16, 60}) {
      const int64_t first = uniform(0, c.tokens - part);
      const std::vector<float> out = run(first, part);
      EXPECT_EQ(std::memcmp(out.data(), &all[size_t(first * c.count * c.rows)], out.size() * 4), 0)
          << "type " << int(type) << " tokens " << first << "+" << part;
    }
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
        ASSERT_CUDA(combine(dx, dRoutes.floats(), rows, count, width, {}, y, nullptr));
        const reference::Linear expected = reference::combine(x, routes, count, width);
        EXPECT_LE(relativeError(y.values().data(), expected.sums, expected.scale), bound(type, 1e-6));
        // The residual is added to what was rounded, in place too.
        std::vector<float> sums = y.values();
        const auto residual = rounded(normal(sums.size()), type);
        const DeviceValues inPlace(residual, type, shifted);
        ASSERT_CUDA(combine(dx, dRoutes.floats(), rows, count, width, inPlace, inPlace, nullptr));
        for (size_t i = 0; i < sums.size(); ++i)
          sums[i] += residual[i];
        EXPECT_EQ(inPlace.values(), rounded(sums, type));
      }
}

TEST_F(CudaExpertsTest, EmptyCallsWriteNothing) {
  const DeviceValues x(normal(8), Type::F32), w(normal(16), Type::F32), routes(normal(2), Type::F32), y(4, Type::F32);
  EXPECT_CUDA(route(x.floats(), 0, 8, 2, true, y.floats(), nullptr));
  EXPECT_CUDA(expertLinear(x, 1, routes.floats(), 0, {w.data(), Type::F32, 1, 2, 8}, y, nullptr));
  EXPECT_CUDA(combine(x, routes.floats(), 0, 1, 4, {}, y, nullptr));
  for (float v : y.values())
    EXPECT_TRUE(std::isnan(v));
}

} // namespace
} // namespace distc::cuda
