// Ranks without a runner: a process may hold some of them only.
#include "runtime/exec/Rank.h"
#include "Sequences.h"
#include "runtime/comm/InProcess.h"

#include <gmock/gmock.h>

namespace distc::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class Ranks : public ::testing::Test {
protected:
  // Rank 0 of two; its peer exists, and does nothing.
  void start(const RankOptions &options, double timeoutSeconds) {
    for (uint32_t r = 0; r < 2; ++r)
      payloads[r] = packPayload(*model.plans()[r]);
    std::vector<std::vector<CommGroup>> groups(2, {{"tp0", {0, 1}}, {"pp0", {0}}});
    communicators = connectInProcess(groups, {.timeoutSeconds = timeoutSeconds});
    Communicators mine;
    mine.push_back(std::move(communicators[0]));
    rank = std::make_unique<Rank>(*flatbuffers::GetRoot<plan::Plan>(payloads[0].data()), std::move(mine), options);
    LoadOptions load;
    load.randomSeed = 1;
    rank->startLoad(files, load);
    const Status status = *rank->wait();
    ASSERT_TRUE(status.ok()) << status.message();
    std::mt19937 random(1);
    sequences = randomSequences(random, 1, 10);
    batch = makeBatch({&sequences[0]}, {10}, false);
    input = {7, &batch, std::vector<int32_t>(10, 0)};
  }

  TinyModel model{freshSeed(), {.tp = 2}};
  std::vector<uint8_t> payloads[2];
  std::vector<std::unique_ptr<Communicator>> communicators;
  std::unique_ptr<Rank> rank;
  std::vector<Sequence> sequences;
  SourceFiles files; // none: the weights are random
  Batch batch;
  StepInput input;
  int32_t id = 0;
  StepOutput output{&id, nullptr, TinyModel::kVocabulary};
};

TEST_F(Ranks, APeerThatNeverComesIsNamedAfterTheTimeLimit) {
  start({}, .1);
  rank->startStep(0, {{&input, &output}});
  const Status status = *rank->wait();
  EXPECT_EQ(status.code(), Code::DeadlineExceeded);
  EXPECT_EQ(status.message(),
            "rank 0: instruction 1 (embed.reduce): all_reduce #0 of group tp0: waited 0.1 s for rank 1");
}

TEST_F(Ranks, AFailedPeerEndsTheStep) {
  start({}, 60);
  rank->startStep(0, {{&input, &output}});
  EXPECT_FALSE(rank->wait(.05)) << "it waits for its peer";
  communicators[1]->abort(dataLoss("rank 1: the reason"));
  EXPECT_EQ(rank->wait()->message(), "rank 1: the reason");
}

TEST_F(Ranks, EndWhileAStepWaitsOnceAborted) {
  start({}, 60);
  rank->startStep(0, {{&input, &output}});
  rank->abort(cancelled("over"));
  rank.reset(); // joins
}

} // namespace
} // namespace distc::test
