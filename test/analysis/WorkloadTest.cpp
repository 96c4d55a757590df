#include "compiler/Analysis/Workload.h"

#include <gmock/gmock.h>

namespace distc {

inline void PrintTo(const SequenceRun &run, std::ostream *out) {
  *out << run.sequences << " x " << run.tokens << " from " << run.position << ", outputs " << run.outputs;
}

namespace {

using testing::ElementsAre;

TEST(Workload, SlicesCutSequences) {
  const Runs runs = {{3, 4, 10, 1}, {1, 5, 0, 0}}; // 12 tokens, then 5
  EXPECT_EQ(tokensOf(runs), 17u);
  EXPECT_EQ(outputsOf(runs), 3u);
  EXPECT_EQ(slice(runs, 0, 17), runs);
  EXPECT_THAT(slice(runs, 2, 12),
              ElementsAre(SequenceRun{1, 2, 12, 1}, SequenceRun{2, 4, 10, 1}, SequenceRun{1, 2, 0, 0}));
  EXPECT_THAT(slice(runs, 5, 2), ElementsAre(SequenceRun{1, 2, 11, 0}));
  EXPECT_TRUE(slice(runs, 5, 0).empty());
}

TEST(Workload, MicroBatchesAreEvenAndNoneIsEmpty) {
  const std::vector<Runs> parts = microBatches({{2, 5, 0, 1}}, 4);
  ASSERT_EQ(parts.size(), 4u);
  uint64_t tokens = 0, outputs = 0;
  for (const Runs &part : parts) {
    EXPECT_THAT(tokensOf(part), testing::AnyOf(1u, 3u));
    tokens += tokensOf(part);
    outputs += outputsOf(part);
  }
  EXPECT_EQ(tokens, 10u);
  EXPECT_EQ(outputs, 2u);
  EXPECT_EQ(microBatches({{3, 1, 7, 1}}, 64).size(), 3u);
}

// What runtime/engine/Engine.cpp does with the same prompts: answers go first, prompts share what is left.
TEST(Workload, SchedulesAsTheEngineDoes) {
  Schedule schedule(2, 6, 3, {8, 8, 8});
  EXPECT_FALSE(schedule.decodes());
  EXPECT_THAT(schedule.next(), ElementsAre(SequenceRun{1, 6, 0, 1}, SequenceRun{1, 2, 0, 0}));
  EXPECT_EQ(schedule.advance(), 1u);
  EXPECT_FALSE(schedule.decodes());
  EXPECT_THAT(schedule.next(), ElementsAre(SequenceRun{1, 1, 6, 1}, SequenceRun{1, 4, 2, 1}));
  EXPECT_EQ(schedule.advance(), 1u);
  EXPECT_TRUE(schedule.decodes());
  EXPECT_EQ(schedule.decodeSteps(), 1u); // then the first has its three
  EXPECT_THAT(schedule.next(), ElementsAre(SequenceRun{1, 1, 7, 1}, SequenceRun{1, 1, 6, 1}));
  EXPECT_EQ(schedule.advance(), 0u);
  EXPECT_THAT(schedule.next(), ElementsAre(SequenceRun{1, 1, 7, 1}));
  EXPECT_EQ(schedule.advance(), 0u);
  EXPECT_TRUE(schedule.done());
}

TEST(Workload, ASequenceWithoutAnOutputWaits) {
  Schedule schedule(2, 2, 1, {8, 8, 1});
  EXPECT_THAT(schedule.next(), ElementsAre(SequenceRun{1, 2, 0, 1}, SequenceRun{1, 1, 0, 0}));
}

} // namespace
} // namespace distc
