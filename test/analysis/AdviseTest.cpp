#include "compiler/Analysis/Advise.h"

#include "LittlePlans.h"

namespace distc::test {
namespace {

// A model of four layers, of which a rank holds a share: `bytes` of weights in all.
CompilePlans compiler(uint64_t bytes, uint64_t linears = 12) {
  return [=](uint64_t tp, uint64_t pp, uint64_t, bool firstOnly) -> Result<std::vector<std::vector<uint8_t>>> {
    std::vector<std::vector<uint8_t>> files;
    for (uint32_t rank = 0; rank < tp * pp; rank += firstOnly ? static_cast<uint32_t>(tp) : 1) {
      LittlePlan plan(static_cast<uint32_t>(tp), static_cast<uint32_t>(pp), rank, plan::Regime::Decode);
      const uint32_t stage = rank / static_cast<uint32_t>(tp);
      if (stage > 0)
        plan.builder.recv("recv", stage - 1, plan.value);
      for (uint64_t i = 0; i < (linears + pp * tp - 1) / (pp * tp); ++i)
        plan.linear();
      if (tp > 1)
        plan.allReduce();
      if (stage + 1 < pp)
        plan.builder.send("send", stage + 1, plan.value);
      auto prefill = std::make_unique<plan::ProgramT>(plan.program());
      prefill->regime = plan::Regime::Prefill;
      plan.builder.plan.programs.push_back(std::move(prefill));
      plan::PlanT &whole = plan.builder.finish();
      *whole.ledger = {};
      whole.ledger->weights_loaded = bytes / (tp * pp);
      files.push_back(framePayload(packPayload(whole), 1));
    }
    return files;
  };
}

TEST(Advise, TheFastestThatFits) {
  Machine machine = plainMachine();
  machine.memoryBytes = 1000;
  const Result<Advice> advice = advise(machine, 4, 4, {.gpus = 4, .context = 16}, compiler(2000));
  ASSERT_TRUE(advice.ok()) << advice.status().message();
  const std::vector<Candidate> &all = advice->candidates;
  ASSERT_EQ(all.size(), 8u);
  EXPECT_FALSE(advice->oneFits);
  EXPECT_EQ(all[0].tp, 4u); // a twelfth of the bytes is a third of a stage's
  EXPECT_EQ(all[0].pp, 1u);
  EXPECT_EQ(all.back().tp * all.back().pp, 1u);
  EXPECT_THAT(all.back().remark, testing::HasSubstr("does not fit: needs 1.95 KiB a device, 1.12 KiB too much"));
  for (const Candidate &c : all)
    EXPECT_EQ(c.fits, c.tp * c.pp > 2) << c.tp << " x " << c.pp; // two have 1000 each, and 850 are given
}

TEST(Advise, SlowMessagesMakeFewerRanksFaster) {
  Machine machine = plainMachine();
  machine.links[0].collective = 1;
  Result<Advice> advice = advise(machine, 4, 4, {.gpus = 4, .context = 16}, compiler(2000));
  ASSERT_TRUE(advice.ok()) << advice.status().message();
  EXPECT_TRUE(advice->oneFits);
  EXPECT_EQ(advice->candidates[0].devices(), 1u); // stages are as fast, with more devices
  bool found = false;
  for (const Candidate &c : advice->candidates)
    if (c.tp == 4) {
      found = true;
      EXPECT_THAT(c.remark, testing::HasSubstr("slower: communication takes 100 % of a step"));
    }
  EXPECT_TRUE(found);
  // Of four sequences each device may have one.
  advice = advise(machine, 4, 4, {.gpus = 4, .throughput = true, .context = 16, .batch = 4}, compiler(2000));
  ASSERT_TRUE(advice.ok());
  EXPECT_EQ(advice->candidates[0].replicas, 4u);
  EXPECT_EQ(advice->candidates[0].batch, 1u);
}

TEST(Advise, NothingFits) {
  Machine machine = plainMachine();
  machine.memoryBytes = 100;
  EXPECT_THAT(advise(machine, 4, 4, {.gpus = 2, .context = 16}, compiler(2000)).status().message(),
              testing::AllOf(testing::HasSubstr("no mesh of up to 2 devices fits plain"),
                             testing::HasSubstr("915 B too much (15 % of the memory are kept)")));
}

// Of many meshes only those that may be the best are compiled, and the best is that of all.
TEST(Advise, MeshesThatCannotBeTheBestAreSkipped) {
  for (uint64_t bytes : {2000u, 20'000u}) // fits one device; fits four
    for (double collective : {0.0, 1e-6}) {
      Machine machine = plainMachine();
      machine.memoryBytes = 6000;
      machine.links[0].collective = collective;
      uint64_t compiled = 0;
      const CompilePlans compile = compiler(bytes, 96);
      const CompilePlans counted = [&](uint64_t tp, uint64_t pp, uint64_t batch, bool firstOnly) {
        ++compiled;
        return compile(tp, pp, batch, firstOnly);
      };
      AdviseOptions options{.gpus = 32, .context = 16};
      const Result<Advice> advice = advise(machine, 16, 4, options, counted);
      ASSERT_TRUE(advice.ok()) << advice.status().message();
      EXPECT_EQ(advice->candidates.size(), compiled);
      EXPECT_GT(advice->skipped, 20u);
      EXPECT_GT(compiled + advice->skipped, kFewMeshes);
      EXPECT_EQ(advice->oneFits, bytes == 2000);
      double best = INFINITY;
      for (options.tp = 1; options.tp <= 16; ++options.tp)
        for (options.pp = 1; options.pp <= 4 && options.tp * options.pp <= 32; ++options.pp)
          if (const Result<Advice> one = advise(machine, 16, 4, options, compile); one.ok())
            best = std::min(best, one->candidates[0].seconds);
      EXPECT_LT(advice->candidates[0].seconds, 1.02 * best);
    }
}

// Ranks of a stage are compiled one by one only where a link or a mapped weight may tell them apart; figures are those
// of all ranks.
TEST(Advise, AStagesFirstRankStandsForTheOthers) {
  Machine machine = plainMachine();
  machine.links = {{.name = "near", .devices = 4, .collective = 1e-6, .bandwidth = 1e30},
                   {.name = "far", .devices = 1024, .latency = 1e-4, .collective = 1e-5, .bandwidth = 1e30}};
  const CompilePlans compile = compiler(2000);
  for (bool cpu : {false, true}) {
    machine.cpu = cpu;
    std::set<std::pair<uint64_t, uint64_t>> whole;
    const auto noted = [&](uint64_t tp, uint64_t pp, uint64_t batch, bool firstOnly) {
      if (!firstOnly && !cpu)
        whole.emplace(tp, pp);
      EXPECT_FALSE(cpu && firstOnly);
      return compile(tp, pp, batch, firstOnly);
    };
    const Result<Advice> advice = advise(machine, 4, 3, {.gpus = 12, .context = 16, .replicas = false}, noted);
    if (cpu) // the little plans are for a GPU: that is the end of it
      continue;
    ASSERT_TRUE(advice.ok()) << advice.status().message();
    // Of 3 x 2 rank 0 reaches rank 3 by the near link, rank 1 reaches rank 4 by the far one; of one rank a stage is
    // all.
    EXPECT_EQ(whole, (std::set<std::pair<uint64_t, uint64_t>>{{3, 2}, {3, 3}}));
    for (const Candidate &c : advice->candidates) {
      const auto files = compile(c.tp, c.pp, 1, false).take();
      std::vector<const plan::Plan *> plans;
      for (const auto &file : files)
        plans.push_back(flatbuffers::GetRoot<plan::Plan>(plan::GetPlanFile(file.data())->payload()->data()));
      const Result<StepTimes> times = StepSimulator::create(machine, plans)->run(plan::Regime::Decode, {{1, 1, 15, 1}});
      ASSERT_TRUE(times.ok()) << times.status().message();
      EXPECT_DOUBLE_EQ(c.seconds, times->seconds) << c.tp << " x " << c.pp;
      EXPECT_EQ(c.need, 2000 / (c.tp * c.pp));
    }
  }
}

} // namespace
} // namespace distc::test
