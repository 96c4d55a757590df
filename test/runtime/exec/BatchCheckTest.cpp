#include "runtime/exec/BatchCheck.h"
#include "Sequences.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

namespace distc::test {
namespace {

using ::testing::HasSubstr;

class BatchCheck : public ::testing::Test {
protected:
  BatchCheck() {
    payload = packPayload(*model.plans()[0]);
    plan = flatbuffers::GetRoot<plan::Plan>(payload.data());
    std::mt19937 random(freshSeed());
    sequences = randomSequences(random, 3, 12);
  }

  Batch prefill() {
    std::vector<Sequence> s = sequences;
    return makeBatch({&s[0], &s[1]}, {5, 9}, false);
  }
  Batch decode() {
    std::vector<Sequence> s = sequences;
    s[0].done = 11;
    return makeBatch({&s[0], &s[1]}, {1, 1}, true);
  }

  template <typename Change> void expectRefused(Batch batch, const char *text, Change change) {
    change(batch);
    const Status status = checkBatch(*plan, batch);
    EXPECT_EQ(status.code(), Code::InvalidArgument) << text;
    EXPECT_THAT(status.message(), HasSubstr(text));
  }

  TinyModel model{1, {}};
  std::vector<uint8_t> payload;
  const plan::Plan *plan;
  std::vector<Sequence> sequences;
};

TEST_F(BatchCheck, GoodBatches) {
  EXPECT_TRUE(checkBatch(*plan, prefill()).ok()) << checkBatch(*plan, prefill()).message();
  EXPECT_TRUE(checkBatch(*plan, decode()).ok()) << checkBatch(*plan, decode()).message();
  Batch none = prefill(); // the middle of a prompt samples nothing
  none.outputs.clear();
  none.sampling.clear();
  EXPECT_TRUE(checkBatch(*plan, none).ok());
  Batch lengths = prefill();
  lengths.lengths = {5, 30};
  EXPECT_TRUE(checkBatch(*plan, lengths).ok()) << checkBatch(*plan, lengths).message();
}

TEST_F(BatchCheck, BadOnes) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  expectRefused(prefill(), "no tokens", [](Batch &b) { b.tokens.clear(); });
  expectRefused(prefill(), "13 positions for 14 tokens", [](Batch &b) { b.positions.pop_back(); });
  expectRefused(prefill(), "tokens[3] is 41, expected 0 to 40", [](Batch &b) { b.tokens[3] = 41; });
  expectRefused(prefill(), "tokens[3] is -1", [](Batch &b) { b.tokens[3] = -1; });
  expectRefused(prefill(), "positions[4] is 30, expected 0 to 29", [](Batch &b) { b.positions[4] = 30; });
  expectRefused(prefill(), "positions[0] is -1", [](Batch &b) { b.positions[0] = -1; });
  expectRefused(prefill(), "not consecutive at token 3", [](Batch &b) { b.positions[3] = 7; });
  expectRefused(prefill(), "sequenceStarts", [](Batch &b) { b.sequenceStarts.clear(); });
  expectRefused(prefill(), "sequenceStarts", [](Batch &b) { b.sequenceStarts[0] = 1; });
  expectRefused(prefill(), "sequenceStarts", [](Batch &b) { b.sequenceStarts.back() = 13; });
  expectRefused(prefill(), "expected at least one", [](Batch &b) { b.sequenceStarts[1] = 0; });
  expectRefused(prefill(), "expected at least one", [](Batch &b) { b.sequenceStarts[1] = 200; });
  expectRefused(prefill(), "expected at least one", [](Batch &b) { b.sequenceStarts[1] = -5; });
  expectRefused(prefill(), "block table has 15 entries", [](Batch &b) { b.blockTable.pop_back(); });
  expectRefused(prefill(), "needs block 1 of its table, which is -1", [](Batch &b) { b.blockTable[1] = -1; });
  expectRefused(prefill(), "needs block 2 of its table, which is 24", [](Batch &b) { b.blockTable[8 + 2] = 24; });
  expectRefused(prefill(), "1 lengths for 2 sequences", [](Batch &b) { b.lengths = {30}; });
  expectRefused(prefill(), "lengths[0] is 4, expected 5 to 30", [](Batch &b) { b.lengths = {4, 30}; });
  expectRefused(prefill(), "lengths[1] is 31, expected 9 to 30", [](Batch &b) { b.lengths = {5, 31}; });
  expectRefused(prefill(), "1 sampling parameters for 2 outputs", [](Batch &b) { b.sampling.pop_back(); });
  expectRefused(prefill(), "outputs[1] is 14", [](Batch &b) { b.outputs[1] = 14; });
  expectRefused(prefill(), "outputs[0] is -1", [](Batch &b) { b.outputs[0] = -1; });
  expectRefused(prefill(), "outputs must increase", [](Batch &b) { b.outputs[1] = b.outputs[0]; });
  expectRefused(prefill(), "temperature", [&](Batch &b) { b.sampling[0].temperature = nan; });
  expectRefused(prefill(), "temperature", [](Batch &b) { b.sampling[0].temperature = -1; });
  expectRefused(prefill(), "top_p", [](Batch &b) { b.sampling[1].topP = 0; });
  expectRefused(prefill(), "top_p", [&](Batch &b) { b.sampling[1].topP = nan; });
  expectRefused(prefill(), "top_k", [](Batch &b) { b.sampling[1].topK = -1; });
  expectRefused(prefill(), "a decode step has one token", [](Batch &b) { b.decode = true; });
  expectRefused(decode(), "needs block 2 of its table, which is -1", [](Batch &b) { b.blockTable[2] = -1; });
  expectRefused(decode(), "a decode step has one token", [](Batch &b) {
    b.outputs.pop_back();
    b.sampling.pop_back();
  });
}

TEST_F(BatchCheck, TheSmallestProgramThatFits) {
  Batch two = decode(), one = decode();
  one.tokens.pop_back();
  one.sequenceStarts.pop_back();
  one.outputs.pop_back();
  auto choose = [&](const Batch &batch) { return chooseProgram(*plan, std::span(&batch, 1)); };
  EXPECT_EQ(*choose(prefill()), 0u);
  EXPECT_EQ(*choose(two), 1u);
  EXPECT_EQ(*choose(one), 2u);
  Batch tooLong = prefill();
  tooLong.tokens.resize(17);
  auto program = choose(tooLong);
  ASSERT_FALSE(program.ok());
  EXPECT_EQ(program.status().code(), Code::InvalidArgument);
  EXPECT_THAT(program.status().message(),
              HasSubstr("17 tokens, 2 sequences, 2 outputs fit no prefill program of the plan "
                        "(at most 16 tokens, 3 sequences, 3 outputs)"));
}

TEST_F(BatchCheck, MicroBatchesOfAStep) {
  auto failure = [&](std::vector<Batch> batches) { return checkStep(*plan, batches).status().message(); };
  EXPECT_THAT(failure({prefill(), prefill()}),
              HasSubstr("2 micro-batches of up to 14 tokens, 2 sequences, 2 outputs fit no prefill program"));
  EXPECT_THAT(failure({prefill(), decode()}), HasSubstr("all decode or all prefill"));
  EXPECT_THAT(failure({}), HasSubstr("at least one"));
}

} // namespace
} // namespace distc::test
