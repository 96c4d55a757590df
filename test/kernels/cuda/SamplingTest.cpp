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

  /// `best` may hold keys of the largest logits of parts.
  std::vector<float> candidates(const Rows &r, const std::vector<uint64_t> &best = {}) {
    const DeviceValues logits(r.logits, Type::F32), out(r.requests.size() * (r.count + 2) * 2, Type::F32);
    const DeviceArray<SamplingRow> requests(r.requests);
    const DeviceArray<uint64_t> keys(best);
    EXPECT_CUDA(topCandidates(logits.floats(), int64_t(r.requests.size()), r.width, r.valid, r.firstId, r.count,
                              requests.data(), out.floats(), nullptr, best.empty() ? nullptr : keys.data(),
                              int64_t(best.size() / r.requests.size())));
    return out.values();
  }

  static std::vector<float> expectedCandidates(const Rows &r) {
    std::vector<float> out(r.requests.size() * (r.count + 2) * 2, nan);
    cpu::topCandidates(r.logits.data(), r.width, r.valid, r.firstId, r.count, r.requests.data(), out.data(), 0,
                       int64_t(r.requests.size()));
    return out;
  }

  /// All equal but the noise and the sum of exponentials, which may differ in the last places.
  void expectSame(const Rows &r, const std::vector<uint64_t> &best = {}) {
    const std::vector<float> out = candidates(r, best), expected = expectedCandidates(r);
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
      const float temperatures[] = {0.0f, 0.3f, 1.0f, 1.7f}, topPs[] = {1.0f, 0.9f, 0.5f, 1e-9f};
      const int32_t topKs[] = {0, 1, 5, 40, 1000};
      rows.push_back({temperatures[uniform(0, 3)], topPs[uniform(0, 3)], topKs[uniform(0, 4)],
                      uint64_t(uniform(0, 1000)), uint64_t(i)});
    }
    return rows;
  }
};

TEST_F(CudaSamplingTest, CandidatesAsTheCpuFindsThem) {
  for (int64_t valid : {0, 1, 3, 40, 1001, 9001, 32003, 128256})
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
  for (int64_t count : {1000, 1500, 16384}) // more than a block has threads
    expectSame({128256, 128256, 0, count, normal(128256, 3.0f), {{1.0f, 0.9f, 0, 1, 1}}});
  expectSame({90000, 90000, 0, 256, std::vector<float>(90000, -2.5f), {{1.0f, 0.9f, 0, 1, 1}}});
}

// Where the largest logits stand must not matter: in the shares of few threads, in one block's part, in order, or
// between many that cannot be drawn.
TEST_F(CudaSamplingTest, CandidatesInAnyPlace) {
  const int64_t valid = 50000;
  auto expect = [&](const char *what, auto change) {
    SCOPED_TRACE(what);
    Rows r{valid, valid, 0, 256, normal(valid), {{1.0f, 0.9f, 0, 3, 7}}};
    for (int64_t i = 0; i < valid; ++i)
      change(r.logits[i], i);
    expectSame(r);
  };
  expect("few threads", [](float &v, int64_t i) { v += i % (valid / 8) % 1024 < 200 ? 9.0f : 0.0f; });
  expect("few threads, all equal", [](float &v, int64_t i) { v = i % (valid / 8) % 1024 < 200 ? 9.0f : 0.0f; });
  expect("one part", [](float &v, int64_t i) { v += i > 30000 && i < 36000 ? 9.0f : 0.0f; });
  expect("rising", [](float &v, int64_t i) { v = float(i); });
  expect("falling", [](float &v, int64_t i) { v = -float(i); });
  expect("few that can be drawn", [](float &v, int64_t i) { v = i % 1000 == 7 ? v : i % 3 ? -infinity : nan; });
  expect("one that can be drawn", [](float &v, int64_t i) { v = i == 44000 ? v : -infinity; });
  expect("none that can be drawn", [](float &v, int64_t i) { v = -infinity; });
  expect("an infinite one", [](float &v, int64_t i) { v = i == 44000 ? infinity : v; });
  expect("far apart", [](float &v, int64_t) { v *= 1e30f; });
}

TEST_F(CudaSamplingTest, GreedyRowsNeedTheLargestOfPartsAlone) {
  const int64_t parts = 132, rows = 3, width = 4000;
  Rows r{width,
         width,
         100,
         16,
         normal(rows * width),
         {{0.0f, 1.0f, 0, 0, 0}, {1.0f, 0.9f, 0, 1, 1}, {0.0f, 1.0f, 0, 0, 0}}};
  std::vector<uint64_t> best(rows * parts, 0); // parts without logits
  for (int64_t row : {0, 2}) {
    const float *logits = &r.logits[row * width];
    const int64_t column = std::max_element(logits, logits + width) - logits;
    const auto bits = std::bit_cast<uint32_t>(logits[column]); // above 0
    best[row * parts + 70] = uint64_t(bits | 0x80000000u) << 24 | ((1 << 24) - 1 - column);
  }
  expectSame(r, best);
}

// What a race detector, which takes minutes for the others, gets through.
TEST_F(CudaSamplingTest, SmallOnes) {
  for (auto [valid, count] : {std::pair<int64_t, int64_t>{40, 16}, {4203, 64}, {4203, 600}})
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
    for (int64_t count : {1, 4, 64, 300}) {
      const int64_t vocabulary = 4003, width = (vocabulary + shards - 1) / shards, outputs = 97;
      const std::vector<SamplingRow> rows = requests(outputs);
      // Some so flat that the nucleus has more than `count`, some with ties or infinities.
      std::vector<float> logits = normal(outputs * vocabulary, uniform(0, 1) ? 3.0f : 0.1f);
      for (int64_t r = 0; r < outputs; r += 10)
        for (int64_t i = 0; i < vocabulary; ++i)
          logits[r * vocabulary + i] = r % 20 ? std::round(logits[r * vocabulary + i]) : i % 7 ? -infinity : 1.0f;
      logits[50 * vocabulary + 70] = infinity;
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

// What no order decides: values that are no numbers once divided by the temperature.
TEST_F(CudaSamplingTest, SampleOfSpecialValues) {
  std::vector<SamplingRow> rows;
  for (float temperature : {0.0f, 1.0f, 1e-5f, nan, infinity})
    for (float topP : {1.0f, 0.5f, nan, -1.0f})
      for (int32_t topK : {0, 3, -5, 100})
        rows.push_back({temperature, topP, topK, ~0ull, ~0ull});
  for (const std::vector<float> &logits :
       {std::vector<float>(40, nan), std::vector<float>(40, -infinity), std::vector<float>(40, infinity),
        std::vector<float>{0.0f, infinity, -0.0f, infinity, 0.0f, 1.0f, nan}, std::vector<float>{3.0f, -infinity}}) {
    const auto n = int64_t(logits.size()), outputs = int64_t(rows.size());
    Rows r{n, n, 0, 38, {}, rows};
    for (int64_t i = 0; i < outputs; ++i)
      r.logits.insert(r.logits.end(), logits.begin(), logits.end());
    const std::vector<float> found = expectedCandidates(r);
    std::vector<int32_t> expected(outputs, -7);
    cpu::sample(found.data(), 1, outputs, r.count, rows.data(), expected.data());
    const DeviceValues candidates(found, Type::F32);
    const DeviceArray<SamplingRow> requests(rows);
    const DeviceArray<int32_t> ids(std::vector<int32_t>(outputs, -7));
    ASSERT_CUDA(sample(candidates.floats(), 1, outputs, r.count, requests.data(), ids.data(), nullptr));
    EXPECT_EQ(ids.values(), expected) << "logits from " << logits[0];
  }
}

// They start early, behind a kernel that says so and behind one that does not, launched or replayed.
TEST_F(CudaSamplingTest, WaitsForWhatIsBefore) {
  const int64_t width = 32000, steps = 12, count = 64;
  const SamplingRow row{0.8f, 0.9f, 0, 5, 6};
  const std::vector<float> logits = normal(steps * width, 3.0f);
  std::vector<int32_t> expected(steps, -7);
  for (int64_t s = 0; s < steps; ++s) {
    const std::vector<float> own(&logits[s * width], &logits[s * width] + width);
    const std::vector<float> found = expectedCandidates({width, width, 0, count, own, {row}});
    cpu::sample(found.data(), 1, 1, count, &row, &expected[s]);
  }
  const DeviceValues source(logits, Type::F32), current(width, Type::F32), out((count + 2) * 2, Type::F32);
  const DeviceArray<SamplingRow> request({row});
  const DeviceArray<int32_t> ids(std::vector<int32_t>(steps, -7));
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  ASSERT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  auto run = [&] {
    for (int64_t s = 0; s < steps; ++s) {
      EXPECT_CUDA(convert({source.floats() + s * width, Type::F32}, width, current, stream)); // does not say so
      EXPECT_CUDA(topCandidates(current.floats(), 1, width, width, 0, count, request.data(), out.floats(), stream));
      EXPECT_CUDA(sample(out.floats(), 1, 1, count, request.data(), ids.data() + s, stream));
    }
  };
  run();
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(ids.values(), expected);
  ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  run();
  ASSERT_CUDA(cudaStreamEndCapture(stream, &graph));
  ASSERT_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  for (int i = 0; i < 3; ++i) {
    ASSERT_CUDA(cudaMemsetAsync(ids.data(), 0xFF, steps * 4, stream));
    ASSERT_CUDA(cudaGraphLaunch(executable, stream));
    ASSERT_CUDA(cudaStreamSynchronize(stream));
    EXPECT_EQ(ids.values(), expected) << "replay " << i;
  }
  EXPECT_CUDA(cudaGraphExecDestroy(executable));
  EXPECT_CUDA(cudaGraphDestroy(graph));
  EXPECT_CUDA(cudaStreamDestroy(stream));
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
