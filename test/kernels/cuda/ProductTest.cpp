// Products on the tensor cores: plain ones with several outputs, biases and residuals, and gated ones.
#include "DeviceTest.h"

#include <set>

namespace distc::cuda {
namespace {

constexpr Type halves[] = {Type::F16, Type::BF16};

struct Shape {
  int64_t rows, depth;
  std::vector<int64_t> columns;
};

class CudaProductTest : public DeviceTest {
protected:
  /// Some rows of a large product are enough: all of a tile's rows, every tile.
  std::vector<int64_t> sample(int64_t rows) {
    std::set<int64_t> chosen{0, rows - 1};
    for (int64_t t = uniform(0, 6); t < rows; t += rows > 64 ? uniform(1, 13) : 1)
      chosen.insert(t);
    return {chosen.begin(), chosen.end()};
  }
  static std::vector<float> rowsOf(const std::vector<float> &all, int64_t width, const std::vector<int64_t> &rows) {
    std::vector<float> result;
    for (int64_t t : rows)
      result.insert(result.end(), &all[t * width], &all[t * width] + width);
    return result;
  }
  void expectAgreement(const Shape &s, Type type, bool biased);
};

/// Of a product with several outputs, or one and a residual.
void CudaProductTest::expectAgreement(const Shape &s, Type type, bool biased) {
  SCOPED_TRACE(testing::Message() << s.rows << " rows, depth " << s.depth << ", " << s.columns.size() << " parts from "
                                  << s.columns[0] << ", type " << int(type) << biased);
  int64_t columns = 0;
  for (int64_t c : s.columns)
    columns += c;
  const bool hasResidual = s.columns.size() == 1;
  const auto x = rounded(normal(s.rows * s.depth), type), w = rounded(normal(columns * s.depth, 0.1f), type);
  const auto bias = normal(columns), residual = rounded(normal(s.rows * columns), type);
  const DeviceValues dx(x, type), dw(w, type), dBias(bias, Type::F32), dResidual(residual, type);
  std::vector<std::unique_ptr<DeviceValues>> outs;
  std::vector<ProductPart> parts;
  for (int64_t c : s.columns) {
    outs.push_back(std::make_unique<DeviceValues>(s.rows * c, type));
    int64_t before = 0;
    for (size_t i = 0; i < parts.size(); ++i)
      before += parts[i].columns;
    parts.push_back({outs.back()->data(), biased ? dBias.floats() + before : nullptr, c});
  }
  const Matrix weight{dw.data(), type, columns, s.depth, s.depth};
  ASSERT_CUDA(product(dx, s.rows, weight, parts.data(), int(parts.size()), {}, nullptr));
  const auto chosen = sample(s.rows);
  auto expected = reference::linear(rowsOf(x, s.depth, chosen), int64_t(chosen.size()), w, columns, s.depth, s.depth,
                                    biased ? bias.data() : nullptr);
  int64_t first = 0;
  for (size_t i = 0; i < parts.size(); first += s.columns[i++]) {
    std::vector<double> sums;
    for (size_t t = 0; t < chosen.size(); ++t)
      sums.insert(sums.end(), &expected.sums[t * columns + first], &expected.sums[t * columns + first] + s.columns[i]);
    const auto all = outs[i]->values();
    EXPECT_TRUE(std::none_of(all.begin(), all.end(), [](float v) { return std::isnan(v); }));
    EXPECT_LE(relativeError(rowsOf(all, s.columns[i], chosen).data(), sums), bound(type, 1e-5)) << "part " << i;
  }
  if (!hasResidual)
    return;
  // The residual is added to what was rounded, also in place.
  const DeviceValues inPlace(residual, type);
  std::vector<float> sum = outs[0]->values();
  for (size_t i = 0; i < sum.size(); ++i)
    sum[i] += residual[i];
  for (const DeviceValues *out : {static_cast<const DeviceValues *>(outs[0].get()), &inPlace}) {
    parts[0].y = out->data();
    const In other = out == &inPlace ? In(inPlace) : In(dResidual);
    ASSERT_CUDA(product(dx, s.rows, weight, parts.data(), 1, other, nullptr));
    EXPECT_EQ(out->values(), rounded(sum, type));
  }
}

TEST_F(CudaProductTest, AgreesWithDoubles) {
  // Depths that fill no tile, columns that end in the middle of one, each width of tiles, more tiles than blocks.
  const Shape shapes[] = {
      {1, 8, {8}},           {5, 64, {16, 8, 24}},   {128, 72, {136}},        {130, 200, {256, 64, 72}},
      {257, 1032, {320, 8}}, {300, 128, {6144}},     {500, 136, {7000, 392}}, {512, 64, {8000, 256, 192}},
      {1100, 72, {5120}},    {2300, 320, {256, 768}}};
  for (const Shape &s : shapes)
    for (Type type : halves)
      for (bool biased : {false, true})
        expectAgreement(s, type, biased);
}

TEST_F(CudaProductTest, PartsOfTheDepthAgreeWithDoubles) {
  // Few tiles and a large depth: in two parts and in four, of each width that is split; on a GPU and, in emulation, on
  // one of eight multiprocessors.
  const Shape shapes[] = {{200, 1544, {120}}, {3, 2560, {96, 80}},     {150, 2312, {56, 192}}, {257, 2056, {120}},
                          {40, 1800, {280}},  {130, 2000, {200, 104}}, {100, 3200, {376}}};
  for (const Shape &s : shapes)
    for (Type type : halves)
      expectAgreement(s, type, (type == Type::F16) == (s.depth % 16 == 0));
  int sms = 0;
  ASSERT_CUDA(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0));
  if (sms >= 100) // most of them at work, in pairs of two parts
    for (int64_t columns : {2016, 2240})
      expectAgreement({300, 4104, {columns}}, Type::BF16, true);
}

TEST_F(CudaProductTest, GatedAgreesWithDoubles) {
  const Shape shapes[] = {{1, 8, {8}},        {130, 200, {72}},  {300, 128, {3168}},
                          {500, 136, {3696}}, {512, 64, {4224}}, {257, 520, {1000}},
                          {1100, 72, {2560}}, {40, 64, {16384}}, {2300, 320, {512}}};
  for (const Shape &s : shapes)
    for (Type type : halves)
      for (Activation activation : {Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu}) {
        const int64_t columns = s.columns[0];
        if (activation != Activation::Silu && s.rows * columns > 100'000) // the same code, in any shape
          continue;
        const auto x = rounded(normal(s.rows * s.depth), type), w = rounded(normal(2 * columns * s.depth, 0.2f), type);
        const DeviceValues dx(x, type), dw(w, type), y(s.rows * columns, type);
        ASSERT_CUDA(
            gatedProduct(dx, s.rows, {dw.data(), type, 2 * columns, s.depth, s.depth}, activation, y.data(), nullptr));
        const auto chosen = sample(s.rows);
        const auto both = reference::linear(rowsOf(x, s.depth, chosen), int64_t(chosen.size()), w, 2 * columns, s.depth,
                                            s.depth, nullptr);
        std::vector<double> expected;
        for (size_t t = 0; t < chosen.size(); ++t)
          for (int64_t n = 0; n < columns; ++n)
            expected.push_back(reference::activation(int(activation), both.sums[t * 2 * columns + n]) *
                               both.sums[t * 2 * columns + columns + n]);
        const auto all = y.values();
        EXPECT_TRUE(std::none_of(all.begin(), all.end(), [](float v) { return std::isnan(v); }));
        EXPECT_LE(relativeError(rowsOf(all, columns, chosen).data(), expected), bound(type, 1e-5))
            << s.rows << " rows of " << columns << " type " << int(type) << " activation " << int(activation);
      }
}

TEST_F(CudaProductTest, RefusesWhatItCannotDo) {
  const DeviceValues x(64, Type::BF16), w(64 * 8, Type::BF16), y(8, Type::BF16), full(64, Type::F32);
  const ProductPart part{y.data(), nullptr, 8};
  const Matrix weight{w.data(), Type::BF16, 8, 64, 64};
  EXPECT_CUDA(product(x, 0, weight, &part, 1, {}, nullptr));
  EXPECT_EQ(product(full, 1, weight, &part, 1, {}, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(product(x, 1, {w.data(), Type::BF16, 16, 32, 32}, &part, 1, {}, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(product({static_cast<char *>(x.data()) + 2, Type::BF16}, 1, weight, &part, 1, {}, nullptr),
            cudaErrorInvalidValue);
  EXPECT_EQ(gatedProduct(x, 1, weight, Activation::Silu, y.data(), nullptr), cudaErrorInvalidValue);
  for (float v : y.values())
    EXPECT_TRUE(std::isnan(v));
}

} // namespace
} // namespace distc::cuda
