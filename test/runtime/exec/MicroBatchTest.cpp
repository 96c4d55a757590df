// Several micro-batches of a step, in flight at a time: the bits of one after the other.
#include "Sequences.h"
#include "runtime/backends/Backend.h"

#include <gmock/gmock.h>

namespace distc::test {
namespace {

using ::testing::HasSubstr;

class MicroBatches : public ::testing::TestWithParam<std::pair<uint32_t, uint32_t>> {
protected:
  void SetUp() override {
    if (const std::string missing = openDevice(DISTC_TEST_TARGET).status().message(); !missing.empty())
      GTEST_SKIP() << missing;
  }
};

// Prompts that go on in the next micro-batch, in the same one, and not at all; then decode in groups.
std::vector<std::vector<Batch>> steps(std::vector<Sequence> s) {
  std::vector<std::vector<Batch>> result(3);
  for (const std::vector<size_t> &counts : {std::vector<size_t>{3, 1, 0}, {4, 2, 5}, {1, 9, 1}, {2, 0, 6}})
    result[0].push_back(makeBatch({&s[0], &s[1], &s[2]}, counts, false));
  for (int step : {1, 2})
    for (Sequence &sequence : s)
      result[step].push_back(makeBatch({&sequence}, {1}, true));
  return result;
}

TEST_P(MicroBatches, ChangeNoBit) {
  const uint32_t seed = freshSeed();
  std::mt19937 random(seed);
  for (const bool chunked : {false, true}) {
    TemporaryFolder folder;
    TinyModel(seed, {.tp = GetParam().first, .pp = GetParam().second, .chunked = chunked, .microBatches = 4})
        .write(folder.path());
    auto runner = Runner::open(folder.path(), {});
    ASSERT_TRUE(runner.ok()) << runner.status().message();
    EXPECT_EQ((*runner)->info().prefill.microBatches, 4u);
    for (int round = 0; round < 5; ++round)
      for (const std::vector<Batch> &batches : steps(randomSequences(random, 3, 20))) {
        // Together first: what a micro-batch must find in the cache is not there from a run before.
        auto together = (*runner)->step(batches);
        ASSERT_TRUE(together.ok()) << together.status().message();
        for (size_t m = 0; m < batches.size(); ++m) {
          auto alone = (*runner)->step(batches[m]);
          ASSERT_TRUE(alone.ok()) << alone.status().message();
          EXPECT_EQ((*together)[m].ids, alone->ids);
          EXPECT_EQ((*together)[m].logits, alone->logits) << "micro-batch " << m;
        }
      }
  }
}

TEST_P(MicroBatches, EndTogetherWhenInterrupted) {
  TemporaryFolder folder;
  TinyModel(1, {.tp = GetParam().first, .pp = GetParam().second, .microBatches = 4}).write(folder.path());
  std::atomic<bool> interrupted{false};
  RunnerOptions options;
  options.interrupted = &interrupted;
  auto runner = Runner::open(folder.path(), options);
  ASSERT_TRUE(runner.ok()) << runner.status().message();
  std::mt19937 random(1);
  const std::vector<Batch> batches = steps(randomSequences(random, 3, 20))[0];
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    interrupted = true;
  });
  Status status;
  for (int step = 0; status.ok() && step < 100000; ++step)
    status = (*runner)->step(batches).status();
  later.join();
  EXPECT_EQ(status.code(), Code::Cancelled);
}

INSTANTIATE_TEST_SUITE_P(Meshes, MicroBatches,
                         ::testing::Values(std::pair(1u, 1u), std::pair(2u, 1u), std::pair(1u, 2u), std::pair(2u, 2u)),
                         [](const auto &info) {
                           return "Tp" + std::to_string(info.param.first) + "Pp" + std::to_string(info.param.second);
                         });

} // namespace
} // namespace distc::test
