// The ops on rows: norm, embedding, rope, cache, activations, sums, copies.
#include "DeviceTest.h"

namespace distc::cuda {
namespace {

class CudaRowOpsTest : public DeviceTest {};

TEST_F(CudaRowOpsTest, RmsNorm) {
  for (Type type : types)
    for (Type weightType : {Type::F32, type, Type::BF16})
      for (int64_t width : {1, 2, 7, 16, 64, 129, 576, 4096, 16384})
        for (bool shifted : {false, true}) {
          const int64_t rows = 5;
          const auto x = rounded(normal(rows * width, shifted ? 3.0f : 0.003f), type),
                     weight = rounded(normal(width), weightType);
          const DeviceValues dx(x, type, shifted), dWeight(weight, weightType), y(x.size(), type, shifted);
          const DeviceValues inPlace(x, type, shifted), parts(x.size(), type, shifted);
          ASSERT_CUDA(rmsNorm(dx, dWeight, 1e-5f, width, rows, y, nullptr));
          EXPECT_LE(relativeError(y.values().data(), reference::rmsNorm(x, weight, 1e-5)), bound(type, 1e-6)) << width;
          ASSERT_CUDA(rmsNorm(inPlace, dWeight, 1e-5f, width, rows, inPlace, nullptr));
          EXPECT_EQ(y.bytes(), inPlace.bytes());
          for (int64_t t = rows; t-- > 0;) {
            const size_t at = t * width * bytesOf(type);
            ASSERT_CUDA(rmsNorm({static_cast<char *>(dx.data()) + at, type}, dWeight, 1e-5f, width, 1,
                                {static_cast<char *>(parts.data()) + at, type}, nullptr));
          }
          EXPECT_EQ(y.bytes(), parts.bytes());
        }
}

TEST_F(CudaRowOpsTest, RmsNormWithAnOffset) {
  for (Type type : types)
    for (int64_t width : {37, 256, 1000}) {
      const auto x = rounded(normal(3 * width), type), weight = normal(width);
      std::vector<float> factors = weight;
      for (float &factor : factors)
        factor += 1;
      const DeviceValues dx(x, type), dWeight(weight, Type::F32), y(x.size(), type);
      ASSERT_CUDA(rmsNorm(dx, dWeight, 1e-5f, width, 3, y, nullptr, 1.0f));
      EXPECT_LE(relativeError(y.values().data(), reference::rmsNorm(x, factors, 1e-5)), bound(type, 1e-6)) << width;
    }
}

// Two parts of each row, normalized from the sum of their squares: as the whole.
TEST_F(CudaRowOpsTest, RmsNormOfParts) {
  for (Type type : types)
    for (int64_t width : {1, 7, 64, 129, 4096}) {
      const int64_t rows = 5;
      const auto x = rounded(normal(rows * 2 * width), type);
      const auto weight = normal(2 * width);
      std::vector<float> factors = weight;
      for (float &factor : factors)
        factor += 0.5f;
      const std::vector<double> expected = reference::rmsNorm(x, factors, 1e-5);
      std::vector<float> squares(rows);
      std::vector<float> parts[2];
      for (int64_t part : {0, 1}) {
        for (int64_t t = 0; t < rows; ++t)
          parts[part].insert(parts[part].end(), &x[(2 * t + part) * width], &x[(2 * t + part) * width] + width);
        const DeviceValues dx(parts[part], type), sums(rows * 2, Type::F32);
        ASSERT_CUDA(squareSum(dx, width, rows, static_cast<float *>(sums.data()) + 1, 2, nullptr));
        const std::vector<float> values = sums.values();
        for (int64_t t = 0; t < rows; ++t)
          squares[t] += values[t * 2 + 1];
      }
      const DeviceValues dSquares(squares, Type::F32);
      for (int64_t part : {0, 1}) {
        const std::vector<float> half(weight.begin() + part * width, weight.begin() + (part + 1) * width);
        const DeviceValues dx(parts[part], type), dWeight(half, Type::F32), y(rows * width, type);
        ASSERT_CUDA(
            rmsNormOfParts(dx, {dSquares.floats(), 1, 2 * width}, dWeight, 1e-5f, width, rows, y, nullptr, 0.5f));
        std::vector<double> wanted;
        for (int64_t t = 0; t < rows; ++t)
          wanted.insert(wanted.end(), &expected[(2 * t + part) * width], &expected[(2 * t + part) * width] + width);
        EXPECT_LE(relativeError(y.values().data(), wanted), bound(type, 1e-6)) << width;
      }
    }
  const DeviceValues x(8, Type::F32);
  EXPECT_EQ(rmsNormOfParts(x, {}, x, 1e-5f, 8, 1, x, nullptr), cudaErrorInvalidValue);
}

TEST_F(CudaRowOpsTest, LayerNorm) {
  for (Type type : types)
    for (int64_t width : {1, 2, 7, 16, 64, 129, 768, 4096, 16384})
      for (bool shifted : {false, true})
        for (bool biased : {false, true}) {
          if (width == 1 && !biased)
            continue; // zeros, of which there is no relative error
          const int64_t rows = 5;
          auto x = rounded(normal(rows * width, 3.0f), type);
          for (size_t i = 0; i < x.size();
               ++i) // a mean that is not 0, and neighbours apart: of two alike only errors are left
            x[i] = 5 + (i % 2 ? 1 : -1) * (1 + std::abs(x[i]));
          x = rounded(x, type);
          const auto weight = normal(width), bias = normal(width);
          const DeviceValues dx(x, type, shifted), dWeight(weight, Type::F32), dBias(bias, Type::F32),
              y(x.size(), type, shifted), inPlace(x, type, shifted);
          const In shift = biased ? In(dBias) : In{nullptr, Type::F32};
          ASSERT_CUDA(layerNorm(dx, dWeight, shift, 1e-5f, width, rows, y, nullptr));
          const auto expected = reference::layerNorm(x, weight, biased ? bias : std::vector<float>(width), 1e-5);
          EXPECT_LE(relativeError(y.values().data(), expected, reference::layerNormScale(expected, bias)),
                    bound(type, 2e-6))
              << width;
          ASSERT_CUDA(layerNorm(inPlace, dWeight, shift, 1e-5f, width, rows, inPlace, nullptr));
          EXPECT_EQ(y.bytes(), inPlace.bytes());
        }
}

TEST_F(CudaRowOpsTest, PositionEmbedding) {
  const std::vector<int32_t> positions{10, 0, 3, 9};
  const DeviceArray<int32_t> dPositions(positions);
  for (Type tableType : types)
    for (Type type : types)
      for (int64_t cols : {37, 64, 2560}) {
        const int64_t rows = 11, stride = cols + 8;
        const auto table = rounded(normal(rows * stride), tableType), x = rounded(normal(4 * cols), type);
        const DeviceValues dTable(table, tableType), dx(x, type), y(x.size(), type), inPlace(x, type);
        const Matrix matrix{dTable.data(), tableType, rows, cols, stride};
        ASSERT_CUDA(positionEmbedding(dx, dPositions.data(), 4, matrix, y, nullptr));
        std::vector<float> expected = x;
        for (size_t t = 0; t < positions.size(); ++t)
          for (int64_t i = 0; i < cols; ++i)
            expected[t * cols + i] += table[positions[t] * stride + i];
        EXPECT_EQ(y.values(), rounded(expected, type)) << int(tableType) << int(type) << " " << cols;
        ASSERT_CUDA(positionEmbedding(inPlace, dPositions.data(), 4, matrix, inPlace, nullptr));
        EXPECT_EQ(y.bytes(), inPlace.bytes());
      }
}

TEST_F(CudaRowOpsTest, RopeOfAPartOfAHead) {
  const std::vector<int32_t> positions{7, 0, 3, 9};
  const DeviceArray<int32_t> dPositions(positions);
  for (Type type : types)
    for (RopeStyle style : {RopeStyle::Half, RopeStyle::Interleaved})
      for (auto [dim, rotated] : {std::pair<int64_t, int64_t>{16, 12}, {16, 2}, {128, 96}, {80, 32}, {90, 22}}) {
        const int64_t rows = 4, heads = 3;
        const std::vector<float> cosSin = reference::ropeTable(10, rotated);
        const auto x = rounded(normal(rows * heads * dim), type);
        const DeviceValues table(cosSin, Type::F32), dx(x, type), y(x.size(), type), inPlace(x, type);
        ASSERT_CUDA(rope(dx, dPositions.data(), table.floats(), heads, dim, rotated, style, rows, y, nullptr));
        const auto expected =
            reference::ropeOfPart(x, positions, cosSin, heads, dim, rotated, style == RopeStyle::Interleaved);
        EXPECT_LE(relativeError(y.values().data(), expected), bound(type, 2e-7)) << dim << " " << rotated;
        ASSERT_CUDA(
            rope(inPlace, dPositions.data(), table.floats(), heads, dim, rotated, style, rows, inPlace, nullptr));
        EXPECT_EQ(y.bytes(), inPlace.bytes()) << dim << " " << rotated;
      }
}

TEST_F(CudaRowOpsTest, EmbeddingOfPartOfTheVocabulary) {
  const std::vector<int32_t> tokens{
      100, 99, 110, 111, 105, -1, std::numeric_limits<int32_t>::max(), 0, std::numeric_limits<int32_t>::min()};
  const DeviceArray<int32_t> dTokens(tokens);
  for (Type tableType : types)
    for (Type type : types)
      for (int64_t cols : {37, 64, 2560}) {
        const int64_t rows = 11, stride = cols + 8, firstRow = 100;
        const auto table = rounded(normal(rows * stride), tableType);
        const DeviceValues dTable(table, tableType), y(tokens.size() * cols, type);
        ASSERT_CUDA(embedding(dTokens.data(), int64_t(tokens.size()), {dTable.data(), tableType, rows, cols, stride},
                              firstRow, y, nullptr));
        std::vector<float> expected;
        for (int32_t token : tokens)
          for (int64_t i = 0; i < cols; ++i) {
            const int64_t row = int64_t(token) - firstRow;
            expected.push_back(row >= 0 && row < rows ? table[row * stride + i] : 0.0f);
          }
        EXPECT_EQ(y.values(), rounded(expected, type)) << int(tableType) << int(type) << " " << cols;
        const float factor = float(uniform(2, 90)) / 7;
        ASSERT_CUDA(embedding(dTokens.data(), int64_t(tokens.size()), {dTable.data(), tableType, rows, cols, stride},
                              firstRow, y, nullptr, factor));
        for (float &value : expected)
          value *= factor;
        EXPECT_EQ(y.values(), rounded(expected, type)) << factor << " " << int(tableType) << int(type) << " " << cols;
        const auto added = rounded(normal(5 * stride), tableType);
        std::vector<int32_t> positions(tokens.size());
        for (size_t t = 0; t < tokens.size(); ++t) {
          positions[t] = int32_t(uniform(0, 4));
          for (int64_t i = 0; i < cols; ++i)
            expected[t * cols + i] += added[positions[t] * stride + i];
        }
        const DeviceValues dAdded(added, tableType);
        const DeviceArray<int32_t> dPositions(positions);
        ASSERT_CUDA(embedding(dTokens.data(), int64_t(tokens.size()), {dTable.data(), tableType, rows, cols, stride},
                              firstRow, y, nullptr, factor, dPositions.data(),
                              {dAdded.data(), tableType, 5, cols, stride}));
        EXPECT_LE(relativeError(y.values().data(), {expected.begin(), expected.end()}), bound(type, 2e-7)) << cols;
      }
}

TEST_F(CudaRowOpsTest, Rope) {
  const std::vector<int32_t> positions{7, 0, 3, 9};
  const DeviceArray<int32_t> dPositions(positions);
  for (Type type : types)
    for (RopeStyle style : {RopeStyle::Half, RopeStyle::Interleaved})
      for (int64_t dim : {2, 6, 16, 64, 80, 90, 96, 128, 256}) {
        const int64_t rows = 4, heads = 3;
        const std::vector<float> cosSin = reference::ropeTable(10, dim);
        const auto x = rounded(normal(rows * heads * dim), type);
        const DeviceValues table(cosSin, Type::F32), dx(x, type), y(x.size(), type), inPlace(x, type, true);
        ASSERT_CUDA(rope(dx, dPositions.data(), table.floats(), heads, dim, dim, style, rows, y, nullptr));
        const auto expected = reference::rope(x, positions, cosSin, heads, dim, style == RopeStyle::Interleaved);
        EXPECT_LE(relativeError(y.values().data(), expected), bound(type, 2e-7)) << dim;
        ASSERT_CUDA(rope(inPlace, dPositions.data(), table.floats(), heads, dim, dim, style, rows, inPlace, nullptr));
        EXPECT_EQ(y.bytes(), inPlace.bytes()) << dim;
        for (int64_t t = rows; t-- > 0;) { // row by row over the first result
          const size_t at = t * heads * dim * bytesOf(type);
          ASSERT_CUDA(rope({static_cast<char *>(dx.data()) + at, type}, dPositions.data() + t, table.floats(), heads,
                           dim, dim, style, 1, {static_cast<char *>(y.data()) + at, type}, nullptr));
        }
        EXPECT_EQ(y.bytes(), inPlace.bytes()) << dim;
      }
}

TEST_F(CudaRowOpsTest, KvAppend) {
  const DeviceArray<int32_t> tables({5, 0, 2, 4}), sequenceOf({0, 0, 1, 1}), positions({3, 4, 0, 7});
  const int64_t blockOf[] = {5, 0, 2, 4}, slotOf[] = {3, 0, 0, 3};
  for (Type type : types)
    for (Type cacheType : types)
      for (int64_t dim : {10, 64}) {
        const int64_t heads = 3, blockTokens = 4, blocks = 6, plane = heads * blockTokens * dim;
        const auto k = rounded(normal(4 * heads * dim), type), v = rounded(normal(4 * heads * dim), type);
        std::vector<float> expected = rounded(normal(blocks * 2 * plane), cacheType);
        const DeviceValues dk(k, type), dv(v, type), cache(expected, cacheType);
        ASSERT_CUDA(kvAppend(dk, dv, 4, {cache.data(), cacheType, heads, blockTokens, dim},
                             {tables.data(), 2, sequenceOf.data(), positions.data()}, nullptr));
        for (int64_t t = 0; t < 4; ++t)
          for (int64_t h = 0; h < heads; ++h)
            for (int64_t i = 0; i < dim; ++i) {
              const int64_t at = ((blockOf[t] * 2 * heads + h) * blockTokens + slotOf[t]) * dim + i;
              expected[at] = k[(t * heads + h) * dim + i];
              expected[at + plane] = v[(t * heads + h) * dim + i];
            }
        EXPECT_EQ(cache.values(), rounded(expected, cacheType)) << int(type) << int(cacheType) << " " << dim;
      }
}

TEST_F(CudaRowOpsTest, RopeAppendIsRopeAndKvAppend) {
  const DeviceArray<int32_t> tables({5, 0, 2, 4}), sequenceOf({0, 0, 1, 1}), positions({3, 4, 0, 7});
  const BatchView batch{tables.data(), 2, sequenceOf.data(), positions.data()};
  for (Type type : types)
    for (RopeStyle style : {RopeStyle::Half, RopeStyle::Interleaved})
      for (int64_t dim : {16, 80, 128, 256}) {
        const int64_t rows = 4, heads = 6, kvHeads = 3, blockTokens = 4, blocks = 6;
        const DeviceValues table(reference::ropeTable(10, dim), Type::F32);
        const auto before = normal(blocks * 2 * kvHeads * blockTokens * dim);
        const DeviceValues q(normal(rows * heads * dim), type), k(normal(rows * kvHeads * dim), type),
            v(normal(rows * kvHeads * dim), type), y(rows * heads * dim, type), cache(before, type);
        const KvView view{cache.data(), type, kvHeads, blockTokens, dim};
        RopeAppend append{q, k, v, heads, {}, {}, table.floats(), positions.data(), dim, style, y};
        ASSERT_CUDA(ropeAppend(append, rows, view, batch, nullptr));
        const DeviceValues yExpected(rows * heads * dim, type), kExpected(rows * kvHeads * dim, type),
            cacheExpected(before, type);
        ASSERT_CUDA(rope(q, positions.data(), table.floats(), heads, dim, dim, style, rows, yExpected, nullptr));
        ASSERT_CUDA(rope(k, positions.data(), table.floats(), kvHeads, dim, dim, style, rows, kExpected, nullptr));
        ASSERT_CUDA(
            kvAppend(kExpected, v, rows, {cacheExpected.data(), type, kvHeads, blockTokens, dim}, batch, nullptr));
        EXPECT_EQ(y.bytes(), yExpected.bytes()) << dim;
        EXPECT_EQ(cache.bytes(), cacheExpected.bytes()) << dim;
        append.y = q;
        ASSERT_CUDA(ropeAppend(append, rows, view, batch, nullptr));
        EXPECT_EQ(q.bytes(), yExpected.bytes()) << dim;
      }
}

TEST_F(CudaRowOpsTest, Add) {
  for (Type type : types)
    for (int64_t n : {1, 5, 16, 333, 4096})
      for (bool shifted : {false, true}) {
        const auto a = rounded(normal(n), type), b = rounded(normal(n), type);
        std::vector<float> expected;
        for (int64_t i = 0; i < n; ++i)
          expected.push_back(a[i] + b[i]);
        const DeviceValues da(a, type, shifted), db(b, type, shifted), out(n, type, shifted), left(a, type),
            right(b, type);
        ASSERT_CUDA(add(da, db, n, out, nullptr));
        ASSERT_CUDA(add(left, db, n, left, nullptr));
        ASSERT_CUDA(add(da, right, n, right, nullptr));
        for (const DeviceValues *sum : {&out, &left, &right})
          EXPECT_EQ(sum->values(), rounded(expected, type)) << n;
      }
  const DeviceValues half(8, Type::F16), full(8, Type::F32);
  EXPECT_EQ(add(half, full, 8, full, nullptr), cudaErrorInvalidValue);
}

TEST_F(CudaRowOpsTest, ScaleAndSoftCap) {
  for (Type type : types)
    for (int64_t n : {1, 5, 16, 333, 4096})
      for (bool shifted : {false, true}) {
        const float cap = 3.0f;
        const auto x = rounded(normal(n, 2 * cap), type);
        std::vector<float> scaled;
        for (float value : x)
          scaled.push_back(value * 0.22f);
        const DeviceValues dx(x, type, shifted), out(n, type, shifted), capped(n, type, shifted), inPlace(x, type);
        ASSERT_CUDA(scale(dx, 0.22f, n, out, nullptr));
        EXPECT_EQ(out.values(), rounded(scaled, type)) << n;
        ASSERT_CUDA(softCap(dx, cap, n, capped, nullptr));
        ASSERT_CUDA(softCap(inPlace, cap, n, inPlace, nullptr));
        EXPECT_EQ(capped.bytes(), inPlace.bytes());
        const std::vector<float> y = capped.values();
        for (int64_t i = 0; i < n; ++i) {
          const double expected = cap * std::tanh(double(x[i]) / cap);
          ASSERT_NEAR(y[i], expected, bound(type, 1e-6) * std::fabs(expected) + 1e-30) << x[i];
        }
      }
  const DeviceValues half(8, Type::F16), full(8, Type::F32);
  EXPECT_EQ(scale(half, 2.0f, 8, full, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(softCap(full, 0.0f, 8, full, nullptr), cudaErrorInvalidValue);
}

TEST_F(CudaRowOpsTest, Glu) {
  for (Type type : types)
    for (Activation activation : {Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu})
      for (bool shifted : {false, true}) {
        auto gate = rounded(reference::gates(random), type);
        gate.resize(gate.size() / 8 * 8 + shifted); // with and without whole vectors
        const auto up = rounded(normal(gate.size()), type);
        const DeviceValues dGate(gate, type, shifted), dUp(up, type, shifted), out(gate.size(), type, shifted);
        ASSERT_CUDA(glu(dGate, dUp, activation, int64_t(gate.size()), out, nullptr));
        const std::vector<float> y = out.values();
        for (size_t i = 0; i < gate.size(); ++i) {
          const double expected = reference::activation(int(activation), gate[i]) * up[i];
          if (type == Type::F16 && std::fabs(expected) >= 65504)
            continue; // becomes infinite
          // f32 tails lose digits with the size of exp's argument, at most this for all activations; the smallest
          // halves are 2^-24 apart.
          const double argument = std::fabs(gate[i]) * (1.6 + 0.072 * gate[i] * gate[i]);
          const double tail = 1e-6 + 3e-7 * argument;
          const double least = type == Type::F16 ? 0x1p-25 : 1e-37;
          ASSERT_NEAR(y[i], expected, bound(type, tail) * std::fabs(expected) + least)
              << int(type) << int(activation) << " of " << gate[i] << " times " << up[i];
        }
        const DeviceValues alone(gate.size(), type, shifted),
            ones(std::vector<float>(gate.size(), 1.0f), type, shifted);
        ASSERT_CUDA(glu(dGate, ones, activation, int64_t(gate.size()), alone, nullptr));
        const auto expected = alone.bytes();
        ASSERT_CUDA(glu(dGate, {nullptr, Type::F32}, activation, int64_t(gate.size()), alone, nullptr));
        EXPECT_EQ(alone.bytes(), expected) << "without what the activation is multiplied with";
        ASSERT_CUDA(glu(dGate, dUp, activation, int64_t(gate.size()), dGate, nullptr));
        EXPECT_EQ(out.bytes(), dGate.bytes());
      }
}

TEST_F(CudaRowOpsTest, ReduceInTheOrderOfPeers) {
  for (Type type : types)
    for (int count : {1, 2, 3, 8, 16})
      for (int64_t n : {7, 4096}) {
        std::vector<std::unique_ptr<DeviceValues>> inputs;
        std::vector<float> sum, largest;
        Peers peers{};
        peers.count = count;
        for (int p = 0; p < count; ++p) {
          const auto values = rounded(normal(n), type);
          inputs.push_back(std::make_unique<DeviceValues>(values, type, count == 3 && p == 1));
          peers.data[p] = inputs.back()->data();
          if (p == 0)
            sum = largest = values;
          else
            for (int64_t i = 0; i < n; ++i) {
              sum[i] += values[i];
              largest[i] = std::max(largest[i], values[i]);
            }
        }
        const DeviceValues out(n, type);
        ASSERT_CUDA(reduce(peers, ReduceOp::Max, n, out, nullptr));
        EXPECT_EQ(out.values(), rounded(largest, type)) << count;
        ASSERT_CUDA(reduce(peers, ReduceOp::Sum, n, out, nullptr));
        EXPECT_EQ(out.values(), rounded(sum, type)) << count;
        ASSERT_CUDA(reduce(peers, ReduceOp::Sum, n, *inputs.back(), nullptr)); // in place
        EXPECT_EQ(out.bytes(), inputs.back()->bytes());
      }
  const DeviceValues out(1, Type::F32);
  EXPECT_EQ(reduce(Peers{}, ReduceOp::Sum, 1, out, nullptr), cudaErrorInvalidValue);
}

TEST_F(CudaRowOpsTest, CopiesOfRows) {
  for (int64_t rowBytes : {1, 6, 36, 64, 8192, 100000})
    for (int64_t gap : {0, 2, 16}) {
      const int64_t rows = 5, stride = rowBytes + gap;
      std::vector<unsigned char> source(rows * stride);
      for (unsigned char &b : source)
        b = (unsigned char)(uniform(0, 254)); // 255 is the poison
      const std::vector<int32_t> indices{4, 0, 2};
      const DeviceArray<unsigned char> from(source);
      const DeviceArray<int32_t> dIndices(indices);
      const DeviceBytes copied(rows * rowBytes), spread(rows * stride), selected(indices.size() * stride);
      ASSERT_CUDA(copyRows2D(from.data(), stride, copied.data(), rowBytes, rowBytes, rows, nullptr));
      ASSERT_CUDA(copyRows2D(copied.data(), rowBytes, spread.data(), stride, rowBytes, rows, nullptr));
      ASSERT_CUDA(selectRows(from.data(), stride, dIndices.data(), int64_t(indices.size()), selected.data(), nullptr));
      std::vector<unsigned char> dense, gapped(rows * stride, 0xFF), chosen;
      for (int64_t r = 0; r < rows; ++r) {
        dense.insert(dense.end(), &source[r * stride], &source[r * stride] + rowBytes);
        std::copy_n(&source[r * stride], rowBytes, &gapped[r * stride]);
      }
      for (int32_t r : indices)
        chosen.insert(chosen.end(), &source[r * stride], &source[r * stride] + stride);
      EXPECT_EQ(copied.bytes(), dense) << rowBytes << "+" << gap;
      EXPECT_EQ(spread.bytes(), gapped) << rowBytes << "+" << gap;
      EXPECT_EQ(selected.bytes(), chosen) << rowBytes << "+" << gap;
    }
}

} // namespace
} // namespace distc::cuda
