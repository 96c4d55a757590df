#include "DeviceTest.h"

namespace distc::cuda {
namespace {

enum class NormOf { None, Head, Row };

struct Case {
  int heads, kvHeads, dim, rotated; // no heads: no q
  NormOf q, k;
  float offset;
  int rows;
};

class CudaRopeAppendTest : public DeviceTest {
protected:
  /// Norm and rotation of one row's heads.
  static std::vector<double> expected(const float *x, int heads, const Case &c, NormOf of,
                                      const std::vector<float> &weight, const float *cosSin, RopeStyle style) {
    const int width = of == NormOf::Row ? heads * c.dim : c.dim;
    std::vector<double> row(x, x + heads * c.dim);
    for (int begin = 0; of != NormOf::None && begin < heads * c.dim; begin += width) {
      double sum = 0;
      for (int i = 0; i < width; ++i)
        sum += row[begin + i] * row[begin + i];
      for (int i = 0; i < width; ++i)
        row[begin + i] *= (weight[i] + double(c.offset)) / std::sqrt(sum / width + eps);
    }
    for (int head = 0; head < heads; ++head)
      for (int i = 0; i < c.rotated / 2; ++i) {
        const bool half = style == RopeStyle::Half;
        double &a = row[head * c.dim + (half ? i : 2 * i)];
        double &b = row[head * c.dim + (half ? i + c.rotated / 2 : 2 * i + 1)];
        const double cos = cosSin[2 * i], sin = cosSin[2 * i + 1], turned = a * cos - b * sin;
        b = a * sin + b * cos;
        a = turned;
      }
    return row;
  }
  static int64_t widthOf(NormOf of, int heads, const Case &c) { return of == NormOf::Row ? heads * c.dim : c.dim; }

  static constexpr double eps = 1e-5;
};

TEST_F(CudaRopeAppendTest, AgreesWithDoubles) {
  using enum NormOf;
  for (const Case &c : {Case{32, 8, 128, 128, Head, Head, 0.0f, 1}, Case{6, 2, 16, 16, Head, Head, 1.0f, 3},
                        Case{6, 2, 16, 12, None, None, 0.0f, 4}, Case{8, 4, 256, 256, Head, Head, 1.0f, 2},
                        Case{24, 8, 128, 96, None, None, 0.0f, 2}, Case{12, 3, 8, 8, Row, Row, 0.0f, 5},
                        Case{32, 32, 128, 128, Row, Row, 0.0f, 2}, Case{4, 2, 80, 32, Head, None, 0.0f, 2},
                        Case{0, 4, 64, 0, None, None, 0.0f, 3}, Case{4, 4, 96, 0, None, Row, 0.5f, 3},
                        Case{5, 1, 10, 10, Row, Head, 0.0f, 2}, Case{2, 1, 64, 64, Row, Head, 0.0f, 260}})
    for (Type type : types)
      for (RopeStyle style : {RopeStyle::Half, RopeStyle::Interleaved})
        for (bool inPlace : {false, true}) {
          const int blockTokens = 4, perSequence = 2, positionsOf = blockTokens * perSequence;
          std::vector<int32_t> table(size_t(c.rows) * perSequence), sequenceOf, positions, angleRows;
          std::iota(table.begin(), table.end(), 0);
          std::shuffle(table.begin(), table.end(), random.engine);
          for (int t = 0; t < c.rows; ++t) {
            sequenceOf.push_back(c.rows - 1 - t);
            positions.push_back(int32_t(uniform(0, positionsOf - 1)));
            angleRows.push_back(positions.back() + positionsOf * int32_t(uniform(0, 1))); // of two sets
          }
          const auto q = rounded(normal(size_t(c.rows) * c.heads * c.dim), type),
                     k = rounded(normal(size_t(c.rows) * c.kvHeads * c.dim), type), v = rounded(normal(k.size()), type),
                     cosSin = normal(size_t(2) * positionsOf * (c.rotated + 2)),
                     weightQ = normal(size_t(widthOf(c.q, c.heads, c)) + 1), // a row of no heads has none
              weightK = normal(size_t(widthOf(c.k, c.kvHeads, c)));
          const DeviceArray<int32_t> dTable(table), dSequenceOf(sequenceOf), dPositions(positions),
              dAngleRows(angleRows);
          const DeviceValues dq(q, type), dk(k, type), dv(v, type), dCosSin(cosSin, Type::F32),
              dWeightQ(weightQ, Type::F32), dWeightK(weightK, Type::F32), other(q.size(), type),
              cache(table.size() * 2 * c.kvHeads * blockTokens * c.dim, type);
          const DeviceValues &y = inPlace ? dq : other;
          RopeAppend a;
          a.k = dk;
          a.v = dv;
          if (c.heads > 0) {
            a.q = dq;
            a.y = y;
            a.heads = c.heads;
          }
          if (c.q != None)
            a.normQ = {dWeightQ.floats(), float(eps), c.offset, widthOf(c.q, c.heads, c)};
          if (c.k != None)
            a.normK = {dWeightK.floats(), float(eps), c.offset, widthOf(c.k, c.kvHeads, c)};
          if (c.rotated > 0) {
            a.cosSin = dCosSin.floats();
            a.angleRows = dAngleRows.data();
            a.rotated = c.rotated;
            a.style = style;
          }
          const KvView view{cache.data(), type, c.kvHeads, blockTokens, c.dim};
          ASSERT_CUDA(ropeAppend(a, c.rows, view, {dTable.data(), perSequence, dSequenceOf.data(), dPositions.data()},
                                 nullptr));

          std::vector<double> expectedQ, expectedK;
          std::vector<float> keys;
          const std::vector<float> stored = cache.values();
          for (int t = 0; t < c.rows; ++t) {
            const float *angles = &cosSin[size_t(angleRows[t]) * c.rotated];
            const auto append = [&](std::vector<double> &to, const std::vector<double> &row) {
              to.insert(to.end(), row.begin(), row.end());
            };
            append(expectedQ,
                   expected(q.data() + size_t(t) * c.heads * c.dim, c.heads, c, c.q, weightQ, angles, style));
            append(expectedK,
                   expected(k.data() + size_t(t) * c.kvHeads * c.dim, c.kvHeads, c, c.k, weightK, angles, style));
            const int block = table[sequenceOf[t] * perSequence + positions[t] / blockTokens];
            for (int h = 0; h < c.kvHeads; ++h) {
              const auto at = [&](int plane) {
                return size_t(((block * 2 + plane) * c.kvHeads + h) * blockTokens + positions[t] % blockTokens) * c.dim;
              };
              keys.insert(keys.end(), &stored[at(0)], &stored[at(0)] + c.dim);
              for (int i = 0; i < c.dim; ++i)
                ASSERT_EQ(stored[at(1) + i], v[(size_t(t) * c.kvHeads + h) * c.dim + i]);
            }
          }
          EXPECT_EQ(std::ranges::count_if(stored, [](float value) { return !std::isnan(value); }),
                    2 * int64_t(k.size()));
          EXPECT_LE(relativeError(keys.data(), expectedK), bound(type, 1e-6)) << c.dim << " of " << c.rotated;
          if (c.heads > 0) {
            EXPECT_LE(relativeError(y.values().data(), expectedQ), bound(type, 1e-6)) << c.dim << " of " << c.rotated;
          }
        }
}

TEST_F(CudaRopeAppendTest, BitsDependOnTheRowAlone) {
  for (NormOf of : {NormOf::Head, NormOf::Row}) {
    const Case c{8, 2, 64, 64, of, of, 0.0f, 300}; // so many that a token has one block
    std::vector<int32_t> table(size_t(c.rows)), sequenceOf(table.size()), positions(table.size());
    std::iota(table.begin(), table.end(), 0);
    std::iota(sequenceOf.begin(), sequenceOf.end(), 0);
    for (int32_t &position : positions)
      position = int32_t(uniform(0, 3));
    const DeviceArray<int32_t> dTable(table), dSequenceOf(sequenceOf), dPositions(positions);
    const size_t row = size_t(c.heads) * c.dim, kvRow = size_t(c.kvHeads) * c.dim;
    const DeviceValues q(normal(c.rows * row), Type::BF16), k(normal(c.rows * kvRow), Type::BF16),
        v(normal(c.rows * kvRow), Type::BF16), cosSin(normal(size_t(4) * c.dim), Type::F32),
        weight(normal(row), Type::F32), y(c.rows * row, Type::BF16), again(c.rows * row, Type::BF16),
        cache(c.rows * 2 * 4 * kvRow, Type::BF16), cacheAgain(c.rows * 2 * 4 * kvRow, Type::BF16);
    const auto run = [&](int first, int rows, const DeviceValues &y, const DeviceValues &cache) {
      const auto from = [&](const DeviceValues &values, size_t width) {
        return static_cast<unsigned char *>(values.data()) + first * width * 2;
      };
      RopeAppend a;
      a.q = {from(q, row), Type::BF16};
      a.k = {from(k, kvRow), Type::BF16};
      a.v = {from(v, kvRow), Type::BF16};
      a.heads = c.heads;
      a.normQ = {weight.floats(), float(eps), 0.0f, widthOf(of, c.heads, c)};
      a.normK = {weight.floats(), float(eps), 0.0f, widthOf(of, c.kvHeads, c)};
      a.cosSin = cosSin.floats();
      a.angleRows = dPositions.data() + first;
      a.rotated = c.rotated;
      a.y = {from(y, row), Type::BF16};
      ASSERT_CUDA(ropeAppend(a, rows, {cache.data(), Type::BF16, c.kvHeads, 4, c.dim},
                             {dTable.data(), 1, dSequenceOf.data() + first, dPositions.data() + first}, nullptr));
    };
    run(0, c.rows, y, cache);
    run(0, 1, again, cacheAgain);
    run(1, 30, again, cacheAgain);
    run(31, c.rows - 31, again, cacheAgain);
    EXPECT_EQ(y.bytes(), again.bytes());
    EXPECT_EQ(cache.bytes(), cacheAgain.bytes());
  }
}

TEST_F(CudaRopeAppendTest, RefusesWhatItCannotDo) {
  const DeviceValues values(4096, Type::F16), cache(4096, Type::F16);
  RopeAppend a;
  a.q = a.k = a.v = values;
  a.y = values;
  a.heads = 1;
  EXPECT_TRUE(ropeAppendSuits(a, {cache.data(), Type::F16, 1, 4, 8}));
  EXPECT_FALSE(ropeAppendSuits(a, {cache.data(), Type::BF16, 1, 4, 8}));
  EXPECT_FALSE(ropeAppendSuits(a, {cache.data(), Type::F16, 1, 4, 512}));
  a.rotated = 10;
  EXPECT_FALSE(ropeAppendSuits(a, {cache.data(), Type::F16, 1, 4, 8}));
  EXPECT_EQ(ropeAppend(a, 1, {cache.data(), Type::F16, 1, 4, 8}, {}, nullptr), cudaErrorInvalidValue);
  a.rotated = 8;
  a.normK = {values.floats(), 0.0f, 0.0f, 16};
  EXPECT_FALSE(ropeAppendSuits(a, {cache.data(), Type::F16, 1, 4, 8}));
  EXPECT_TRUE(ropeAppendSuits(a, {cache.data(), Type::F16, 2, 4, 8}));
}

} // namespace
} // namespace distc::cuda
