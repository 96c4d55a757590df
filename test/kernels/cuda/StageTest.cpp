#include "DeviceTest.h"
#include "distc/kernels/CudaStage.h"

namespace distc::cuda {
namespace {

constexpr Type stageTypes[] = {Type::F16, Type::BF16};

/// A stage's weights and everything else that it reads, on the host and on the device.
class CudaStageTest : public DeviceTest {
protected:
  struct Weight {
    Weight(std::vector<float> values, std::vector<float> biases, Type type)
        : rows(int(biases.size())), cols(int(values.size()) / rows), host(rounded(std::move(values), type)),
          hostBias(std::move(biases)), device(host, type), bias(hostBias, Type::F32), maps({tileMaps(type)}) {}

    StageWeight view(bool withBias) const {
      StageWeight w;
      w.maps = maps.data();
      w.rows = rows;
      if (withBias)
        w.bias = bias;
      return w;
    }
    /// Whose results go to y, a row for each token.
    StageWeight view(bool withBias, Out y) const {
      StageWeight result = view(withBias);
      result.y = y;
      result.yStride = rows;
      return result;
    }

    TileMaps tileMaps(Type type) const {
      TileMaps maps;
      EXPECT_CUDA(encodeTileMaps({device.data(), type, rows, cols, cols}, maps));
      return maps;
    }

    int rows, cols;
    std::vector<float> host, hostBias;
    DeviceValues device, bias;
    DeviceArray<TileMaps> maps;
  };

  Weight weight(int rows, int cols, Type type) {
    return {normal(size_t(rows) * cols, 1.0f / std::sqrt(float(cols))), normal(rows), type};
  }

  /// Followed by itself: what it brings near must not change anything.
  void run(MatrixStage stage, const StageInput &in, const std::vector<uint32_t> &bounds) {
    const DeviceArray<StageTile> tiles(listTiles(stage, bounds));
    stage.tiles = tiles.data();
    const DeviceArray<MatrixStage> next({stage});
    stage.next = next.data();
    ASSERT_CUDA(matrixStage(stage, in, nullptr));
    ASSERT_CUDA(cudaDeviceSynchronize());
  }

  /// Random shares of `units` units, some of them empty.
  std::vector<uint32_t> shares(int units, int sms) {
    std::vector<uint32_t> bounds{0, uint32_t(units)};
    while (int(bounds.size()) <= sms)
      bounds.push_back(uint32_t(uniform(0, units)));
    std::sort(bounds.begin(), bounds.end());
    return bounds;
  }
  /// x + addend as it is stored, and its norm; the norm is not rounded again.
  struct Input {
    std::vector<float> sum;
    std::vector<double> normed;
  };
  static Input inputOf(const std::vector<float> &x, const std::vector<float> *addend, const std::vector<float> *norm,
                       double eps, Type type) {
    Input result{x, {}};
    if (addend)
      for (size_t i = 0; i < x.size(); ++i)
        result.sum[i] += (*addend)[i];
    result.sum = rounded(result.sum, type);
    if (norm)
      result.normed = reference::rmsNorm(result.sum, *norm, eps);
    else
      result.normed.assign(result.sum.begin(), result.sum.end());
    return result;
  }
  static double product(const std::vector<double> &x, int64_t token, const Weight &w, int row, bool bias) {
    double sum = bias ? w.hostBias[row] : 0;
    for (int k = 0; k < w.cols; ++k)
      sum += x[token * w.cols + k] * w.host[size_t(row) * w.cols + k];
    return sum;
  }

  static constexpr float eps = 1e-5f;
};

// The normed input is rounded to the type once, before the product.
double stageBound(Type type) { return bound(type, type == Type::F16 ? 0x1p-10 : 0x1p-7); }

// One has all tiles, in many passes, the other none: neither waits for what the other has left behind.
TEST_F(CudaStageTest, SharesMayBeEmpty) {
  const int rows = 1600, cols = 4096;
  const Type type = Type::BF16;
  const Weight w = weight(rows, cols, type);
  for (int tokens : {3, 12, 20, 40}) {
    const std::vector<float> x = rounded(normal(size_t(tokens) * cols), type);
    const DeviceValues dx(x, type), y(size_t(tokens) * rows, type);
    MatrixStage stage;
    stage.type = type;
    stage.cols = cols;
    stage.weights[0] = w.view(false, y);
    stage.weightCount = 1;
    stage.sms = 2;
    stage.ringBytes = 3 * tileBytes;
    StageInput in;
    in.x = dx.data();
    in.tokens = tokens;
    run(stage, in, {0, 0, rows / 2});
    const std::vector<double> input(x.begin(), x.end());
    std::vector<double> expected;
    for (int t = 0; t < tokens; ++t)
      for (int r = 0; r < rows; ++r)
        expected.push_back(product(input, t, w, r, false));
    EXPECT_LE(relativeError(y.values().data(), expected), bound(type, 1e-5)) << tokens << " tokens";
  }
}

TEST_F(CudaStageTest, RowsAgreeWithDoubles) {
  struct Case {
    int cols, rows[2], sms;
  };
  for (const Case &c :
       {Case{64, {16, 2}, 3}, Case{576, {100, 0}, 7}, Case{576, {300, 82}, 8}, Case{2048, {2048, 512}, 132},
        Case{11008, {64, 0}, 5}, Case{4096, {3000, 0}, 4}, Case{14336, {264, 0}, 132}})
    for (Type type : stageTypes)
      for (int tokens : c.cols < 1024 ? std::vector<int>{1, 3, 8, 9, 16, 17, 32, 33, 48, 64}
                                      : std::vector<int>{1, 3, 8, 21, 32, 64}) {
        const bool bias = tokens % 2, withNorm = c.cols <= 4096, withAddend = withNorm && tokens > 1,
                   logits = tokens == 3 || tokens == 33;
        const int count = c.rows[1] > 0 ? 2 : 1;
        const Weight first = weight(c.rows[0], c.cols, type), second = weight(std::max(2, c.rows[1]), c.cols, type);
        const std::vector<uint32_t> bounds = shares((c.rows[0] + c.rows[1]) / 2, c.sms);
        const std::vector<float> x = rounded(normal(size_t(tokens) * c.cols), type),
                                 addend = rounded(normal(x.size()), type), norm = normal(c.cols);
        const float offset = tokens % 3 ? 0.0f : 0.75f;
        const std::vector<float> residual = rounded(normal(size_t(tokens) * c.rows[0]), type);
        const DeviceValues dx(x, type), dAddend(addend, type), dSum(x.size(), type), dNorm(norm, Type::F32),
            dResidual(residual, type), y0(residual.size(), logits ? Type::F32 : type),
            y1(size_t(tokens) * second.rows, type);
        const std::vector<uint64_t> none(size_t(tokens) * c.sms, 1);
        const DeviceArray<uint64_t> best(none);
        MatrixStage stage;
        stage.type = type;
        stage.cols = c.cols;
        stage.weights[0] = first.view(bias, y0);
        stage.weights[0].residual = dResidual;
        stage.weights[1] = second.view(bias, y1);
        stage.weightCount = count;
        stage.sms = c.sms;
        stage.ringBytes = tokens == 1 || tokens == 64 ? maxRingBytes : 3 * tileBytes;
        stage.norm = withNorm ? dNorm.floats() : nullptr;
        stage.eps = eps;
        stage.normOffset = offset;
        stage.factor = tokens == 8 || tokens == 17 ? 0.22f : 1.0f;
        stage.best = logits && count == 1 ? best.data() : nullptr;
        stage.valid = c.rows[0] - 2;
        StageInput in;
        in.x = dx.data();
        in.addend = withAddend ? dAddend.data() : nullptr;
        in.sum = dSum.data();
        in.tokens = tokens;
        run(stage, in, bounds);
        std::vector<float> factors = norm;
        for (float &factor : factors)
          factor += offset;
        const Input input = inputOf(x, withAddend ? &addend : nullptr, withNorm ? &factors : nullptr, eps, type);
        std::vector<double> expected0, expected1;
        for (int t = 0; t < tokens; ++t)
          for (int r = 0; r < c.rows[0]; ++r)
            expected0.push_back(product(input.normed, t, first, r, bias) * double(stage.factor) +
                                residual[size_t(t) * c.rows[0] + r]);
        for (int t = 0; t < tokens; ++t)
          for (int r = 0; r < second.rows; ++r)
            expected1.push_back(product(input.normed, t, second, r, bias) * double(stage.factor));
        const std::vector<float> results = y0.values();
        EXPECT_LE(relativeError(results.data(), expected0), stageBound(type))
            << c.rows[0] << "x" << c.cols << " tokens " << tokens << " type " << int(type);
        if (count == 2) {
          // Two results may both be small by chance: what they are sums of is not.
          const double usual = reference::normOf(input.normed) * std::sqrt(double(second.rows) / c.cols) * stage.factor;
          EXPECT_LE(relativeError(y1.values().data(), expected1, std::max(usual, reference::normOf(expected1))),
                    stageBound(type))
              << c.cols << " tokens " << tokens;
        }
        if (withAddend) {
          EXPECT_EQ(dSum.values(), input.sum);
        }
        if (stage.best) {
          const std::vector<uint64_t> keys = best.values();
          for (int t = 0; t < tokens; ++t) {
            const float *row = &results[size_t(t) * c.rows[0]];
            const auto column = int(std::max_element(row, row + stage.valid) - row);
            const uint64_t key = *std::max_element(&keys[size_t(t) * c.sms], &keys[size_t(t) * c.sms] + c.sms);
            EXPECT_EQ((1 << 24) - 1 - int(key & ((1 << 24) - 1)), column);
          }
        }
      }
}

double activate(Activation kind, double x) {
  switch (kind) {
  case Activation::Silu:
    return x / (1 + std::exp(-x));
  case Activation::Gelu:
    return 0.5 * x * std::erfc(-x * std::sqrt(0.5));
  case Activation::GeluTanh:
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  default:
    return std::max(x, 0.0);
  }
}

TEST_F(CudaStageTest, GluAgreesWithDoubles) {
  for (Activation kind : {Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu})
    for (Type type : stageTypes)
      for (int tokens : {1, 7, 30, 61}) {
        const int cols = 1088, rows = 470, sms = tokens == 30 ? 3 : tokens == 61 ? 10 : 132;
        const bool bias = tokens == 7;
        const Weight gate = weight(rows, cols, type), up = weight(rows, cols, type);
        const std::vector<uint32_t> bounds = shares(rows / 2, sms);
        const std::vector<float> x = rounded(normal(size_t(tokens) * cols), type), norm = normal(cols);
        const DeviceValues dx(x, type), dNorm(norm, Type::F32), y(size_t(tokens) * rows, type);
        MatrixStage stage;
        stage.form = StageForm::Glu;
        stage.activation = kind;
        stage.type = type;
        stage.cols = cols;
        stage.weights[0] = gate.view(bias, y);
        stage.weights[1] = up.view(bias);
        stage.weightCount = 2;
        stage.sms = sms;
        stage.ringBytes = 5 * tileBytes;
        stage.norm = dNorm.floats();
        stage.eps = eps;
        StageInput in;
        in.x = dx.data();
        in.tokens = tokens;
        run(stage, in, bounds);
        const Input input = inputOf(x, nullptr, &norm, eps, type);
        std::vector<double> expected;
        for (int t = 0; t < tokens; ++t)
          for (int r = 0; r < rows; ++r)
            expected.push_back(activate(kind, product(input.normed, t, gate, r, bias)) *
                               product(input.normed, t, up, r, bias));
        EXPECT_LE(relativeError(y.values().data(), expected), 2 * stageBound(type))
            << int(kind) << " tokens " << tokens << " type " << int(type);
      }
}

// Rows far from zero, of which one is as good as constant; what does not fit the ring of x; an odd number of rows.
TEST_F(CudaStageTest, RowsBehindALayerNormAgreeWithDoubles) {
  for (int cols : {64, 768, 1600, 2112, 4160})
    for (Type type : stageTypes)
      for (int tokens : {1, 5, 8}) {
        const int rows = 251, sms = tokens == 5 ? 2 : 40;
        const bool withAddend = tokens > 1, biased = cols != 768;
        const Weight first = weight(rows, cols, type), second = weight(34, cols, type);
        std::vector<float> x = normal(size_t(tokens) * cols), addend = normal(x.size());
        for (int t = 0; t < tokens; ++t)
          for (int i = 0; i < cols; ++i)
            x[size_t(t) * cols + i] += t == 0 ? 1000.0f : 5.0f * float(t);
        x = rounded(x, type);
        addend = rounded(addend, type);
        const std::vector<float> norm = normal(cols), shift = biased ? normal(cols) : std::vector<float>(cols);
        const DeviceValues dx(x, type), dAddend(addend, type), dSum(x.size(), type), dNorm(norm, Type::F32),
            dShift(shift, Type::F32), y0(size_t(tokens) * rows, type), y1(size_t(tokens) * second.rows, Type::F32);
        MatrixStage stage;
        stage.type = type;
        stage.cols = cols;
        stage.weights[0] = first.view(true, y0);
        stage.weights[1] = second.view(false, y1);
        stage.weightCount = 2;
        stage.sms = sms;
        stage.ringBytes = 3 * tileBytes;
        stage.norm = dNorm.floats();
        stage.normBias = biased ? dShift.floats() : nullptr;
        stage.layerNorm = true;
        stage.eps = eps;
        StageInput in;
        in.x = dx.data();
        in.addend = withAddend ? dAddend.data() : nullptr;
        in.sum = dSum.data();
        in.tokens = tokens;
        run(stage, in, shares((rows + 1) / 2 + second.rows / 2, sms));
        Input input = inputOf(x, withAddend ? &addend : nullptr, nullptr, eps, type);
        input.normed = reference::layerNorm(input.sum, norm, shift, eps);
        std::vector<double> expected0, expected1;
        for (int t = 0; t < tokens; ++t) {
          for (int r = 0; r < rows; ++r)
            expected0.push_back(product(input.normed, t, first, r, true));
          for (int r = 0; r < second.rows; ++r)
            expected1.push_back(product(input.normed, t, second, r, false));
        }
        EXPECT_LE(relativeError(y0.values().data(), expected0), stageBound(type))
            << cols << " tokens " << tokens << " type " << int(type);
        EXPECT_LE(relativeError(y1.values().data(), expected1), stageBound(type)) << cols << " tokens " << tokens;
        if (withAddend) {
          EXPECT_EQ(dSum.values(), input.sum);
        }
        // The last token alone, on other multiprocessors.
        const DeviceValues alone(size_t(rows), type), rest(size_t(second.rows), Type::F32);
        const auto row = [&](const DeviceValues &values) {
          return static_cast<char *>(values.data()) + size_t(tokens - 1) * cols * 2;
        };
        stage.weights[0].y = alone;
        stage.weights[1].y = rest;
        stage.sms = 7;
        in.x = row(dx);
        in.addend = withAddend ? row(dAddend) : nullptr;
        in.tokens = 1;
        run(stage, in, shares((rows + 1) / 2 + second.rows / 2, stage.sms));
        const std::vector<float> all = y0.values();
        EXPECT_EQ(alone.values(), std::vector<float>(all.end() - rows, all.end()));
        in.tokens = layerNormTokens + 1;
        EXPECT_FALSE(matrixStageSuits(stage, in));
      }
}

TEST_F(CudaStageTest, ActivatedRowsAgreeWithDoubles) {
  enum class Before { Nothing, Norm, LayerNorm };
  for (Activation kind : {Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu})
    for (bool capped : {false, true})
      for (Type type : stageTypes)
        for (Before before : {Before::Nothing, Before::Norm, Before::LayerNorm})
          for (int tokens : {1, 7, 30}) {
            if ((capped && kind != Activation::Silu) || (before == Before::LayerNorm && tokens > layerNormTokens))
              continue;
            const int cols = 320, rows = 131, sms = tokens == 30 ? 3 : 66;
            const Weight w = weight(rows, cols, type);
            const std::vector<float> x = rounded(normal(size_t(tokens) * cols), type), norm = normal(cols),
                                     shift = normal(cols);
            const DeviceValues dx(x, type), dNorm(norm, Type::F32), dShift(shift, Type::F32),
                y(size_t(tokens) * rows, capped ? Type::F32 : type);
            const DeviceArray<uint64_t> best(std::vector<uint64_t>(size_t(tokens) * sms, 1));
            MatrixStage stage;
            stage.form = StageForm::Activated;
            stage.activation = kind;
            stage.softCap = capped ? 0.7f : 0.0f;
            stage.type = type;
            stage.cols = cols;
            stage.weights[0] = w.view(tokens == 7, y);
            stage.weightCount = 1;
            stage.sms = sms;
            stage.ringBytes = 4 * tileBytes;
            stage.norm = before == Before::Nothing ? nullptr : dNorm.floats();
            stage.layerNorm = before == Before::LayerNorm;
            stage.normBias = stage.layerNorm ? dShift.floats() : nullptr;
            stage.eps = eps;
            stage.best = capped ? best.data() : nullptr;
            stage.valid = rows - 1;
            StageInput in;
            in.x = dx.data();
            in.tokens = tokens;
            run(stage, in, shares((rows + 1) / 2, sms));
            Input input = inputOf(x, nullptr, before == Before::Norm ? &norm : nullptr, eps, type);
            if (before == Before::LayerNorm)
              input.normed = reference::layerNorm(x, norm, shift, eps);
            std::vector<double> expected;
            for (int t = 0; t < tokens; ++t)
              for (int r = 0; r < rows; ++r) {
                const double v = product(input.normed, t, w, r, tokens == 7);
                const double cap = double(stage.softCap);
                expected.push_back(capped ? cap * std::tanh(v / cap) : activate(kind, v));
              }
            const std::vector<float> results = y.values();
            EXPECT_LE(relativeError(results.data(), expected), 2 * stageBound(type))
                << int(kind) << (capped ? " capped" : "") << " tokens " << tokens << " type " << int(type);
            const std::vector<uint64_t> keys = best.values();
            for (int t = 0; capped && t < tokens; ++t) { // of what is capped
              const float *row = &results[size_t(t) * rows];
              const uint64_t key = *std::max_element(&keys[size_t(t) * sms], &keys[size_t(t) * sms] + sms);
              const int column = (1 << 24) - 1 - int(key & ((1 << 24) - 1));
              EXPECT_EQ(column, std::max_element(row, row + stage.valid) - row) << t;
              const uint32_t bits = std::bit_cast<uint32_t>(row[column]),
                             ordered = bits >> 31 ? ~bits : bits | 1u << 31;
              EXPECT_EQ(uint32_t(key >> 24), ordered) << row[column];
            }
          }
}

TEST_F(CudaStageTest, QkvAgreesWithDoubles) {
  for (RopeStyle style : {RopeStyle::Half, RopeStyle::Interleaved})
    for (int dim : {16, 64, 80, 96, 128, 256})
      for (Type type : stageTypes)
        for (int tokens : {1, 3, 8, 29, 50}) {
          const int cols = 320, heads = 6, kvHeads = 2, blockTokens = 5, perSequence = 4, sms = dim == 64 ? 132 : 4;
          const bool bias = tokens == 3;
          const Weight q = weight(heads * dim, cols, type), k = weight(kvHeads * dim, cols, type),
                       v = weight(kvHeads * dim, cols, type);
          const std::vector<uint32_t> bounds = shares((heads + 2 * kvHeads) * dim / 4, sms);
          std::vector<int32_t> table(size_t(tokens) * perSequence), sequenceOf, positions;
          std::iota(table.begin(), table.end(), 0);
          std::shuffle(table.begin(), table.end(), random.engine);
          for (int t = 0; t < tokens; ++t) {
            sequenceOf.push_back(tokens - 1 - t);
            positions.push_back(int32_t(uniform(0, blockTokens * perSequence - 1)));
          }
          const DeviceArray<int32_t> dTable(table), dSequenceOf(sequenceOf), dPositions(positions);
          const std::vector<float> cosSin = normal(size_t(blockTokens) * perSequence * dim);
          const std::vector<float> x = rounded(normal(size_t(tokens) * cols), type), norm = normal(cols);
          const DeviceValues dx(x, type), dNorm(norm, Type::F32), dCosSin(cosSin, Type::F32),
              y(size_t(tokens) * heads * dim, type), cache(table.size() * 2 * kvHeads * blockTokens * dim, type);
          MatrixStage stage;
          stage.form = StageForm::Qkv;
          stage.style = style;
          stage.type = type;
          stage.cols = cols;
          stage.weights[0] = q.view(bias, y);
          stage.weights[1] = k.view(bias);
          stage.weights[2] = v.view(bias);
          stage.weightCount = 3;
          stage.sms = sms;
          stage.ringBytes = 4 * tileBytes;
          stage.norm = dNorm.floats();
          stage.eps = eps;
          stage.cosSin = dCosSin.floats();
          stage.headDim = dim;
          stage.cache = {cache.data(), type, kvHeads, blockTokens, dim};
          StageInput in;
          in.x = dx.data();
          in.tokens = tokens;
          in.batch = {dTable.data(), perSequence, dSequenceOf.data(), dPositions.data()};
          run(stage, in, bounds);

          const Input input = inputOf(x, nullptr, &norm, eps, type);
          const std::vector<float> stored = cache.values();
          std::vector<double> expectedQ, expectedKv;
          std::vector<float> kv;
          const auto head = [&](int t, const Weight &w, int h, bool rotate, std::vector<double> &to) {
            std::vector<double> e;
            for (int i = 0; i < dim; ++i)
              e.push_back(product(input.normed, t, w, h * dim + i, bias));
            for (int i = 0; rotate && i < dim / 2; ++i) {
              const size_t angle = (size_t(positions[t]) * dim / 2 + i) * 2;
              double &a = e[style == RopeStyle::Half ? i : 2 * i],
                     &b = e[style == RopeStyle::Half ? i + dim / 2 : 2 * i + 1];
              const double rotated = a * cosSin[angle] - b * cosSin[angle + 1];
              b = a * cosSin[angle + 1] + b * cosSin[angle];
              a = rotated;
            }
            to.insert(to.end(), e.begin(), e.end());
          };
          size_t written = 0;
          for (int t = 0; t < tokens; ++t) {
            for (int h = 0; h < heads; ++h)
              head(t, q, h, true, expectedQ);
            const int block = table[sequenceOf[t] * perSequence + positions[t] / blockTokens];
            for (int plane = 0; plane < 2; ++plane)
              for (int h = 0; h < kvHeads; ++h) {
                head(t, plane ? v : k, h, plane == 0, expectedKv);
                const float *from =
                    &stored[size_t(((block * 2 + plane) * kvHeads + h) * blockTokens + positions[t] % blockTokens) *
                            dim];
                kv.insert(kv.end(), from, from + dim);
              }
          }
          for (float value : stored)
            written += !std::isnan(value);
          EXPECT_EQ(written, kv.size()); // nothing else in the cache was touched
          EXPECT_LE(relativeError(y.values().data(), expectedQ), stageBound(type)) << dim << " tokens " << tokens;
          EXPECT_LE(relativeError(kv.data(), expectedKv), stageBound(type)) << dim << " tokens " << tokens;
        }
}

TEST_F(CudaStageTest, BitsDependNeitherOnOtherTokensNorOnBounds) {
  const int rows = 600, cols = 1536, tokens = 64;
  const Weight w = weight(rows, cols, Type::BF16);
  const std::vector<float> x = rounded(normal(size_t(tokens) * cols), Type::BF16), norm = normal(cols);
  const DeviceValues dx(x, Type::BF16), dNorm(norm, Type::F32);
  const auto multiply = [&](int first, int count, int sms, const DeviceValues &y) {
    MatrixStage stage;
    stage.cols = cols;
    stage.weights[0] = w.view(true, {y.floats() + size_t(first) * rows, Type::F32});
    stage.weightCount = 1;
    stage.sms = sms;
    stage.ringBytes = maxRingBytes;
    stage.norm = dNorm.floats();
    StageInput in;
    in.x = static_cast<const char *>(dx.data()) + size_t(first) * cols * 2;
    in.tokens = count;
    run(stage, in, shares(rows / 2, sms));
  };
  // Of more than 16 another kernel.
  const DeviceValues few(size_t(tokens) * rows, Type::F32), fewParts(size_t(tokens) * rows, Type::F32);
  const DeviceValues many(size_t(tokens) * rows, Type::F32), manyParts(size_t(tokens) * rows, Type::F32);
  for (int first = 0; first < tokens; first += 16)
    multiply(first, 16, 132, few);
  multiply(0, 1, 3, fewParts);
  multiply(1, 2, 50, fewParts);
  multiply(3, 13, 50, fewParts);
  for (int first = 16; first < tokens; first += 8)
    multiply(first, 8, 132, fewParts);
  EXPECT_EQ(few.bytes(), fewParts.bytes());
  multiply(0, tokens, 132, many);
  multiply(0, 17, 3, manyParts);
  multiply(17, 18, 50, manyParts);
  multiply(35, 29, 7, manyParts);
  EXPECT_EQ(many.bytes(), manyParts.bytes());
  for (float y : few.values())
    ASSERT_FALSE(std::isnan(y)); // what was there before is
  for (float y : many.values())
    ASSERT_FALSE(std::isnan(y));
}

TEST_F(CudaStageTest, RefusesWhatItCannotDo) {
  const Weight w = weight(32, 128, Type::BF16);
  MatrixStage stage;
  stage.cols = 128;
  stage.weights[0] = w.view(false);
  stage.weightCount = 1;
  stage.sms = stage.maxTiles = 1;
  stage.ringBytes = tileBytes; // one tile is no ring
  StageInput in;
  in.tokens = 1;
  EXPECT_EQ(matrixStage(stage, in, nullptr), cudaErrorInvalidValue);
  stage.ringBytes = 2 * tileBytes;
  in.tokens = stageTokens + 1;
  EXPECT_EQ(matrixStage(stage, in, nullptr), cudaErrorInvalidValue);
  // The widest norm, x and its addend leave room for the ring.
  const DeviceValues values(32768, Type::F32);
  stage.cols = 32768;
  stage.maxTiles = 1;
  stage.ringBytes = maxRingBytes;
  stage.norm = values.floats();
  in.x = in.addend = values.data();
  in.sum = values.data();
  for (int tokens : {2, 8, 16, 17, stageTokens}) {
    in.tokens = tokens;
    EXPECT_TRUE(matrixStageSuits(stage, in)) << tokens;
  }
  TileMaps maps;
  EXPECT_EQ(encodeTileMaps({w.device.data(), Type::F32, 32, 64, 64}, maps), cudaErrorInvalidValue);
  EXPECT_EQ(encodeTileMaps({w.device.data(), Type::BF16, 32, 96, 96}, maps), cudaErrorInvalidValue);
}

TEST_F(CudaStageTest, DecodeAttentionAgreesWithDoubles) {
  using reference::AttentionCase;
  std::vector<AttentionCase> cases;
  for (int64_t dim : {8, 16, 64, 80, 96, 128, 144, 256})
    for (int64_t group : {1, 2, 3, 4, 7, 8, 16})
      cases.push_back({2 * group,
                       2,
                       dim,
                       dim % 3 ? 16 : 48,
                       group == 3 ? 100 : 0,
                       group == 7 ? 5.0f : 0.0f,
                       {1100, 0, 64, 63, 7, 8},
                       {}});
  cases.push_back({16, 4, 64, 16, 0, 0.0f, std::vector<int32_t>(40, 130), {}}); // no room for clusters
  for (int64_t window : std::initializer_list<int64_t>{INT32_MAX, int64_t(INT32_MAX) + 1, UINT32_MAX})
    cases.push_back({4, 2, 64, 16, window, 0.0f, {130, 0}, {}});
  for (const AttentionCase &c : cases)
    for (Type type : stageTypes) {
      reference::Attention d(c, random);
      d.q = rounded(d.q, type);
      d.cache = rounded(d.cache, type);
      const DeviceValues q(d.q, type), cache(d.cache, type), out(d.q.size(), type);
      const DeviceArray<int32_t> table(d.table), sequenceOf(d.c.sequenceOf), positions(d.c.positions);
      ASSERT_CUDA(decodeAttention(q, int64_t(c.positions.size()), {cache.data(), type, c.kvHeads, c.blockTokens, c.dim},
                                  {c.heads, d.scale(), c.window, c.softCap, 1},
                                  {table.data(), d.blocksPerSequence, sequenceOf.data(), positions.data()}, 132, out,
                                  nullptr));
      EXPECT_LE(relativeError(out.values().data(), d.result()), bound(type, 3e-6))
          << c.heads << "/" << c.kvHeads << " heads of " << c.dim << " type " << int(type);
    }
}

} // namespace
} // namespace distc::cuda
