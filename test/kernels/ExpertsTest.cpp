#include "KernelTest.h"

namespace distc::cpu {
namespace {

class ExpertsTest : public KernelTest {
protected:
  std::vector<float> randomRoutes(int64_t rows, int64_t count, int64_t experts) {
    return reference::randomRoutes(random, rows, count, experts);
  }
};
DISTC_KERNEL_SUITE(ExpertsTest);

TEST_P(ExpertsTest, RouteAgreesWithDoubles) {
  for (auto [experts, count] : {std::pair{1, 1}, {5, 2}, {8, 8}, {128, 8}})
    for (bool normalize : {false, true}) {
      const int64_t rows = 7;
      const std::vector<float> logits = normal(size_t(rows * experts), 3.0f);
      Guarded routes(size_t(rows * count * 2)), parts(routes.size());
      route(logits.data(), experts, count, normalize, routes.data(), 0, rows);
      for (int64_t t = rows; t-- > 0;)
        route(logits.data(), experts, count, normalize, parts.data(), t, t + 1);
      EXPECT_TRUE(sameBits(routes.data(), parts.data(), routes.size()));
      EXPECT_LE(reference::routeError(logits, experts, count, normalize, routes.data()), reference::kRouteError)
          << experts << " experts, " << count;
    }
}

TEST_P(ExpertsTest, RouteBreaksTiesByTheLowerIdAndTakesNoNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const std::vector<float> logits{1, 3, 3, nan, 3, 1, /**/ nan, nan, nan, nan, nan, nan, /**/ -inf, 0, -inf, nan, 0, 0};
  Guarded routes(3 * 4 * 2);
  route(logits.data(), 6, 4, true, routes.data(), 0, 3);
  std::vector<float> ids;
  for (size_t i = 0; i < 12; ++i)
    ids.push_back(routes[2 * i + 1]);
  EXPECT_EQ(ids, (std::vector<float>{1, 2, 4, 0, 0, 1, 2, 3, 1, 4, 5, 0}));
  EXPECT_EQ(routes[0], routes[2]);
  EXPECT_EQ(routes[22], 0.0f);
}

TEST_P(ExpertsTest, GroupsPlacesInTheirOrder) {
  for (auto [rows, count, experts] : {std::tuple{1, 1, 1}, {9, 2, 5}, {100, 8, 60}}) {
    const std::vector<float> routes = randomRoutes(rows, count, experts);
    std::vector<int32_t> order(size_t(rows * count)), starts(size_t(experts) + 1), expected;
    groupByExpert(routes.data(), rows * count, experts, order.data(), starts.data());
    for (int64_t e = 0; e < experts; ++e) {
      EXPECT_EQ(starts[size_t(e)], int32_t(expected.size()));
      for (int32_t i = 0; i < rows * count; ++i)
        if (routes[size_t(2 * i + 1)] == float(e))
          expected.push_back(i);
    }
    EXPECT_EQ(order, expected);
    EXPECT_EQ(starts.back(), rows * count);
  }
}

// Chosen rows have the bits that they have in a product of all.
TEST_P(ExpertsTest, LinearOfSomeRowsIsLinear) {
  for (auto [cols, rows, tokens] : {std::tuple{64, 37, 5}, {65, 40, 9}, {576, 90, 60}, {7, 5, 100}})
    for (WeightType type : {WeightType::F32, WeightType::F16, WeightType::BF16})
      for (int64_t repeat : {1, 3}) {
        const StoredWeight weight(normal(size_t(rows * cols)), type);
        const std::vector<float> x = normal(size_t(tokens * cols));
        const Matrix w{weight.data(), type, rows, cols, cols};
        Guarded all(size_t(tokens * rows)), some(size_t(tokens * repeat * rows));
        linear(x.data(), tokens, w, nullptr, all.data(), rows, 0, rows);
        std::vector<int32_t> items;
        for (int32_t i = 0; i < tokens * repeat; ++i)
          if (uniform(0, 2) > 0)
            items.push_back(i);
        for (size_t begin = 0, count; begin < items.size(); begin += count) {
          count = std::min(items.size() - begin, size_t(uniform(1, 70)));
          const int64_t middle = uniform(0, rows);
          for (auto [from, to] : {std::pair<int64_t, int64_t>{0, middle}, {middle, rows}})
            linearOf(items.data() + begin, int64_t(count), x.data(), repeat, w, some.data(), rows, from, to);
        }
        for (int32_t i = 0; i < tokens * repeat; ++i)
          if (std::binary_search(items.begin(), items.end(), i))
            EXPECT_TRUE(sameBits(some.data() + i * rows, all.data() + i / repeat * rows, size_t(rows)));
          else
            EXPECT_TRUE(std::isnan(some[size_t(i * rows)]));
      }
}

TEST_P(ExpertsTest, Combine) {
  for (auto [rows, count, width] : {std::tuple{1, 1, 1}, {5, 2, 37}, {3, 8, 256}}) {
    const std::vector<float> routes = randomRoutes(rows, count, 16), x = normal(size_t(rows * count * width));
    Guarded y(size_t(rows * width)), parts(y.size());
    combine(x.data(), routes.data(), count, width, y.data(), 0, rows);
    for (int64_t t = rows; t-- > 0;)
      combine(x.data(), routes.data(), count, width, parts.data(), t, t + 1);
    EXPECT_TRUE(sameBits(y.data(), parts.data(), y.size()));
    const reference::Linear expected = reference::combine(x, routes, count, width);
    EXPECT_LE(relativeError(y.data(), expected.sums, expected.scale), 3e-7);
  }
}

} // namespace
} // namespace distc::cpu
