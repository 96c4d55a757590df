#include "KernelTest.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace distc::cpu {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

class SamplingTest : public KernelTest {
protected:
  /// The ids that `shards` ranks choose for one row of logits, each rank holding an equal part (padded to `width`).
  static std::vector<int32_t> choose(const std::vector<float> &logits, int64_t shards, int64_t count,
                                     const std::vector<SamplingRow> &rows) {
    const int64_t vocabulary = int64_t(logits.size()), width = (vocabulary + shards - 1) / shards;
    const int64_t outputs = int64_t(rows.size()), pairs = count + 2;
    std::vector<float> gathered;
    for (int64_t s = 0; s < shards; ++s) {
      const int64_t first = s * width, valid = std::clamp<int64_t>(vocabulary - first, 0, width);
      std::vector<float> part(outputs * (width + 3), nan);
      for (int64_t r = 0; r < outputs; ++r)
        std::copy_n(logits.begin() + first, valid, part.begin() + r * (width + 3));
      Guarded out(outputs * pairs * 2);
      topCandidates(part.data(), width + 3, valid, first, count, rows.data(), out.data(), 0, outputs / 2);
      topCandidates(part.data(), width + 3, valid, first, count, rows.data(), out.data(), outputs / 2, outputs);
      gathered.insert(gathered.end(), out.data(), out.data() + out.size());
    }
    std::vector<int32_t> ids(outputs, -7);
    sample(gathered.data(), shards, outputs, count, rows.data(), ids.data());
    return ids;
  }

  /// Pearson's chi-square of how often each id was chosen against probabilities.
  static double chiSquare(const std::vector<int32_t> &ids, const std::vector<double> &probabilities) {
    std::vector<double> observed(probabilities.size());
    for (int32_t id : ids)
      observed[id] += 1;
    double sum = 0;
    for (size_t i = 0; i < observed.size(); ++i) {
      const double expected = probabilities[i] * double(ids.size());
      if (expected == 0)
        EXPECT_EQ(observed[i], 0) << "id " << i;
      else
        sum += (observed[i] - expected) * (observed[i] - expected) / expected;
    }
    return sum;
  }

  static std::vector<SamplingRow> draws(int64_t n, float temperature, float topP, int32_t topK) {
    std::vector<SamplingRow> rows;
    for (int64_t i = 0; i < n; ++i)
      rows.push_back({temperature, topP, topK, 42, uint64_t(i)});
    return rows;
  }
};
DISTC_KERNEL_SUITE(SamplingTest);

const SamplingRow greedy{0.0f, 1.0f, 0, 1, 1};

TEST_P(SamplingTest, Greedy) {
  for (int64_t n : {1, 2, 15, 16, 17, 33, 1000, 32003}) {
    std::vector<float> logits = normal(n);
    const auto best = int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
    for (int64_t shards : {1, 2, 4})
      EXPECT_EQ(choose(logits, shards, 4, {greedy, greedy}), (std::vector{best, best})) << n;
    // An equal value later loses, an equal value earlier wins.
    logits[n - 1] = logits[best];
    EXPECT_EQ(choose(logits, 2, 4, {greedy})[0], best);
    const auto earlier = int32_t(uniform(0, best));
    logits[earlier] = logits[best];
    EXPECT_EQ(choose(logits, 2, 4, {greedy})[0], earlier);
  }
}

TEST_P(SamplingTest, CandidatesAreTheLargestInOrder) {
  for (int64_t n : {3, 40, 1001}) {
    std::vector<float> logits = normal(n);
    for (int64_t i = 0; i < n; i += 3)
      logits[i] = std::round(logits[i] * 2) / 2; // many ties
    const int64_t count = 16, firstId = 5000;
    const SamplingRow row{0.7f, 0.9f, 0, 3, 4};
    Guarded out((count + 2) * 2);
    topCandidates(logits.data(), n, n, firstId, count, &row, out.data(), 0, 1);
    std::vector<int64_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return logits[a] > logits[b]; });
    for (int64_t i = 0; i < count; ++i) {
      EXPECT_EQ(out[2 * i], i < n ? logits[order[i]] : -infinity);
      EXPECT_EQ(out[2 * i + 1], i < n ? float(firstId + order[i]) : -1.0f);
    }
    double sum = 0;
    for (float logit : logits)
      sum += std::exp(logit / 0.7f);
    EXPECT_NEAR(out[2 * (count + 1)], std::log(sum), 2e-5);
    EXPECT_EQ(out[2 * (count + 1) + 1], 0.0f);
  }
}

TEST_P(SamplingTest, UnusedPairsOfGreedy) {
  const std::vector<float> logits{1.0f, 3.0f, 2.0f};
  Guarded out(8);
  topCandidates(logits.data(), 3, 3, 10, 2, &greedy, out.data(), 0, 1);
  const float expected[] = {3.0f, 11.0f, -infinity, -1.0f, -infinity, -1.0f, -infinity, 0.0f};
  EXPECT_TRUE(std::equal(expected, expected + 8, out.data()));
}

// The quantile of chi-square at 1e-6 for k degrees of freedom (Wilson and Hilferty); the seed is fixed.
double limit(double k) { return k * std::pow(1 - 2 / (9 * k) + 4.75 * std::sqrt(2 / (9 * k)), 3); }

TEST_P(SamplingTest, GumbelMaxDrawsFromTheSoftmax) {
  const std::vector<float> logits{0.0f, 1.0f, -1.0f, 2.0f, 0.5f, 2.0f, -2.0f, 1.5f, 0.25f, -0.5f, 0.0f};
  for (float temperature : {0.5f, 1.0f, 2.0f}) {
    std::vector<double> probabilities;
    double total = 0;
    for (float logit : logits)
      total += std::exp(logit / temperature);
    for (float logit : logits)
      probabilities.push_back(std::exp(logit / temperature) / total);
    const auto ids = choose(logits, 1, 4, draws(20000, temperature, 1.0f, 0));
    EXPECT_LE(chiSquare(ids, probabilities), limit(10)) << temperature;
    EXPECT_EQ(choose(logits, 2, 4, draws(20000, temperature, 1.0f, 0)), ids);
  }
}

TEST_P(SamplingTest, UniformOverManyIds) {
  const std::vector<float> logits(4096, 1.0f);
  const auto ids = choose(logits, 1, 1, draws(16 * 4096 / 4, 1.0f, 1.0f, 0));
  std::vector<int32_t> buckets;
  for (int32_t id : ids)
    buckets.push_back(id / 64);
  EXPECT_LE(chiSquare(buckets, std::vector<double>(64, 1.0 / 64)), limit(63));
}

TEST_P(SamplingTest, TopKAndTopPCut) {
  const std::vector<float> logits{std::log(0.1f), std::log(0.4f), std::log(0.05f), std::log(0.3f), std::log(0.15f)};
  struct Case {
    int32_t topK;
    float topP;
    std::vector<double> probabilities;
  };
  const Case cases[] = {{1, 1.0f, {0, 1, 0, 0, 0}},
                        {2, 1.0f, {0, 4.0 / 7, 0, 3.0 / 7, 0}},
                        {0, 0.39f, {0, 1, 0, 0, 0}},
                        {0, 0.5f, {0, 4.0 / 7, 0, 3.0 / 7, 0}},
                        {0, 0.71f, {0, 8.0 / 17, 0, 6.0 / 17, 3.0 / 17}},
                        {3, 0.99f, {0, 8.0 / 17, 0, 6.0 / 17, 3.0 / 17}},
                        {2, 0.99f, {0, 4.0 / 7, 0, 3.0 / 7, 0}},
                        {0, 0.0f, {0, 1, 0, 0, 0}},
                        {100, 1.0f, {0.1, 0.4, 0.05, 0.3, 0.15}}};
  for (const Case &c : cases) {
    const auto ids = choose(logits, 1, 8, draws(8000, 1.0f, c.topP, c.topK));
    EXPECT_LE(chiSquare(ids, c.probabilities), limit(4)) << "top_k " << c.topK << " top_p " << c.topP;
    EXPECT_EQ(choose(logits, 2, 8, draws(8000, 1.0f, c.topP, c.topK)), ids);
  }
  // Cut to `count`.
  for (int32_t id : choose(logits, 2, 2, draws(100, 1.0f, 0.99f, 0)))
    EXPECT_TRUE(id == 1 || id == 3);
}

TEST_P(SamplingTest, SameIdOnEveryMesh) {
  const std::vector<float> logits = normal(10007, 3.0f);
  std::vector<SamplingRow> rows;
  for (int64_t i = 0; i < 200; ++i) {
    const float temperatures[] = {0.0f, 0.3f, 1.0f, 1.7f}, topPs[] = {1.0f, 0.9f, 0.5f};
    const int32_t topKs[] = {0, 1, 5, 40, 1000};
    rows.push_back({temperatures[uniform(0, 3)], topPs[uniform(0, 2)], topKs[uniform(0, 4)], uint64_t(uniform(0, 1000)),
                    uint64_t(i)});
  }
  const auto ids = choose(logits, 1, 64, rows);
  for (int64_t shards : {2, 3, 4, 8})
    EXPECT_EQ(choose(logits, shards, 64, rows), ids) << shards;
  for (size_t i = 0; i < rows.size(); ++i) // nor does the number of rows matter
    EXPECT_EQ(choose(logits, 2, 64, {rows[i]})[0], ids[i]);
}

TEST_P(SamplingTest, SpecialValues) {
  std::vector<SamplingRow> rows{greedy};
  for (float temperature : {1.0f, 1e-30f, nan, -1.0f, infinity})
    for (float topP : {1.0f, 0.5f, nan, -1.0f})
      for (int32_t topK : {0, 3, -5})
        rows.push_back({temperature, topP, topK, ~0ull, ~0ull});
  for (int64_t shards : {1, 2}) {
    for (int32_t id : choose({nan, 1.0f, nan, -infinity, nan, nan, nan}, shards, 4, rows))
      EXPECT_EQ(id, 1);
    for (float value : {nan, -infinity})
      for (int32_t id : choose(std::vector<float>(37, value), shards, 4, rows))
        EXPECT_EQ(id, 0);
    std::vector<float> overflow(37, 0.0f);
    overflow[5] = overflow[30] = infinity;
    for (int32_t id : choose(overflow, shards, 4, rows))
      EXPECT_TRUE(id >= 0 && id < 37);
    EXPECT_EQ(choose(overflow, shards, 4, {greedy})[0], 5);
  }
}

} // namespace
} // namespace distc::cpu
