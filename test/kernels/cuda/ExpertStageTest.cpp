// The decode stages of a mixture of experts.
#include "DeviceTest.h"
#include "distc/kernels/CudaStage.h"

namespace distc::cuda {
namespace {

struct Shape {
  int tokens, count, experts, rows, cols, sms;
};
// More experts in use than tiles in a pass; shares without a row; all tokens at one expert; rows that are no whole
// tiles.
constexpr Shape shapes[] = {{1, 1, 1, 2, 64, 1},     {1, 8, 128, 96, 256, 132}, {8, 8, 128, 48, 576, 132},
                            {3, 2, 8, 470, 1088, 7}, {8, 1, 1, 66, 320, 132},   {5, 4, 4, 34, 2048, 3},
                            {8, 16, 40, 10, 64, 5}};

class CudaExpertStageTest : public DeviceTest {
protected:
  /// The matrices of all experts.
  struct Weight {
    Weight(std::vector<float> values, const Shape &s, Type type)
        : host(rounded(std::move(values), type)), device(host, type), maps({tileMaps(s, type)}) {}
    TileMaps tileMaps(const Shape &s, Type type) const {
      TileMaps maps;
      EXPECT_CUDA(encodeTileMaps({device.data(), type, int64_t(s.experts) * s.rows, s.cols, s.cols}, maps));
      return maps;
    }
    std::vector<float> host;
    DeviceValues device;
    DeviceArray<TileMaps> maps;
  };
  Weight weight(const Shape &s, Type type) {
    return {normal(size_t(s.experts) * s.rows * s.cols, 1.0f / std::sqrt(float(s.cols))), s, type};
  }
  std::vector<float> routes(const Shape &s) { return reference::randomRoutes(random, s.tokens, s.count, s.experts); }

  static double product(const float *x, const Weight &w, const Shape &s, int expert, int row) {
    double sum = 0;
    for (int k = 0; k < s.cols; ++k)
      sum += double(x[k]) * w.host[(size_t(expert) * s.rows + row) * s.cols + k];
    return sum;
  }

  static MatrixStage stageOf(StageForm form, const Shape &s, Type type, const float *routes) {
    MatrixStage stage;
    stage.form = form;
    stage.type = type;
    stage.cols = s.cols;
    stage.sms = s.sms;
    stage.ringBytes = s.tokens == 1 ? maxRingBytes : 3 * tileBytes;
    stage.routes = routes;
    stage.count = s.count;
    stage.experts = s.experts;
    stage.weightCount = form == StageForm::ExpertGlu ? 2 : 1;
    return stage;
  }

  /// What the stage makes of the tokens.
  static std::vector<float> run(const MatrixStage &stage, const DeviceValues &x, int tokens, const DeviceValues &y) {
    StageInput in;
    in.x = x.data();
    in.tokens = tokens;
    EXPECT_CUDA(matrixStage(stage, in, nullptr));
    EXPECT_CUDA(cudaDeviceSynchronize());
    return y.values();
  }

  /// activation(gate) * up of each place.
  std::vector<float> glu(const Shape &s, Type type, const std::vector<float> &x, const std::vector<float> &routes,
                         const Weight &gate, const Weight &up) {
    const DeviceValues dx(x, type), dRoutes(routes, Type::F32), y(size_t(s.tokens * s.count) * s.rows, type);
    MatrixStage stage = stageOf(StageForm::ExpertGlu, s, type, dRoutes.floats());
    for (int i = 0; i < 2; ++i) {
      stage.weights[i].maps = (i == 0 ? gate : up).maps.data();
      stage.weights[i].rows = s.rows;
    }
    stage.weights[0].y = y;
    stage.weights[0].yStride = s.rows;
    return run(stage, dx, s.tokens, y);
  }

  /// The weighted sum of what a token's experts make of its places.
  std::vector<float> sum(const Shape &s, Type type, const std::vector<float> &x, const std::vector<float> &routes,
                         const Weight &w, const std::vector<float> &residual) {
    const DeviceValues dx(x, type), dRoutes(routes, Type::F32), dResidual(residual, type),
        y(size_t(s.tokens) * s.rows, type);
    MatrixStage stage = stageOf(StageForm::ExpertSum, s, type, dRoutes.floats());
    stage.weights[0].maps = w.maps.data();
    stage.weights[0].rows = s.rows;
    stage.weights[0].y = y;
    stage.weights[0].yStride = s.rows;
    if (!residual.empty())
      stage.weights[0].residual = dResidual;
    std::vector<uint32_t> bounds;
    for (int i = 0; i <= s.sms; ++i)
      bounds.push_back(uint32_t(int64_t(i) * (s.rows / rowUnit) / s.sms));
    const DeviceArray<StageTile> tiles(listTiles(stage, bounds));
    stage.tiles = tiles.data();
    return run(stage, dx, s.tokens, y);
  }
};

std::string text(const Shape &s, Type type) {
  return std::to_string(s.tokens) + " tokens, " + std::to_string(s.count) + " of " + std::to_string(s.experts) +
         " experts of " + std::to_string(s.rows) + "x" + std::to_string(s.cols) + " type " + std::to_string(int(type));
}

TEST_F(CudaExpertStageTest, GluAgreesWithDoubles) {
  for (const Shape &s : shapes)
    for (Type type : {Type::F16, Type::BF16}) {
      SCOPED_TRACE(text(s, type));
      const Weight gate = weight(s, type), up = weight(s, type);
      const std::vector<float> x = rounded(normal(size_t(s.tokens) * s.cols), type), routes = this->routes(s);
      std::vector<double> expected;
      for (int p = 0; p < s.tokens * s.count; ++p)
        for (int r = 0; r < s.rows; ++r) {
          const int expert = int(routes[size_t(2 * p + 1)]);
          const float *row = &x[size_t(p / s.count) * s.cols];
          const double g = product(row, gate, s, expert, r);
          expected.push_back(g / (1 + std::exp(-g)) * product(row, up, s, expert, r));
        }
      EXPECT_LE(relativeError(glu(s, type, x, routes, gate, up).data(), expected), bound(type, 1e-5));
    }
}

// The places are rounded once more, with their weights, before the product.
TEST_F(CudaExpertStageTest, SumAgreesWithDoubles) {
  for (const Shape &s : shapes)
    for (Type type : {Type::F16, Type::BF16})
      for (bool add : {false, true}) {
        SCOPED_TRACE(text(s, type));
        const Weight w = weight(s, type);
        const std::vector<float> x = rounded(normal(size_t(s.tokens * s.count) * s.cols), type),
                                 routes = this->routes(s),
                                 residual = rounded(normal(size_t(add ? s.tokens * s.rows : 0)), type);
        std::vector<double> expected, usual; // of a few results, which may all be small by chance
        for (int t = 0; t < s.tokens; ++t)
          for (int r = 0; r < s.rows; ++r) {
            double y = add ? residual[size_t(t) * s.rows + r] : 0;
            for (int p = t * s.count; p < (t + 1) * s.count; ++p)
              usual.push_back(routes[size_t(2 * p)]);
            for (int p = t * s.count; p < (t + 1) * s.count; ++p)
              y += routes[size_t(2 * p)] * product(&x[size_t(p) * s.cols], w, s, int(routes[size_t(2 * p + 1)]), r);
            expected.push_back(y);
          }
        EXPECT_LE(relativeError(sum(s, type, x, routes, w, residual).data(), expected,
                                std::max(reference::normOf(usual), reference::normOf(expected))),
                  bound(type, type == Type::F16 ? 0x1p-10 : 0x1p-7));
      }
}

// Experts that are no whole block, tokens with and without a norm; twice, for the counter.
TEST_F(CudaExpertStageTest, RouterAgreesWithDoubles) {
  for (const Shape &s : {Shape{1, 1, 1, 0, 64, 0}, Shape{1, 8, 128, 0, 2048, 0}, Shape{8, 2, 8, 0, 4096, 0},
                         Shape{5, 3, 37, 0, 576, 0}, Shape{8, 16, 300, 0, 72, 0}})
    for (Type type : {Type::F16, Type::BF16})
      for (int with : {0, 1, 2}) { // 1: a norm; 2: a sum too
        SCOPED_TRACE(text(s, type));
        const std::vector<float> x = rounded(normal(size_t(s.tokens) * s.cols, 3.0f), type), norm = normal(s.cols),
                                 w = rounded(normal(size_t(s.experts) * s.cols, 1 / std::sqrt(float(s.cols))), type),
                                 addend = rounded(normal(x.size()), type);
        const DeviceValues dx(x, type), dw(w, type), dNorm(norm, Type::F32), normed(x.size(), type),
            dAddend(addend, type), sum(x.size(), type), logits(size_t(s.tokens) * s.experts, Type::F32),
            routes(size_t(s.tokens) * s.count * 2, Type::F32);
        const DeviceArray<uint32_t> arrived({0});
        RouterStage stage;
        stage.type = type;
        stage.cols = s.cols;
        stage.experts = s.experts;
        stage.count = s.count;
        stage.normalize = s.tokens > 1;
        stage.weights = dw.data();
        stage.x = dx.data();
        stage.addend = with == 2 ? dAddend.data() : nullptr;
        stage.sum = sum.data();
        stage.norm = with ? dNorm.floats() : nullptr;
        stage.eps = 1e-5f;
        stage.normOffset = 0.5f;
        stage.normed = normed.data();
        stage.logits = logits.floats();
        stage.routes = routes.floats();
        stage.arrived = arrived.data();
        for (int i = 0; i < 2; ++i)
          ASSERT_CUDA(routerStage(stage, s.tokens, nullptr));
        ASSERT_CUDA(cudaDeviceSynchronize());
        std::vector<float> input = x, factors = norm;
        if (with == 2) {
          for (size_t i = 0; i < input.size(); ++i)
            input[i] += addend[i];
          input = rounded(input, type);
          EXPECT_EQ(sum.values(), input);
        }
        if (with) {
          const std::vector<float> before = input;
          for (float &factor : factors)
            factor += stage.normOffset;
          input = normed.values();
          EXPECT_LE(relativeError(input.data(), reference::rmsNorm(before, factors, stage.eps)), bound(type, 1e-6));
        }
        const reference::Linear expected = reference::linear(input, s.tokens, w, s.experts, s.cols, s.cols, nullptr);
        const std::vector<float> found = logits.values();
        EXPECT_LE(relativeError(found.data(), expected.sums, expected.scale), 2e-6);
        EXPECT_LE(reference::routeError(found, s.experts, s.count, stage.normalize, routes.values().data()),
                  reference::kRouteError);
        EXPECT_EQ(arrived.values()[0], 0u);
      }
}

// Nor do others' numbers reach it, whatever they are.
TEST_F(CudaExpertStageTest, BitsDependOnTheTokenAlone) {
  const Shape all{8, 3, 12, 30, 640, 9};
  for (Type type : {Type::F16, Type::BF16}) {
    const Weight gate = weight(all, type), up = weight(all, type), down = weight(all, type);
    std::vector<float> x = normal(size_t(all.tokens) * all.cols), h = normal(size_t(all.tokens * all.count) * all.cols);
    const std::vector<float> routes = this->routes(all);
    const int nan = uniform(0, all.tokens - 1), inf = (nan + 1) % all.tokens;
    x[size_t(nan) * all.cols] = h[size_t(nan * all.count) * all.cols] = std::numeric_limits<float>::quiet_NaN();
    x[size_t(inf) * all.cols] = h[size_t(inf * all.count) * all.cols] = std::numeric_limits<float>::infinity();
    const std::vector<float> places = glu(all, type, x, routes, gate, up), sums = sum(all, type, h, routes, down, {});
    for (int t = 0; t < all.tokens; ++t) {
      Shape one = all;
      one.tokens = 1;
      const auto part = [&](const std::vector<float> &of) {
        const auto n = of.size() / size_t(all.tokens);
        return std::vector<float>(of.begin() + ptrdiff_t(n) * t, of.begin() + ptrdiff_t(n) * (t + 1));
      };
      const auto same = [](const std::vector<float> &a, const std::vector<float> &b) {
        return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
      };
      if (t == nan || t == inf)
        continue;
      EXPECT_TRUE(same(glu(one, type, part(x), part(routes), gate, up), part(places))) << "token " << t;
      EXPECT_TRUE(same(sum(one, type, part(h), part(routes), down, {}), part(sums))) << "token " << t;
    }
  }
}

TEST_F(CudaExpertStageTest, TakesNoMoreThanItsTables) {
  const DeviceValues routes(2, Type::F32), x(64, Type::BF16);
  Shape s{8, 16, 64, 2, 64, 1};
  const auto suits = [&] {
    MatrixStage stage = stageOf(StageForm::ExpertGlu, s, Type::BF16, routes.floats());
    stage.weights[0].rows = stage.weights[1].rows = s.rows;
    StageInput in;
    in.x = x.data();
    in.tokens = s.tokens;
    return matrixStageSuits(stage, in);
  };
  EXPECT_TRUE(suits());
  s.count = 17;
  EXPECT_FALSE(suits());
  s.count = 2;
  s.tokens = 9;
  EXPECT_FALSE(suits());
  s.tokens = 1;
  s.experts = 1;
  EXPECT_FALSE(suits()) << "two experts of one";
}

} // namespace
} // namespace distc::cuda
