// Whole programs on every mesh, against the same arithmetic in double; for DISTC_TEST_TARGET, if its device is there.
#include "Sequences.h"
#include "runtime/backends/Backend.h"

#include <gmock/gmock.h>

#include <cmath>

namespace distc::test {
namespace {

using plan::Activation;
using plan::DType;

struct Case {
  const char *name;
  TinyOptions options;
};

// Why the target cannot be run here; empty: it can.
std::string missingDevice() { return openDevice(DISTC_TEST_TARGET).status().message(); }

class Models : public ::testing::TestWithParam<Case> {
protected:
  void SetUp() override {
    if (const std::string missing = missingDevice(); !missing.empty())
      GTEST_SKIP() << missing;
  }

  std::unique_ptr<Runner> open(uint32_t threads) {
    RunnerOptions options;
    options.threadsPerRank = threads;
    auto runner = Runner::open(folder.path(), options);
    EXPECT_TRUE(runner.ok()) << runner.status().message();
    return runner.ok() ? runner.take() : nullptr;
  }

  const uint32_t seed = freshSeed();
  std::mt19937 random{seed};
  TemporaryFolder folder;
  TinyModel model{seed, GetParam().options};
};

// Three sequences of unequal chunks, then decode steps of all three, then of one alone in the small decode program.
TEST_P(Models, MatchTheReference) {
  model.write(folder.path());
  auto runner = open(2);
  ASSERT_TRUE(runner);
  std::vector<Sequence> sequences = randomSequences(random, 3, 20);
  std::vector<std::vector<std::vector<double>>> expected;
  for (const Sequence &sequence : sequences)
    expected.push_back(model.reference(sequence.tokens));
  auto step = [&](const std::vector<size_t> &counts, bool decode) {
    const Batch batch = makeBatch({&sequences[0], &sequences[1], &sequences[2]}, counts, decode);
    auto result = runner->step(batch);
    ASSERT_TRUE(result.ok()) << result.status().message();
    size_t row = 0;
    for (size_t s = 0; s < 3; ++s) {
      if (counts[s] == 0)
        continue;
      EXPECT_LT(rowError(*result, row, expected[s][sequences[s].done - 1]), 2e-5)
          << "sequence " << s << ", position " << sequences[s].done - 1;
      const float *logits = result->logits.data() + row * TinyModel::kVocabulary;
      EXPECT_EQ(result->ids[row], std::max_element(logits, logits + TinyModel::kVocabulary) - logits);
      ++row;
    }
  };
  step({5, 0, 1}, false);
  step({7, 3, 6}, false);
  step({1, 13, 2}, false);
  step({1, 1, 1}, true);
  step({1, 1, 0}, true);
  step({0, 1, 0}, true);
  step({0, 1, 0}, true);
}

// Neither threads nor company nor the way in which a prompt is cut change a bit.
TEST_P(Models, BitsDoNotDependOnThreadsOrBatching) {
  model.write(folder.path());
  const std::vector<Sequence> fresh = randomSequences(random, 3, 12);
  auto run = [&](uint32_t threads, bool alone) {
    auto runner = open(threads);
    std::vector<Sequence> s = fresh;
    std::vector<float> logits;
    auto step = [&](const Batch &batch, size_t row) {
      auto result = runner->step(batch);
      ASSERT_TRUE(result.ok()) << result.status().message();
      logits.insert(logits.end(), result->logits.begin() + row * TinyModel::kVocabulary,
                    result->logits.begin() + (row + 1) * TinyModel::kVocabulary);
    };
    if (alone) {
      step(makeBatch({&s[1]}, {10}, false), 0);
      step(makeBatch({&s[1]}, {1}, true), 0);
      step(makeBatch({&s[1]}, {1}, true), 0);
    } else {
      EXPECT_TRUE(runner->step(makeBatch({&s[1], &s[0]}, {4, 9}, false)).ok());
      step(makeBatch({&s[0], &s[1], &s[2]}, {1, 6, 8}, false), 1);
      step(makeBatch({&s[0], &s[1], &s[2]}, {1, 1, 1}, true), 1);
      step(makeBatch({&s[2], &s[1]}, {1, 1}, true), 1);
    }
    return logits;
  };
  const std::vector<float> first = run(1, true);
  EXPECT_EQ(first, run(3, true));
  EXPECT_EQ(first, run(2, false));
  EXPECT_EQ(first, run(2, false)) << "run after run";
}

const Case kCases[] = {
    {"One", {}},
    {"OneBf16Mapped", {.weights = DType::BF16, .mapped = true}},
    {"OneF16", {.weights = DType::F16, .style = plan::RopeStyle::Interleaved}},
    {"OneQ8", {.weights = DType::Q8_0, .activation = Activation::Gelu}},
    {"OneQ4", {.weights = DType::Q4_1, .activation = Activation::GeluTanh}},
    {"OneQ5Mapped", {.weights = DType::Q5_0, .mapped = true}},
    {"OneWindowCap", {.activation = Activation::Relu, .window = 3, .softCap = 2}},
    {"OneBiasChunked", {.chunked = true, .bias = true}},
    {"Tp2", {.tp = 2}},
    {"Tp2Bf16MappedBias", {.tp = 2, .weights = DType::BF16, .mapped = true, .bias = true}},
    {"Tp2Q8Window", {.tp = 2, .weights = DType::Q8_0, .window = 5}},
    {"Tp2Q4Mapped", {.tp = 2, .weights = DType::Q4_0, .mapped = true}},
    {"Tp2Chunked", {.tp = 2, .chunked = true}},
    {"Tp2Scattered", {.tp = 2, .scattered = true}},
    {"Tp2ChunkedScattered", {.tp = 2, .chunked = true, .scattered = true}},
    {"Pp2", {.pp = 2}},
    {"Tp2Pp2", {.tp = 2, .pp = 2}},
    {"Tp2Pp2F16MappedChunked", {.tp = 2, .pp = 2, .weights = DType::F16, .mapped = true, .chunked = true}},
};
INSTANTIATE_TEST_SUITE_P(Meshes, Models, ::testing::ValuesIn(kCases),
                         [](const auto &info) { return std::string(info.param.name); });

// Random weights: every mesh has the same model, with and without the checkpoint.
TEST(RandomModels, AreTheSameOnEveryMesh) {
  if (const std::string missing = missingDevice(); !missing.empty())
    GTEST_SKIP() << missing;
  const uint32_t seed = freshSeed();
  std::mt19937 random(seed);
  const std::vector<Sequence> fresh = randomSequences(random, 1, 10);
  std::vector<double> first;
  for (const TinyOptions &options :
       {TinyOptions{.weights = DType::BF16, .mapped = true}, TinyOptions{.weights = DType::BF16, .withoutFiles = true},
        TinyOptions{.tp = 2, .pp = 2, .weights = DType::BF16, .mapped = true, .withoutFiles = true}}) {
    TemporaryFolder folder;
    TinyModel(1, options).write(folder.path());
    RunnerOptions runnerOptions;
    runnerOptions.randomSeed = seed;
    auto runner = Runner::open(folder.path(), runnerOptions);
    ASSERT_TRUE(runner.ok()) << runner.status().message();
    std::vector<Sequence> s = fresh;
    auto result = (*runner)->step(makeBatch({&s[0]}, {10}, false));
    ASSERT_TRUE(result.ok()) << result.status().message();
    if (first.empty())
      first.assign(result->logits.begin(), result->logits.end());
    EXPECT_LT(rowError(*result, 0, first), 1e-5);
  }
}

} // namespace
} // namespace distc::test
