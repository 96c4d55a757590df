#include "distc/Engine.h"

#include "runtime/engine/StopFilter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <set>

using namespace distc;

namespace {

// Remembers tokens by block as a cache does; the next id is a hash of all tokens that the block table leads to, so a
// wrong block, position or chunk changes the answer.
class FakeModel : public StepModel {
public:
  FakeModel() {
    info_.vocabulary = 100;
    info_.maxBatch = 4;
    info_.maxTokens = 8;
    info_.prefill = {1, 8, 4, 3};
    info_.decode = {1, 4, 4, 4};
    info_.maxSequence = 32;
    info_.kvBlockTokens = 4;
    info_.kvBlocks = 20;
    info_.blocksPerSequence = 8;
  }
  const PlanSetInfo &info() const override { return info_; }
  Result<std::vector<StepResult>> step(std::span<const Batch> batches) override {
    ++steps;
    decodeSteps += batches[0].decode;
    EXPECT_LE(batches.size(), (batches[0].decode ? info_.decode : info_.prefill).microBatches);
    std::vector<StepResult> results;
    for (const Batch &batch : batches)
      results.push_back(one(batch));
    return results;
  }
  StepResult one(const Batch &b) {
    ++microBatches;
    const size_t sequences = b.sequenceStarts.size() - 1;
    const PlanSetInfo::Limits &limits = b.decode ? info_.decode : info_.prefill;
    EXPECT_LE(sequences, limits.maxSequences);
    EXPECT_LE(b.tokens.size(), limits.maxTokens);
    EXPECT_LE(b.outputs.size(), limits.maxOutputs);
    EXPECT_EQ(b.sampling.size(), b.outputs.size());
    EXPECT_EQ(b.lengths.size(), sequences);
    lengths.insert(b.lengths.begin(), b.lengths.end());
    StepResult result;
    size_t output = 0;
    for (size_t s = 0; s < sequences; ++s)
      for (int32_t t = b.sequenceStarts[s]; t < b.sequenceStarts[s + 1]; ++t) {
        auto slot = [&](int32_t p) {
          return b.blockTable[s * info_.blocksPerSequence + size_t(p) / info_.kvBlockTokens] *
                     int32_t(info_.kvBlockTokens) +
                 p % int32_t(info_.kvBlockTokens);
        };
        EXPECT_GE(slot(b.positions[t]), 0);
        cache_[slot(b.positions[t])] = b.tokens[t];
        if (output == b.outputs.size() || b.outputs[output] != t)
          continue;
        uint64_t hash = b.sampling[output++].seed;
        for (int32_t p = 0; p <= b.positions[t]; ++p)
          hash = hash * 31 + uint64_t(cache_[slot(p)]) + 7;
        result.ids.push_back(int32_t(hash % 100));
        if (b.wantLogits)
          for (uint32_t v = 0; v < info_.vocabulary; ++v)
            result.logits.push_back(float((hash + v) % 100));
      }
    return result;
  }
  PlanSetInfo info_;
  int steps = 0, decodeSteps = 0, microBatches = 0;
  std::set<int32_t> lengths; // that sequences were said to grow to

private:
  std::map<int32_t, int32_t> cache_;
};

class Letters : public TextDecoder {
public:
  Result<std::string> push(int32_t id) override { return std::to_string(id) + ","; }
  std::string finish() override { return {}; }
};

EngineHooks letters() {
  EngineHooks hooks;
  hooks.makeDecoder = [] { return std::make_unique<Letters>(); };
  return hooks;
}

struct Answer {
  std::vector<int32_t> ids;
  std::string text;
  Finish finish = Finish::None;
};

std::vector<Answer> run(FakeModel &model, const std::vector<Request> &requests, EngineHooks hooks = {}) {
  std::vector<Answer> answers(requests.size());
  const Status status = Engine(model, std::move(hooks)).generate(requests, [&](const TokenEvent &e) {
    answers[e.request].ids.push_back(e.id);
    answers[e.request].text += e.text;
    answers[e.request].finish = e.finish;
  });
  EXPECT_TRUE(status.ok()) << status.message();
  return answers;
}

Request request(std::vector<int32_t> tokens, uint32_t maxNew) {
  Request r;
  r.tokens = std::move(tokens);
  r.maxNewTokens = maxNew;
  return r;
}

TEST(Engine, AnswersDoNotDependOnBatching) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  std::vector<Request> requests(13);
  for (Request &r : requests) {
    r.tokens.resize(1 + random() % 25);
    for (int32_t &t : r.tokens)
      t = int32_t(random() % 100);
    r.maxNewTokens = 1 + random() % 7;
    r.sampling.seed = random();
  }
  FakeModel together;
  const auto answers = run(together, requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    FakeModel alone;
    const auto one = run(alone, {requests[i]});
    EXPECT_EQ(answers[i].ids, one[0].ids) << i;
    EXPECT_EQ(answers[i].ids.size(), requests[i].maxNewTokens);
    EXPECT_EQ(answers[i].finish, Finish::MaxTokens);
  }
}

// What chooses a rope table stays the same for all steps of a sequence.
TEST(Engine, SaysHowLongASequenceMayBecome) {
  FakeModel model;
  run(model, {request({1, 2, 3}, 4)});
  EXPECT_EQ(model.lengths, std::set<int32_t>{7});
  run(model, {request({1, 2, 3}, 100000)});
  EXPECT_EQ(model.lengths, (std::set<int32_t>{7, int32_t(model.info().maxSequence)}));
  ASSERT_TRUE(Engine(model).logits({4, 5}).ok());
  EXPECT_TRUE(model.lengths.contains(2));
}

TEST(Engine, MicroBatchesChangeNoAnswer) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  std::vector<Request> requests(9);
  for (Request &r : requests)
    r = request(std::vector<int32_t>(1 + random() % 25, int32_t(random() % 100)), 1 + random() % 7);
  FakeModel whole;
  const auto expected = run(whole, requests);
  for (uint32_t count : {2u, 3u, 4u}) {
    FakeModel model;
    model.info_.prefill = {count, (8 + count - 1) / count, (8 + count - 1) / count, (8 + count - 1) / count};
    model.info_.decode = {count, (4 + count - 1) / count, (4 + count - 1) / count, (4 + count - 1) / count};
    const auto answers = run(model, requests);
    for (size_t i = 0; i < requests.size(); ++i)
      EXPECT_EQ(answers[i].ids, expected[i].ids) << i;
    EXPECT_GT(model.microBatches, model.steps + model.steps / 2);
  }
}

TEST(Engine, APromptIsDealtOutEvenly) {
  FakeModel model;
  model.info_.prefill = {4, 2, 2, 2};
  run(model, {request(std::vector<int32_t>(6, 5), 1)});
  EXPECT_EQ(model.steps, 1);
  EXPECT_EQ(model.microBatches, 3); // two tokens each
}

TEST(Engine, ChunksPromptsAndThenDecodes) {
  FakeModel model;
  run(model, {request(std::vector<int32_t>(20, 5), 4)});
  EXPECT_EQ(model.steps - model.decodeSteps, 3); // 8 + 8 + 4
  EXPECT_EQ(model.decodeSteps, 3);
}

TEST(Engine, EndsAtEndOfGenerationUnlessIgnored) {
  FakeModel model;
  Request r = request({1, 2, 3}, 6);
  const auto free = run(model, {r});
  EngineHooks hooks;
  hooks.isEndOfGeneration = [&](int32_t id) { return id == free[0].ids[0]; };
  const auto ended = run(model, {r}, hooks);
  EXPECT_EQ(ended[0].ids.size(), 1u);
  EXPECT_EQ(ended[0].finish, Finish::EndOfGeneration);
  r.ignoreEos = true;
  EXPECT_EQ(run(model, {r}, hooks)[0].ids, free[0].ids);
}

TEST(Engine, EndsAtTheContextLimit) {
  FakeModel model;
  const auto answers = run(model, {request(std::vector<int32_t>(30, 5), 50)});
  EXPECT_EQ(answers[0].ids.size(), 3u);
  EXPECT_EQ(answers[0].finish, Finish::ContextLimit);
}

TEST(Engine, StopsAcrossTokens) {
  FakeModel model;
  Request r = request({4, 5}, 8);
  const auto free = run(model, {r}, letters());
  const auto text = [&](size_t i) { return std::to_string(free[0].ids[i]); };
  r.stops = {"," + text(3) + "," + text(4)};
  const auto stopped = run(model, {r}, letters());
  EXPECT_EQ(stopped[0].finish, Finish::Stop);
  EXPECT_EQ(stopped[0].text, free[0].text.substr(0, free[0].text.find(r.stops[0])));
}

TEST(StopFilter, HoldsBackOnlyWhatMayBecomeAStop) {
  const std::vector<std::string> stops = {"END", "DONE"};
  StopFilter filter(stops);
  EXPECT_EQ(filter.push("abE"), "ab");
  EXPECT_EQ(filter.push("xD"), "Ex");
  EXPECT_EQ(filter.push("ON"), "");
  EXPECT_EQ(filter.push("!EN"), "DON!");
  EXPECT_EQ(filter.push("Dtail"), "");
  EXPECT_TRUE(filter.stopped());
}

TEST(Engine, RefusesWhatCannotRun) {
  FakeModel model;
  auto failure = [&](Request r) { return Engine(model).generate({r}, [](const TokenEvent &) {}).message(); };
  EXPECT_THAT(failure(request(std::vector<int32_t>(33, 1), 1)),
              testing::AllOf(testing::HasSubstr("33"), testing::HasSubstr("32"), testing::HasSubstr("--max-seq")));
  EXPECT_THAT(failure(request({}, 1)), testing::HasSubstr("no tokens"));
  EXPECT_THAT(failure(request({100}, 1)), testing::HasSubstr("expected 0 to 99"));
  model.info_.kvBlocks = 2;
  EXPECT_THAT(failure(request({1}, 8)), testing::HasSubstr("3 blocks"));
  EXPECT_EQ(failure(request({1}, 7)), "");
}

TEST(Engine, LogitsInChunksOfOutputs) {
  FakeModel model, wide;
  wide.info_.prefill.maxOutputs = wide.info_.maxTokens;
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6, 7};
  auto a = Engine(model).logits(tokens), b = Engine(wide).logits(tokens);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->size(), 700u);
  EXPECT_EQ(*a, *b);
  EXPECT_EQ(model.steps, 3);
  EXPECT_EQ(wide.steps, 1);
}

} // namespace
