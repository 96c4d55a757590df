// TopCandidates and Sample against the CPU's, whose own tests say what they mean.
#include "DeviceTest.h"
#include "distc/kernels/Cpu.h"

namespace distc::cuda {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

class CudaSamplingTest : public DeviceTest {
protected:
  struct Rows {
    int64_t width, valid, firstId, count;
    std::vector<float> logits;
    std::vector<SamplingRow> requests;
  };

  std::vector<float> candidates(const Rows &r) {
    const DeviceValues logits(r.logits, Type::F32), out(r.requests.size() * (r.count + 2) * 2, Type::F32);
    const DeviceArray<SamplingRow> requests(r.requests);
    EXPECT_CUDA(topCandidates(logits.floats(), int64_t(r.requests.size()), r.width, r.valid, r.firstId, r.count,
                              requests.data(), out.floats(), nullptr));
    return out.values();
  }

  static std::vector<float> expectedCandidates(const Rows &r) {
    std::vector<float> out(r.requests.size() * (r.count + 2) * 2, nan);
    cpu::topCandidates(r.logits.data(), r.width, r.valid, r.firstId, r.count, r.requests.data(), out.data(), 0,
                       int64_t(r.requests.size()));
    return out;
  }

  /// All equal but the noise and the sum of exponentials, which may differ in the last places.
  void expectSame(const Rows &r) {
    const std::vector<float> out = candidates(r), expected = expectedCandidates(r);
    for (size_t i = 0; i < r.requests.size(); ++i) {
      const size_t row = i * (r.count + 2) * 2;
      EXPECT_EQ(std::memcmp(&out[row], &expected[row], r.count * 8), 0) << "candidates of row " << i;
      const float *noisy = &out[row + r.count * 2], *expectedNoisy = &expected[row + r.count * 2];
      EXPECT_EQ(noisy[1], expectedNoisy[1]) << "chosen by noise in row " << i;
      EXPECT_EQ(noisy[3], expectedNoisy[3]);
      for (int64_t at : {0, 2}) {
        const float a = noisy[at], b = expectedNoisy[at];
        if (std::isfinite(b))
          EXPECT_NEAR(a, b, 1e-5 * std::max(1.0f, std::fabs(b))) << "row " << i;
        else
          EXPECT_TRUE(a == b || (std::isnan(a) && std::isnan(b))) << a << " and " << b << ", row " << i;
      }
    }
  }

  std::vector<SamplingRow> requests(int64_t n) {
    std::vector<SamplingRow> rows;
    for (int64_t i = 0; i < n; ++i) {
      const float temperatures[] = {0.0f, 0.3f, 1.0f, 1.7f}, topPs[] = {1.0f, 0.9f, 0.5f};
      const int32_t topKs[] = {0, 1, 5, 40, 1000};
      rows.push_back({temperatures[uniform(0, 3)], topPs[uniform(0, 2)], topKs[uniform(0, 4)],
                      uint64_t(uniform(0, 1000)), uint64_t(i)});
    }
    return rows;
  }
};

TEST_F(CudaSamplingTest, CandidatesAsTheCpuFindsThem) {
  for (int64_t valid : {0, 1, 3, 40, 1001, 32003, 128256})
    for (int64_t count : {0, 1, 16, 64, 256})
      for (bool ties : {false, true}) {
        SCOPED_TRACE(testing::Message() << valid << " logits, " << count << " candidates, ties " << ties);
        Rows r{valid + 3, valid, valid * 3, count, normal(8 * (valid + 3), 3.0f), requests(8)};
        for (float &v : r.logits)
          if (ties) // signed zeros among them
            v = std::round(v);
        expectSame(r);
      }
  expectSame({20000, 20000, 0, 9000, normal(20000), {{1.0f, 0.9f, 0, 1, 1}}}); // more than the default shared memory
  expectSame({300, 300, 0, 256, std::vector<float>(300, 1.0f), {{1.0f, 0.9f, 0, 1, 1}}});
}

// What a race detector, which takes minutes for the others, gets through.
TEST_F(CudaSamplingTest, SmallOnes) {
  for (auto [valid, count] : {std::pair<int64_t, int64_t>{40, 16}, {5003, 64}, {5003, 1500}})
    for (bool ties : {false, true}) {
      SCOPED_TRACE(testing::Message() << valid << " logits, " << count << " candidates, ties " << ties);
      Rows r{valid + 3, valid, valid * 3, count, normal(2 * (valid + 3), 3.0f), requests(2)};
      for (float &v : r.logits)
        if (ties)
          v = std::round(v);
      expectSame(r);
    }
}

TEST_F(CudaSamplingTest, SpecialValues) {
  std::vector<SamplingRow> rows;
  for (float temperature : {0.0f, 1.0f, 1e-30f, nan, -1.0f, infinity})
    for (float topP : {1.0f, 0.5f, nan, -1.0f})
      for (int32_t topK : {0, 3, -5})
        rows.push_back({temperature, topP, topK, ~0ull, ~0ull});
  for (const std::vector<float> &logits :
       {std::vector<float>{nan, 1.0f, nan, -infinity, nan, nan, nan}, std::vector<float>(7, nan),
        std::vector<float>(7, -infinity), std::vector<float>{0.0f, infinity, -0.0f, infinity, 0.0f, 1.0f, nan}}) {
    Rows r{7, 7, 0, 4, {}, rows};
    for (size_t i = 0; i < rows.size(); ++i)
      r.logits.insert(r.logits.end(), logits.begin(), logits.end());
    expectSame(r);
  }
}

TEST_F(CudaSamplingTest, SampleAsTheCpuDoes) {
  for (int64_t shards : {1, 2, 3, 8, 40})
    for (int64_t count : {1, 4, 64}) {
      const int64_t vocabulary = 4003, width = (vocabulary + shards - 1) / shards, outputs = 97;
      const std::vector<SamplingRow> rows = requests(outputs);
      const std::vector<float> logits = normal(outputs * vocabulary, 3.0f);
      std::vector<float> gathered;
      for (int64_t s = 0; s < shards; ++s) {
        const int64_t first = std::min(s * width, vocabulary), valid = std::min(width, vocabulary - first);
        Rows part{width, valid, first, count, {}, rows};
        for (int64_t r = 0; r < outputs; ++r) {
          part.logits.insert(part.logits.end(), &logits[r * vocabulary + first],
                             &logits[r * vocabulary + first] + valid);
          part.logits.resize((r + 1) * width, nan);
        }
        const std::vector<float> out = expectedCandidates(part);
        gathered.insert(gathered.end(), out.begin(), out.end());
      }
      std::vector<int32_t> expected(outputs, -7);
      cpu::sample(gathered.data(), shards, outputs, count, rows.data(), expected.data());
      const DeviceValues candidates(gathered, Type::F32);
      const DeviceArray<SamplingRow> requests(rows);
      const DeviceArray<int32_t> ids(std::vector<int32_t>(outputs, -7));
      ASSERT_CUDA(sample(candidates.floats(), shards, outputs, count, requests.data(), ids.data(), nullptr));
      EXPECT_EQ(ids.values(), expected) << shards << " shards, " << count << " candidates";
    }
}

TEST_F(CudaSamplingTest, RefusesTooManyCandidatesOrIds) {
  const DeviceValues memory(64, Type::F32);
  const DeviceArray<SamplingRow> requests({SamplingRow{}});
  EXPECT_EQ(topCandidates(memory.floats(), 1, 8, 8, 0, maxCandidates + 1, requests.data(), memory.floats(), nullptr),
            cudaErrorInvalidValue);
  EXPECT_EQ(topCandidates(memory.floats(), 1, 8, 8, 1 << 24, 4, requests.data(), memory.floats(), nullptr),
            cudaErrorInvalidValue);
}

} // namespace
} // namespace distc::cuda
