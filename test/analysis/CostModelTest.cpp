#include "LittlePlans.h"

namespace distc::test {
namespace {

TEST(RateCurve, GoesThroughItsPointsAndIsStraightInLogarithms) {
  const RateCurve curve({{1, 10}, {4, 40}, {64, 10}});
  EXPECT_DOUBLE_EQ(curve.at(1), 10);
  EXPECT_DOUBLE_EQ(curve.at(4), 40);
  EXPECT_DOUBLE_EQ(curve.at(64), 10);
  EXPECT_NEAR(curve.at(2), 20, 1e-12);
  EXPECT_NEAR(curve.at(16), 20, 1e-12);
  EXPECT_DOUBLE_EQ(curve.at(1000), 10);
  EXPECT_DOUBLE_EQ(RateCurve({{8, 3}}).at(1), 3);
}

double linearSeconds(const Machine &machine, uint64_t tokens, uint64_t ranks = 1, uint64_t active = 1,
                     double footprint = 1) {
  std::vector<std::unique_ptr<LittlePlan>> one;
  one.push_back(std::make_unique<LittlePlan>(1, 1, 0));
  one[0]->linear();
  const Packed packed(one);
  const plan::Program &program = *packed.plans[0]->programs()->Get(0);
  const plan::Instruction &linear = *program.instructions()->Get(0);
  const Work work = workOf(*packed.plans[0], program, linear, {{1, tokens, 0, 1}});
  EXPECT_EQ(work.weightBytes, 4.0 * LittlePlan::kWidth * LittlePlan::kWidth);
  EXPECT_EQ(work.bytes(), LittlePlan::linearBytes(tokens));
  EXPECT_EQ(work.flops, 2.0 * double(tokens) * LittlePlan::kWidth * LittlePlan::kWidth);
  EXPECT_EQ(work.rows, tokens);
  return CostModel(machine, ranks, active, footprint).compute(*packed.plans[0], linear, work);
}

TEST(CostModel, AProductIsBoundByBytesOrByArithmetic) {
  Machine machine = plainMachine();
  machine.matrix[plan::DType::F32] = RateCurve({{1, 4e9}, {64, 8e9}});
  EXPECT_NEAR(linearSeconds(machine, 1), LittlePlan::linearBytes(1) * kNano, 1e-15);
  EXPECT_NEAR(linearSeconds(machine, 64), 2.0 * 64 * 64 * 64 / 8e9, 1e-15);
}

TEST(CostModel, WhatDoesNotFitACacheIsSlower) {
  Machine machine = plainMachine();
  machine.memory = RateCurve({{1e6, 1e9}, {1e9, .5e9}});
  const double bytes = LittlePlan::linearBytes(1) * kNano;
  EXPECT_NEAR(linearSeconds(machine, 1, 1, 1, 1e5), bytes, 1e-15);
  EXPECT_NEAR(linearSeconds(machine, 1, 1, 1, 1e9), 2 * bytes, 1e-15);
}

TEST(CostModel, RanksOnACpuShareCoresAndMemory) {
  Machine machine = plainMachine();
  machine.cpu = true;
  machine.cores = 4;
  machine.memory = RateCurve({{1, 3e9}}); // of all four; a core alone gets 1e9
  const double bytes = LittlePlan::linearBytes(1) * kNano;
  machine.fork = 1e-3;
  EXPECT_NEAR(linearSeconds(machine, 1, 1, 1), bytes / 3 + 1e-3, 1e-12);
  EXPECT_NEAR(linearSeconds(machine, 1, 2, 1), bytes / 2 + 1e-3, 1e-12);   // two threads, alone at the moment
  EXPECT_NEAR(linearSeconds(machine, 1, 2, 2), bytes / 1.5 + 1e-3, 1e-12); // both ranks read
  EXPECT_NEAR(linearSeconds(machine, 1, 4, 4), bytes / .75, 1e-12);        // a thread each: nothing to fork
  EXPECT_NEAR(linearSeconds(machine, 1, 8, 8), bytes / .375, 1e-12);       // more ranks than cores
  machine.matrix[plan::DType::F32] = RateCurve({{1, 1e6}});
  const double flops = 2.0 * 64 * 64 / 1e6;
  EXPECT_NEAR(linearSeconds(machine, 1, 1, 1), flops / 4 + 1e-3, 1e-9);
  EXPECT_NEAR(linearSeconds(machine, 1, 8, 8), flops * 2, 1e-9);
}

// Of four experts a token goes to two: the weights of those that some token is expected to go to are read.
TEST(CostModel, AProductOfExpertsReadsThoseThatTokensGoTo) {
  LittlePlan rank(1, 1, 0);
  PlanBuilder &builder = rank.builder;
  const uint32_t weight =
      builder.weight(0, plan::DType::F32, {{{0, 4}}, {{0, 16}}, {{0, 64}}}, plan::Placement::Load, {4, 16, 64});
  auto &op = builder.add<plan::ExpertLinearT>("experts");
  op.input = rank.value;
  op.routes = builder.buffer(2 * 2);
  op.weight = weight;
  op.out = builder.buffer(2 * 16);
  const std::vector<uint8_t> bytes = packPayload(builder.finish());
  const plan::Plan &plan = *flatbuffers::GetRoot<plan::Plan>(bytes.data());
  const plan::Program &program = *plan.programs()->Get(0);
  Machine machine = plainMachine();
  for (auto [tokens, experts] : {std::pair{1.0, 2.0}, {2.0, 3.0}, {3.0, 3.5}, {64.0, 4.0}}) {
    const Work work = workOf(plan, program, *program.instructions()->Get(0), {{1, uint64_t(tokens), 0, 1}});
    EXPECT_NEAR(work.weightBytes, experts * 16 * 64 * 4, 1e-6) << tokens;
    EXPECT_EQ(work.flops, 2 * tokens * 2 * 16 * 64);
    EXPECT_EQ(work.rows, uint64_t(std::ceil(2 * tokens / experts)));
    EXPECT_EQ(work.activationBytes, tokens * 4 * (64 + 4 + 32));
    EXPECT_NEAR(CostModel(machine, 1, 1, 1).compute(plan, *program.instructions()->Get(0), work),
                (work.weightBytes + work.activationBytes) * kNano, 1e-15);
  }
}

TEST(CostModel, AttentionReadsTheContext) {
  std::vector<std::unique_ptr<LittlePlan>> one;
  one.push_back(std::make_unique<LittlePlan>(1, 1, 0));
  LittlePlan &rank = *one[0];
  rank.builder.plan.kv->block_tokens = 16;
  rank.builder.cache(0, 2, 8); // two heads of 8, f32: 128 bytes a token
  auto &op = rank.builder.add<plan::AttentionT>("attention");
  op.q = rank.value;
  op.out = rank.builder.buffer(64);
  op.heads = 8;
  rank.program().instructions.push_back(std::make_unique<plan::InstructionT>(rank.last()));
  rank.last().op.AsAttention()->window = 4;
  const Packed packed(one);
  const plan::Program &program = *packed.plans[0]->programs()->Get(0);
  const auto work = [&](uint32_t i, const Runs &runs) {
    return workOf(*packed.plans[0], program, *program.instructions()->Get(i), runs);
  };
  // Two sequences with 10 tokens in the cache bring 3 each: these see 11, 12 and 13.
  EXPECT_EQ(work(0, {{2, 3, 10, 1}}).cacheBytes, 2 * 13 * 128);
  EXPECT_EQ(work(0, {{2, 3, 10, 1}}).flops, 4.0 * 8 * 8 * 2 * (11 + 12 + 13));
  EXPECT_EQ(work(1, {{2, 3, 10, 1}}).flops, 4.0 * 8 * 8 * 2 * (4 + 4 + 4));
  EXPECT_EQ(work(1, {{2, 3, 10, 1}}).cacheBytes, 2 * 6 * 128);
  EXPECT_EQ(work(1, {{1, 6, 0, 1}}).flops, 4.0 * 8 * 8 * (1 + 2 + 3 + 4 + 4 + 4));
  EXPECT_EQ(work(1, {{1, 6, 0, 1}}).cacheBytes, 6 * 128);
}

TEST(CostModel, CollectivesByTheirAlgorithms) {
  const LinkTier tier{.name = "x", .devices = 8, .latency = 9, .collective = 1, .bandwidth = 100, .shortBytes = 50};
  using plan::Op;
  EXPECT_DOUBLE_EQ(CostModel::collective(tier, Op::AllReduce, 4, 40), 1 + 3 * .4);       // to everyone at once
  EXPECT_DOUBLE_EQ(CostModel::collective(tier, Op::AllReduce, 4, 400), 1 + 2 * .75 * 4); // in parts, there and back
  EXPECT_DOUBLE_EQ(CostModel::collective(tier, Op::AllGather, 4, 400), 1 + .75 * 4);
  EXPECT_DOUBLE_EQ(CostModel::collective(tier, Op::ReduceScatter, 4, 400), 1 + .75 * 4);
  EXPECT_DOUBLE_EQ(CostModel::collective(tier, Op::AllReduce, 1, 400), 0);
}

TEST(CostModel, TheSmallestTierThatJoinsAll) {
  Machine machine = plainMachine();
  machine.links = {{.name = "host", .devices = 8}, {.name = "network", .devices = 64}};
  const auto tier = [&](std::vector<uint32_t> ranks) {
    const auto found = CostModel::tier(machine, ranks);
    return found.ok() ? (*found)->name : found.status().message();
  };
  EXPECT_EQ(tier({0, 7}), "host");
  EXPECT_EQ(tier({8, 15}), "host");
  EXPECT_EQ(tier({7, 8}), "network");
  EXPECT_THAT(tier({63, 64}), testing::HasSubstr("the links of machine plain join at most 64 devices"));
}

} // namespace
} // namespace distc::test
