#include "Sequences.h"

#include <gmock/gmock.h>

#include <chrono>
#include <cmath>

namespace distc::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class Runners : public ::testing::Test {
protected:
  Result<std::unique_ptr<Runner>> open(TinyModel &model, const RunnerOptions &options = {}) {
    for (uint32_t rank = 0; std::filesystem::remove(folder / planFileName(rank)); ++rank)
      continue; // of the model before
    model.write(folder.path());
    return Runner::open(folder.path(), options);
  }

  // A prompt of ten tokens.
  Batch prompt() {
    sequences = randomSequences(random, 1, 20);
    return makeBatch({&sequences[0]}, {10}, false);
  }

  const uint32_t seed = freshSeed();
  std::mt19937 random{seed};
  TemporaryFolder folder;
  std::vector<Sequence> sequences;
};

TEST_F(Runners, Info) {
  TinyModel model(seed, {.tp = 2, .pp = 2, .weights = plan::DType::BF16, .window = 5});
  for (plan::PlanT *plan : model.plans())
    plan->model->tokenizer = "../elsewhere/tokenizer.dtok";
  auto runner = open(model);
  ASSERT_TRUE(runner.ok()) << runner.status().message();
  const PlanSetInfo &info = (*runner)->info();
  EXPECT_EQ(info.model, "tiny");
  EXPECT_EQ(info.tp, 2u);
  EXPECT_EQ(info.pp, 2u);
  EXPECT_EQ(info.vocabulary, 41u);
  EXPECT_EQ(info.context, 64u);
  EXPECT_EQ(info.maxBatch, 3u);
  EXPECT_EQ(info.maxTokens, 16u);
  EXPECT_EQ(info.maxSequence, 30u);
  EXPECT_EQ(info.kvBlockTokens, 4u);
  EXPECT_EQ(info.kvBlocks, 24u);
  EXPECT_EQ(info.blocksPerSequence, 8u);
  EXPECT_EQ(info.prefill.maxOutputs, 3u);
  EXPECT_EQ(info.tokenizerPath, folder / "tokenizer.dtok") << "never outside the plan's folder";
  // Per layer the matrices once in bf16, both norms on both ranks in f32; the head padded to 42 rows in f32; final norm
  // twice.
  const uint64_t layer = (32 * 32 * 2 + 16 * 32 * 2 + 64 * 32 * 3) * 2 + 2 * 2 * 32 * 4;
  EXPECT_EQ(info.weightBytes, 2 * layer + 42 * 32 * 4 + 2 * 32 * 4);
  EXPECT_EQ(info.kvBytesPerToken, (std::map<uint32_t, uint64_t>{{5, 2 * 2 * 2 * 8 * 4}}));
}

// At least as long as its collectives over the link that is asked for, with the same results.
TEST_F(Runners, ASlowerLinkChangesNothingButTime) {
  TinyModel model(seed, {.tp = 2, .scattered = true});
  const Batch batch = prompt();
  auto at = [&](std::optional<LinkSpeed> link) {
    RunnerOptions slower;
    slower.link = link;
    auto runner = open(model, slower);
    EXPECT_TRUE(runner.ok()) << runner.status().message();
    const auto begin = std::chrono::steady_clock::now();
    auto result = (*runner)->step(batch);
    EXPECT_TRUE(result.ok()) << result.status().message();
    return std::pair(result->logits, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  };
  const auto [expected, fast] = at({});
  const auto [logits, seconds] = at(LinkSpeed{.latencySeconds = .01, .bytesPerSecond = 1e9});
  EXPECT_EQ(logits, expected);
  EXPECT_GT(seconds, 8 * .01); // embedding, two attentions, two scatters and gathers, candidates
  // A reduced vector of 32 f32 for each token: of two members each passes on as much as it has.
  const auto slow = at(LinkSpeed{.latencySeconds = 0, .bytesPerSecond = 32 * 4 * double(batch.tokens.size()) / .02});
  EXPECT_GT(slow.second, 3 * .02);
}

TEST_F(Runners, WithoutLogitsTheIdsAreTheSame) {
  TinyModel model(seed, {.tp = 2});
  auto runner = open(model);
  ASSERT_TRUE(runner.ok()) << runner.status().message();
  Batch batch = prompt();
  auto with = (*runner)->step(batch);
  batch.wantLogits = false;
  auto without = (*runner)->step(batch);
  ASSERT_TRUE(with.ok() && without.ok());
  EXPECT_EQ(with->logits.size(), 41u);
  EXPECT_TRUE(without->logits.empty());
  EXPECT_EQ(with->ids, without->ids);
}

// The noise depends on seed, position and id alone: the same text on every mesh, another with another seed.
TEST_F(Runners, SamplingIsTheSameOnEveryMesh) {
  const Batch batch = prompt();
  auto ids = [&](const TinyOptions &options, uint64_t samplingSeed) {
    TinyModel model(seed, options);
    auto runner = open(model);
    EXPECT_TRUE(runner.ok());
    std::vector<int32_t> result;
    Batch b = batch;
    for (uint64_t i = 0; i < 12; ++i) {
      b.sampling[0] = {.temperature = 1.5f, .topP = i % 2 ? .9f : 1.f, .topK = i % 3 ? 5 : 0, .seed = samplingSeed + i};
      result.push_back((*runner)->step(b)->ids[0]);
    }
    return result;
  };
  const std::vector<int32_t> one = ids({}, 100);
  EXPECT_EQ(one, ids({.tp = 2}, 100));
  EXPECT_EQ(one, ids({.tp = 2, .pp = 2}, 100));
  EXPECT_NE(one, ids({}, 200));
}

TEST_F(Runners, APromptWithoutOutputs) {
  TinyModel model(seed, {.tp = 2, .pp = 2});
  auto runner = open(model);
  ASSERT_TRUE(runner.ok());
  Batch batch = prompt();
  batch.outputs.clear();
  batch.sampling.clear();
  auto result = (*runner)->step(batch);
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_TRUE(result->ids.empty());
}

TEST_F(Runners, AWrongBatchIsRefusedAndHarmless) {
  TinyModel model(seed, {});
  auto runner = open(model);
  ASSERT_TRUE(runner.ok());
  Batch batch = prompt();
  batch.tokens[2] = 1000;
  EXPECT_EQ((*runner)->step(batch).status().code(), Code::InvalidArgument);
  EXPECT_TRUE((*runner)->step(prompt()).ok());
}

TEST_F(Runners, AnInterruptEndsTheRunner) {
  TinyModel model(seed, {.tp = 2});
  std::atomic<bool> interrupted{false};
  RunnerOptions options;
  options.interrupted = &interrupted;
  auto runner = open(model, options);
  ASSERT_TRUE(runner.ok());
  ASSERT_TRUE((*runner)->step(prompt()).ok());
  interrupted = true;
  EXPECT_EQ((*runner)->step(prompt()).status().code(), Code::Cancelled);
  interrupted = false;
  EXPECT_EQ((*runner)->step(prompt()).status().code(), Code::Cancelled) << "later steps return the same failure";
}

TEST_F(Runners, ProgressReachesTheTotal) {
  TinyModel model(seed, {.tp = 2, .weights = plan::DType::BF16, .mapped = true});
  uint64_t bytes = 0, last = 0, total = 0;
  for (const plan::PlanT *plan : model.plans())
    for (const auto &weight : plan->weights)
      bytes += weight->bytes;
  RunnerOptions options;
  options.loadProgress = [&](uint64_t done, uint64_t of) {
    EXPECT_GE(done, last);
    last = done;
    total = of;
  };
  ASSERT_TRUE(open(model, options).ok());
  EXPECT_EQ(last, bytes);
  EXPECT_EQ(total, bytes);
}

// ------------------------------------------------------------------------------------------------ what open refuses

TEST_F(Runners, MoreMemoryThanThereIs) {
  TinyModel model(seed, {.tp = 2, .kvBlocks = 1u << 31});
  auto runner = open(model);
  ASSERT_FALSE(runner.ok());
  EXPECT_EQ(runner.status().code(), Code::ResourceExhausted);
  EXPECT_THAT(runner.status().message(),
              AllOf(HasSubstr("the 2 rank(s) in this process need 2.00 TiB"), HasSubstr("are available"),
                    HasSubstr("KV cache"), HasSubstr("\n  1 "), HasSubstr("1.00 TiB")));
}

TEST_F(Runners, ACheckpointThatChangedOrWent) {
  TinyModel model(seed, {.tp = 2});
  ASSERT_TRUE(open(model).ok());
  std::ofstream(folder / "model.bin", std::ios::app) << "more";
  EXPECT_THAT(Runner::open(folder.path(), {}).status().message(),
              HasSubstr("model.bin: changed since compile: size is"));
  std::filesystem::remove(folder / "model.bin");
  EXPECT_THAT(Runner::open(folder.path(), {}).status().message(),
              AllOf(HasSubstr("model.bin: cannot open"), HasSubstr("--weights DIR")));
  TemporaryFolder elsewhere;
  model.checkpoint().write(elsewhere / "model.bin");
  RunnerOptions options;
  options.weights = elsewhere.path();
  EXPECT_TRUE(Runner::open(folder.path(), options).ok());
}

TEST_F(Runners, APlanWithoutWeightsNeedsASeed) {
  TinyModel model(seed, {.withoutFiles = true});
  EXPECT_THAT(open(model).status().message(), HasSubstr("--random-weights SEED"));
  RunnerOptions options;
  options.randomSeed = 1;
  EXPECT_TRUE(open(model, options).ok());
}

TEST_F(Runners, AnotherTarget) {
  TinyModel model(seed, {.withoutFiles = true}); // it is refused before its files are looked for
  model.plans()[0]->target = "sm_90";
  auto runner = open(model);
  ASSERT_FALSE(runner.ok());
  EXPECT_EQ(runner.status().code(), Code::FailedPrecondition);
  EXPECT_THAT(runner.status().message(), HasSubstr("target 'sm_90', this build runs 'cpu'"));
}

TEST_F(Runners, AFailureWhileLoadingIsTheFirstOnesAndEndsAll) {
  TinyModel model(seed, {.pp = 2});
  model.plans()[1]->tensors.back()->file = -1; // the head, which rank 0 does not use
  auto runner = open(model);
  ASSERT_FALSE(runner.ok());
  EXPECT_THAT(runner.status().message(), AllOf(HasSubstr("rank 1"), HasSubstr("--random-weights SEED")));
}

TEST_F(Runners, AMissingRank) {
  TinyModel model(seed, {.tp = 2});
  ASSERT_TRUE(open(model).ok());
  std::filesystem::remove(folder / "rank1.plan");
  EXPECT_THAT(Runner::open(folder.path(), {}).status().message(), HasSubstr("rank 1 of 2 is missing"));
}

TEST_F(Runners, AStepThatWasNeverRunLeavesNothingBehind) {
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) {
    TinyModel model(seed, {.tp = 2, .pp = 2});
    ASSERT_TRUE(open(model).ok());
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
}

} // namespace
} // namespace distc::test
