#include "KernelTest.h"

#include <algorithm>
#include <numeric>

namespace distc::cpu {
namespace {

class AttentionTest : public KernelTest {
protected:
  struct Case {
    int64_t heads, kvHeads, dim, blockTokens, window;
    float softCap;
    std::vector<int32_t> positions; // one sequence each
  };

  /// A cache with its blocks in random order, and one query for each sequence.
  struct Data {
    std::vector<int32_t> table, sequenceOf;
    int64_t blocksPerSequence;
    std::vector<float> cache, q;
  };

  Data make(const Case &c) {
    Data d;
    const int64_t sequences = int64_t(c.positions.size());
    d.blocksPerSequence = *std::max_element(c.positions.begin(), c.positions.end()) / c.blockTokens + 1;
    d.table.resize(sequences * d.blocksPerSequence);
    std::iota(d.table.begin(), d.table.end(), 0);
    std::shuffle(d.table.begin(), d.table.end(), random);
    d.sequenceOf.resize(sequences);
    std::iota(d.sequenceOf.begin(), d.sequenceOf.end(), 0);
    d.cache = normal(d.table.size() * 2 * c.kvHeads * c.blockTokens * c.dim);
    d.q = normal(sequences * c.heads * c.dim, 2.0f);
    return d;
  }

  static KvView view(const Case &c, Data &d) { return {d.cache.data(), c.kvHeads, c.blockTokens, c.dim}; }

  static void run(const Case &c, Data &d, float *out, int64_t begin, int64_t end) {
    attention(d.q.data(), view(c, d), {c.heads, 1.0f / std::sqrt(float(c.dim)), c.window, c.softCap}, d.table.data(),
              d.blocksPerSequence, d.sequenceOf.data(), c.positions.data(), out, begin, end);
  }

  static std::vector<double> reference(const Case &c, const Data &d) {
    std::vector<double> out;
    for (size_t t = 0; t < c.positions.size(); ++t)
      for (int64_t h = 0; h < c.heads; ++h) {
        const int64_t kvHead = h / (c.heads / c.kvHeads), p = c.positions[t];
        const float *q = &d.q[(t * c.heads + h) * c.dim];
        const auto at = [&](int64_t position, int64_t plane) {
          const int64_t block = d.table[t * d.blocksPerSequence + position / c.blockTokens];
          return &d.cache[(((block * 2 + plane) * c.kvHeads + kvHead) * c.blockTokens + position % c.blockTokens) *
                          c.dim];
        };
        const int64_t first = c.window > 0 ? std::max<int64_t>(0, p - c.window + 1) : 0;
        std::vector<double> scores, sum(c.dim);
        for (int64_t j = first; j <= p; ++j) {
          double score = 0;
          for (int64_t i = 0; i < c.dim; ++i)
            score += double(q[i]) * at(j, 0)[i];
          score /= std::sqrt(double(c.dim));
          scores.push_back(c.softCap > 0 ? c.softCap * std::tanh(score / c.softCap) : score);
        }
        const double maximum = *std::max_element(scores.begin(), scores.end());
        double total = 0;
        for (int64_t j = first; j <= p; ++j) {
          const double weight = std::exp(scores[j - first] - maximum);
          total += weight;
          for (int64_t i = 0; i < c.dim; ++i)
            sum[i] += weight * at(j, 1)[i];
        }
        for (double s : sum)
          out.push_back(s / total);
      }
    return out;
  }

  const std::vector<Case> cases{
      {1, 1, 2, 1, 0, 0.0f, {0}},
      {4, 4, 64, 16, 0, 0.0f, {0, 31, 32, 33, 200}},
      {9, 3, 64, 16, 0, 0.0f, {5, 100}},
      {8, 1, 128, 32, 0, 0.0f, {63, 64, 500}},
      {22, 2, 80, 16, 7, 0.0f, {0, 6, 7, 99}},
      {4, 2, 256, 16, 40, 20.0f, {3, 39, 40, 300}},
      {6, 2, 34, 5, 0, 0.5f, {2, 77}},
      {10, 2, 6, 3, 1, 0.0f, {0, 10}},
      {2, 1, 250, 7, 0, 30.0f, {1000}},
  };
};
DISTC_KERNEL_SUITE(AttentionTest);

TEST_P(AttentionTest, AgreesWithDoubles) {
  for (size_t i = 0; i < cases.size(); ++i) {
    const Case &c = cases[i];
    Data d = make(c);
    Guarded out(d.q.size());
    run(c, d, out.data(), 0, int64_t(c.positions.size()) * c.kvHeads);
    EXPECT_LE(relativeError(out.data(), reference(c, d)), 5e-6) << "case " << i;
  }
}

TEST_P(AttentionTest, BitsDependNeitherOnRangeNorOnBlockSize) {
  for (const Case &c : cases) {
    Data d = make(c);
    const int64_t items = int64_t(c.positions.size()) * c.kvHeads;
    Guarded all(d.q.size()), parts(d.q.size()), other(d.q.size());
    run(c, d, all.data(), 0, items);
    for (int64_t i = items; i-- > 0;)
      run(c, d, parts.data(), i, i + 1);
    EXPECT_TRUE(sameBits(all.data(), parts.data(), all.size()));

    Case changed = c;
    changed.blockTokens = c.blockTokens + 3;
    Data moved = make(changed);
    moved.q = d.q;
    for (size_t t = 0; t < c.positions.size(); ++t)
      for (int64_t p = 0; p <= c.positions[t]; ++p)
        for (int64_t part = 0; part < 2 * c.kvHeads; ++part) {
          const auto at = [&](const Case &k, Data &data) {
            const int64_t block = data.table[t * data.blocksPerSequence + p / k.blockTokens];
            return &data.cache[((block * 2 * k.kvHeads + part) * k.blockTokens + p % k.blockTokens) * k.dim];
          };
          std::copy_n(at(c, d), c.dim, at(changed, moved));
        }
    run(changed, moved, other.data(), 0, items);
    EXPECT_TRUE(sameBits(all.data(), other.data(), all.size()));
  }
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  const Case c{2, 1, 64, 16, 0, 0.0f, {90}};
  Data d = make(c);
  for (float &q : d.q)
    q *= 100.0f;
  Guarded out(d.q.size());
  run(c, d, out.data(), 0, 1);
  // Scores of some hundreds: their own rounding is what the weights show.
  EXPECT_LE(relativeError(out.data(), reference(c, d)), 2e-4);
}

} // namespace
} // namespace distc::cpu
