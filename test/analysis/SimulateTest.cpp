#include "LittlePlans.h"

#include <nlohmann/json.hpp>

namespace distc::test {
namespace {

using Ranks = std::vector<std::unique_ptr<LittlePlan>>;

LittlePlan &add(Ranks &ranks, uint32_t tp, uint32_t pp, plan::Regime regime = plan::Regime::Prefill) {
  return *ranks.emplace_back(std::make_unique<LittlePlan>(tp, pp, static_cast<uint32_t>(ranks.size()), regime));
}

// Stages of one linear each, joined by sends.
Ranks pipeline(uint32_t pp, uint16_t microBatches, uint32_t tp = 1, plan::Regime regime = plan::Regime::Prefill) {
  Ranks ranks;
  for (uint32_t stage = 0; stage < pp; ++stage)
    for (uint32_t i = 0; i < tp; ++i) {
      LittlePlan &rank = add(ranks, tp, pp, regime);
      rank.program().micro_batches = microBatches;
      if (stage > 0)
        rank.builder.recv("recv", stage - 1, rank.value);
      rank.linear();
      if (stage + 1 < pp)
        rank.builder.send("send", stage + 1, rank.value);
    }
  return ranks;
}

TEST(Simulate, InstructionsOfOneRankFollowEachOther) {
  Ranks ranks;
  LittlePlan &rank = add(ranks, 1, 1);
  rank.linear();
  rank.linear();
  Machine machine = plainMachine();
  const double one = LittlePlan::linearBytes(8) * kNano;
  EXPECT_NEAR(timesOf(machine, Packed(ranks), 8).seconds, 2 * one, 1e-15);
  machine.instruction = 1e-3;
  EXPECT_NEAR(timesOf(machine, Packed(ranks), 8).seconds, 2 * one + 2e-3, 1e-12);
}

TEST(Simulate, EqualStagesHaveTheBubbleOfTheTextbook) {
  for (uint32_t pp : {1u, 2u, 4u, 7u})
    for (uint16_t m : {1, 2, 4, 8}) {
      const Ranks ranks = pipeline(pp, m);
      const StepTimes times = timesOf(plainMachine(), Packed(ranks), 64);
      const double one = LittlePlan::linearBytes(64 / m) * kNano;
      EXPECT_NEAR(times.seconds, (m + pp - 1) * one, 1e-6 * one) << pp << " stages, " << m << " micro-batches";
      for (const NodeTimes &node : times.nodes)
        EXPECT_NEAR(node.compute, m * one, 1e-6 * one);
      Phase phase{times.seconds, 64, 1, times.nodes};
      EXPECT_NEAR(phase.idle(), double(pp - 1) / (m + pp - 1), 1e-6);
    }
}

TEST(Simulate, AMessageTakesLatencyAndBandwidth) {
  const Ranks ranks = pipeline(3, 1);
  Machine machine = plainMachine();
  machine.links[0].latency = 5e-6;
  machine.links[0].bandwidth = 2e9;
  const double message = 8 * LittlePlan::kWidth * 4 / 2e9;
  const StepTimes times = timesOf(machine, Packed(ranks), 8);
  EXPECT_NEAR(times.seconds, 3 * LittlePlan::linearBytes(8) * kNano + 2 * (5e-6 + message), 1e-12);
  EXPECT_NEAR(times.nodes[0].exposed, 0, 1e-15); // a send is waited for by nobody here
  EXPECT_NEAR(times.nodes[1].exposed, 5e-6 + message, 1e-12);
}

// a, then an all-reduce of it beside b, then c, which needs both.
Ranks overlapping(bool wait) {
  Ranks ranks;
  for (int i = 0; i < 2; ++i) {
    LittlePlan &rank = add(ranks, 2, 1);
    rank.linear();
    rank.allReduce();
    auto &b = rank.linear(); // the builder lets it wait for the all-reduce
    if (!wait)
      b.waits.clear();
    rank.linear();
  }
  return ranks;
}

TEST(Simulate, CommunicationIsHiddenOrExposed) {
  Machine machine = plainMachine();
  const double one = LittlePlan::linearBytes(8) * kNano;
  machine.links[0].collective = one / 2;
  StepTimes times = timesOf(machine, Packed(overlapping(false)), 8);
  EXPECT_NEAR(times.seconds, 3 * one, 1e-12);
  EXPECT_NEAR(times.nodes[0].exposed, 0, 1e-12);
  times = timesOf(machine, Packed(overlapping(true)), 8);
  EXPECT_NEAR(times.seconds, 3.5 * one, 1e-12);
  EXPECT_NEAR(times.nodes[0].exposed, one / 2, 1e-12);
  machine.links[0].collective = 1.5 * one; // only a part of it hides
  times = timesOf(machine, Packed(overlapping(false)), 8);
  EXPECT_NEAR(times.seconds, 3.5 * one, 1e-12);
  EXPECT_NEAR(times.nodes[0].exposed, one / 2, 1e-12);
}

TEST(Simulate, MicroBatchesHideCommunicationOfEachOther) {
  Ranks ranks = overlapping(true);
  for (auto &rank : ranks)
    rank->program().micro_batches = 2;
  Machine machine = plainMachine();
  const double one = LittlePlan::linearBytes(4) * kNano;
  machine.links[0].collective = one / 2;
  // a0 a1 b0 c0 b1 c1: while one reduces the other computes.
  const StepTimes times = timesOf(machine, Packed(ranks), 8);
  EXPECT_NEAR(times.seconds, 6 * one, 1e-12);
  EXPECT_NEAR(times.nodes[0].exposed, 0, 1e-12);
}

// Micro-batch 1 could overtake while 0 waits, and may not run an instruction before 0 has.
TEST(Simulate, AMicroBatchDoesNotOvertake) {
  Ranks ranks = overlapping(true);
  for (auto &rank : ranks)
    rank->program().micro_batches = 2;
  Machine machine = plainMachine();
  const double one = LittlePlan::linearBytes(4) * kNano;
  machine.links[0].collective = 3 * one;
  std::vector<TraceEvent> trace;
  const Packed packed(ranks);
  timesOf(machine, packed, 8, &trace);
  std::map<std::pair<uint32_t, uint32_t>, double> ends; // of micro-batch and instruction
  for (const TraceEvent &event : trace)
    ends[{event.microBatch, event.instruction}] = event.end;
  for (uint32_t i : {0u, 2u, 3u})
    EXPECT_LT((ends[{0, i}]), (ends[{1, i}])) << i;
  EXPECT_NEAR((ends[{0, 1}]), 4 * one, 1e-12);
  EXPECT_NEAR((ends[{1, 1}]), 5 * one, 1e-12); // both all-reduces are under way at once
}

TEST(Simulate, ACollectiveWaitsForTheLastMember) {
  Ranks ranks;
  for (int i = 0; i < 2; ++i) {
    LittlePlan &rank = add(ranks, 2, 1);
    if (i == 1)
      rank.linear();
    rank.linear();
    rank.allReduce();
  }
  Machine machine = plainMachine();
  machine.links[0].collective = 1e-6;
  const StepTimes times = timesOf(machine, Packed(ranks), 8);
  const double one = LittlePlan::linearBytes(8) * kNano;
  ASSERT_EQ(times.nodes.size(), 2u); // the ranks differ
  EXPECT_NEAR(times.seconds, 2 * one + 1e-6, 1e-12);
  EXPECT_NEAR(times.nodes[0].exposed, 1e-6, 1e-12); // waiting for a rank is no communication
}

TEST(Simulate, RanksOfAGroupAreOneWhereThatIsExact) {
  const Packed packed(pipeline(2, 4, 4));
  Machine machine = plainMachine();
  Result<StepSimulator> simulator = StepSimulator::create(machine, packed.plans);
  ASSERT_TRUE(simulator.ok());
  ASSERT_EQ(simulator->nodes().size(), 2u);
  EXPECT_EQ(simulator->nodes()[1].ranks, (std::vector<uint32_t>{4, 5, 6, 7}));
  // Of hosts with 6 devices rank 1 sends within one and rank 2 to the next.
  machine.links = {{.name = "near", .devices = 6, .bandwidth = 1e30},
                   {.name = "far", .devices = 12, .latency = 1e-3, .bandwidth = 1e30}};
  const Result<StepSimulator> apart = StepSimulator::create(machine, packed.plans);
  ASSERT_TRUE(apart.ok());
  EXPECT_EQ(apart->nodes().size(), 8u);
  const StepTimes times = timesOf(machine, packed, 64);
  EXPECT_NEAR(times.nodes[5].exposed, 0, 1e-9);
  EXPECT_GT(times.nodes[6].exposed, 9e-4);
}

// As the CUDA backend does: nothing hides behind another micro-batch.
TEST(Simulate, ARankOfASerialMachineHasOneMicroBatchAtATime) {
  Ranks ranks = overlapping(true);
  for (auto &rank : ranks)
    rank->program().micro_batches = 2;
  Machine machine = plainMachine();
  machine.serial = true;
  const double one = LittlePlan::linearBytes(4) * kNano;
  machine.links[0].collective = one / 2;
  std::vector<TraceEvent> trace;
  const Packed packed(ranks);
  const StepTimes times = timesOf(machine, packed, 8, &trace);
  EXPECT_NEAR(times.seconds, 7 * one, 1e-12); // three linears and a reduction, twice
  EXPECT_NEAR(times.nodes[0].exposed, one, 1e-12);
  double until = 0;
  for (const TraceEvent &event : trace)
    if (event.node == 0) {
      EXPECT_GE(event.begin, until - 1e-12);
      until = event.end;
    }
  // Stages work on several all the same; what comes back to the first is received behind all of them.
  for (uint16_t m : {1, 4}) {
    machine = plainMachine();
    machine.serial = true;
    const double linear = LittlePlan::linearBytes(64 / m) * kNano;
    Ranks stages = pipeline(2, m);
    stages[1]->builder.send("send", 0, stages[1]->value);
    stages[0]->builder.recv("recv", 1, stages[0]->value);
    EXPECT_NEAR(timesOf(machine, Packed(stages), 64).seconds, (m + 1) * linear, 1e-6 * linear);
  }
}

// Four micro-batches of chunks: the rows of each instruction are those of its buffers.
TEST(Simulate, ChunksHaveTheirOwnRows) {
  Ranks ranks;
  LittlePlan &rank = add(ranks, 1, 1);
  const uint32_t whole = rank.value;
  for (uint16_t chunk : {0, 1}) {
    rank.value =
        rank.builder.buffer(LittlePlan::kWidth, {.chunk = chunk, .chunks = 2, .parent = static_cast<int32_t>(whole)});
    rank.linear({.chunk = chunk, .chunks = 2});
  }
  // 9 tokens are chunks of 5 and 4.
  EXPECT_NEAR(timesOf(plainMachine(), Packed(ranks), 9).seconds,
              (LittlePlan::linearBytes(5) + LittlePlan::linearBytes(4)) * kNano, 1e-12);
}

TEST(Simulate, ARunIsPrefillAndThenSteps) {
  Ranks ranks = pipeline(2, 1);
  for (auto &rank : ranks) { // the same program for decode
    auto decode = std::make_unique<plan::ProgramT>(rank->program());
    decode->regime = plan::Regime::Decode;
    rank->builder.plan.programs.push_back(std::move(decode));
  }
  Machine machine = plainMachine();
  machine.step = 1e-3;
  const Packed packed(ranks);
  const Result<Simulation> s = simulate(machine, packed.plans, "set", {2, 40, 11, true});
  ASSERT_TRUE(s.ok()) << s.status().message();
  // 64 tokens, then the answer of the first and the 16 tokens that are left of the second.
  const double prefill = 2 * (LittlePlan::linearBytes(64) + LittlePlan::linearBytes(17)) * kNano + 2e-3;
  EXPECT_EQ(s->prefill.steps, 2);
  EXPECT_EQ(s->prefill.tokens, 81);
  EXPECT_NEAR(s->prefill.seconds, prefill, 1e-9);
  EXPECT_NEAR(s->lastFirstToken, prefill, 1e-9);
  EXPECT_LT(s->firstToken, prefill);
  EXPECT_EQ(s->decode.steps, 10); // nine of both, one of the second alone
  EXPECT_EQ(s->decode.tokens, 19);
  EXPECT_NEAR(s->decode.seconds, 2 * (9 * LittlePlan::linearBytes(2) + LittlePlan::linearBytes(1)) * kNano + 10e-3,
              1e-9);
  const auto json = nlohmann::json::parse(traceJson(*s));
  size_t events = 0;
  for (const auto &event : json["traceEvents"])
    if (event["ph"] == "X") {
      ++events;
      EXPECT_EQ(event["args"].count("id") + event["args"].count("label") + event["args"].count("bytes"), 3u);
    }
  EXPECT_EQ(events, 3u * 4); // two ranks, a linear and a message each, in three steps
}

// What the ranks of a CPU read in a decode step, weights and KV cache, decides whether a cache of the host keeps it.
TEST(Simulate, TheContextCountsTowardsWhatACacheOfTheHostKeeps) {
  constexpr uint64_t kToken = 2 * 2 * 16 * 4, kWeights = 4 * LittlePlan::kWidth * LittlePlan::kWidth;
  for (uint32_t tp : {1u, 2u}) {
    Ranks ranks;
    for (uint32_t i = 0; i < tp; ++i) {
      LittlePlan &rank = add(ranks, tp, 1, plan::Regime::Decode);
      rank.linear();
      rank.builder.plan.kv->block_tokens = 16;
      rank.builder.cache(0, 2, 16);
      auto &op = rank.builder.add<plan::AttentionT>("attention");
      op.heads = 4;
      op.q = op.out = rank.value;
    }
    const Packed packed(ranks);
    Machine machine = plainMachine();
    machine.attentionShare = 1e-30; // as if the cache took all the time
    machine.cores = tp;
    const double kept = double(tp * (kWeights + 100 * kToken));
    machine.memory = machine.coreMemory = RateCurve({{kept, double(tp) * 1e9}, {1.0001 * kept, double(tp) * .5e9}});
    const auto perToken = [&](bool cpu, uint64_t context) {
      machine.cpu = cpu;
      const Result<StepSimulator> simulator = StepSimulator::create(machine, packed.plans);
      const Result<StepTimes> times = simulator->run(plan::Regime::Decode, {{1, 1, context - 1, 1}});
      EXPECT_TRUE(times.ok()) << times.status().message();
      return times->seconds / double(context);
    };
    EXPECT_NEAR(perToken(true, 101) / perToken(true, 100), 2, 1e-3) << tp;
    EXPECT_NEAR(perToken(false, 101) / perToken(false, 100), 1, 1e-3); // a device of its own has one bandwidth
  }
}

TEST(Simulate, SaysWhatIsTooMuch) {
  const Packed packed(pipeline(1, 1));
  Machine machine = plainMachine();
  EXPECT_THAT(simulate(machine, packed.plans, "set", {65, 1, 1}).status().message(),
              testing::HasSubstr("--batch is 65 and the plan holds at most 64; compile with a larger --max-batch"));
  EXPECT_THAT(simulate(machine, packed.plans, "set", {1, 1 << 20, 1}).status().message(),
              testing::HasSubstr("compile with a larger --max-seq"));
  EXPECT_THAT(simulate(machine, packed.plans, "set", {1, 2, 2}).status().message(),
              testing::HasSubstr("set: the plans have no Decode program for 1 tokens"));
  machine.cpu = true;
  EXPECT_THAT(simulate(machine, packed.plans, "set", {1, 1, 1}).status().message(),
              testing::HasSubstr("set: the plans are for target sm_90, and plain runs those for cpu"));
}

} // namespace
} // namespace distc::test
