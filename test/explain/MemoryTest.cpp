#include "compiler/Explain/Memory.h"

#include <gtest/gtest.h>

namespace distc::explain {
namespace {

TEST(Memory, SizesWithUnits) {
  const auto bytes = [](const char *text) {
    const Result<uint64_t> result = parseMemory(text, "--memory");
    return result.ok() ? *result : 0;
  };
  EXPECT_EQ(bytes("1"), 1u);
  EXPECT_EQ(bytes("80GiB"), uint64_t(80) << 30);
  EXPECT_EQ(bytes("80 GB"), 80'000'000'000u);
  EXPECT_EQ(bytes("1.5KiB"), 1536u);
  for (const char *text :
       {"", "GiB", "-1GiB", "1e9", "80GX", "0", "1.2.3GB", "99999999TiB", "inf", "nan", "0x10", " 8GB"})
    EXPECT_EQ(bytes(text), 0u) << text;
}

// Two ranks of a device each, or of one host: 64 tokens of 4 bytes (rank 0) and 8 bytes (rank 1) of KV cache.
PlanSet littleSet(const char *target, std::vector<std::vector<uint8_t>> &bytes) {
  PlanSet set;
  for (uint32_t rank : {0u, 1u}) {
    plan::PlanT plan;
    plan.target = target;
    plan.producer = "test";
    plan.model = std::make_unique<plan::ModelInfoT>();
    plan.mesh = std::make_unique<plan::MeshT>();
    plan.mesh->tp = 1;
    plan.mesh->pp = 2;
    plan.mesh->rank = plan.mesh->stage = rank;
    plan.mesh->layers = rank + 1;
    plan.limits = std::make_unique<plan::LimitsT>();
    plan.limits->max_sequence = 32;
    plan.ledger = std::make_unique<plan::LedgerT>();
    plan.ledger->weights_loaded = 1000;
    plan.ledger->arena = 24;
    plan.ledger->kv = 64 * 4 * (rank + 1);
    plan.kv = std::make_unique<plan::KvPoolT>();
    plan.kv->block_tokens = 16;
    plan.kv->blocks = 4;
    bytes.push_back(packPayload(plan));
  }
  for (const std::vector<uint8_t> &payload : bytes)
    set.plans.push_back(flatbuffers::GetRoot<plan::Plan>(payload.data()));
  return set;
}

TEST(Memory, LongestContextIsOfTheTightestRankInWholeBlocks) {
  std::vector<std::vector<uint8_t>> bytes;
  const PlanSet set = littleSet("sm_90", bytes);
  // Rank 1: (2000 - 1024) / (2 sequences x 8 bytes) = 61 tokens, 3 blocks of 16.
  const ContextFit fit = longestContext(set, 2000, 2);
  EXPECT_EQ(fit.tokens, 48u);
  EXPECT_EQ(fit.rank, 1u);
  EXPECT_TRUE(fit.fixedFits);
  EXPECT_FALSE(longestContext(set, 1000, 1).fixedFits);
  EXPECT_EQ(longestContext(set, 1025, 1).tokens, 0u);
}

TEST(Memory, RanksOfACpuShareIt) {
  std::vector<std::vector<uint8_t>> bytes;
  const PlanSet set = littleSet("cpu", bytes);
  EXPECT_FALSE(longestContext(set, 2000, 1).fixedFits);
  EXPECT_EQ(longestContext(set, 2048 + 12 * 33, 1).tokens, 32u);
}

TEST(Memory, AlikeRanksAreOne) {
  std::vector<std::vector<uint8_t>> bytes;
  EXPECT_EQ(ledgerGroups(littleSet("cpu", bytes)).size(), 2u);
}

} // namespace
} // namespace distc::explain
