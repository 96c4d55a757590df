#include "runtime/plan/MemoryCheck.h"
#include "PlanBuilder.h"

#include <gmock/gmock.h>

namespace distc::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Memory : public ::testing::Test {
protected:
  Memory() {
    for (uint32_t rank : {0, 1}) {
      PlanBuilder plan(checkpoint, "f", 2, 1, rank);
      *plan.plan.ledger = {};
      plan.plan.ledger->weights_loaded = 1 << 20;
      plan.plan.ledger->weights_mapped = 3 << 20;
      plan.plan.ledger->kv = (2 + rank) << 20;
      plan.plan.ledger->arena = 512 << 10;
      plan.plan.ledger->tables = 512 << 10;
      auto weight = std::make_unique<plan::WeightT>();
      weight->placement = plan::Placement::Map;
      weight->bytes = (3 << 20) - 100;
      plan.plan.weights.push_back(std::move(weight));
      payloads[rank] = packPayload(plan.plan);
      plans.push_back(flatbuffers::GetRoot<plan::Plan>(payloads[rank].data()));
    }
  }

  Checkpoint checkpoint{1};
  std::vector<uint8_t> payloads[2];
  std::vector<const plan::Plan *> plans;
};

TEST_F(Memory, SumsTheRanks) {
  EXPECT_EQ(neededMemory(plans, false), 9u << 20);
  EXPECT_EQ(neededMemory(plans, true), 15u << 20) << "random weights are never mapped";
  EXPECT_TRUE(checkMemory(plans, false, 9 << 20).ok());
  EXPECT_TRUE(checkMemory(plans, true, 15 << 20).ok());
}

TEST_F(Memory, TooLittleIsRefusedWithTheLedger) {
  Status status = checkMemory(plans, false, (9 << 20) - 1);
  EXPECT_EQ(status.code(), Code::ResourceExhausted);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("need 9.00 MiB"), HasSubstr("KV cache"), HasSubstr("\n  0 "),
                                      HasSubstr("\n  1 "), HasSubstr("2.00 MiB"), HasSubstr("512.00 KiB")));
  EXPECT_FALSE(checkMemory(plans, true, (15 << 20) - 1).ok());
  EXPECT_THAT(
      checkMemory(plans, false, 1 << 20, "memory of GPU 0 (H100)").message(),
      HasSubstr("the 2 rank(s) in this process need 9.00 MiB of memory of GPU 0 (H100), 1.00 MiB are available"));
}

TEST_F(Memory, AnAllocationThatFailsIsToldWithTheLedger) {
  const Status status = withLedger(resourceExhausted("rank 1: cannot allocate"), plans, false);
  EXPECT_EQ(status.code(), Code::ResourceExhausted);
  EXPECT_THAT(status.message(), AllOf(StartsWith("rank 1: cannot allocate\n"), HasSubstr("KV cache"),
                                      HasSubstr("\n  1 "), HasSubstr("9.00 MiB")));
  EXPECT_EQ(withLedger(internal("x"), plans, false).message(), "x");
  EXPECT_TRUE(withLedger({}, plans, false).ok());
}

TEST_F(Memory, AbsurdLedgersSaturate) {
  PlanBuilder plan(checkpoint, "f", 1, 1, 0);
  plan.plan.ledger->kv = plan.plan.ledger->weights_loaded = ~uint64_t(0) - 5;
  std::vector<uint8_t> payload = packPayload(plan.plan);
  const plan::Plan *packed = flatbuffers::GetRoot<plan::Plan>(payload.data());
  EXPECT_FALSE(checkMemory(std::span(&packed, 1), false, ~uint64_t(0) - 1).ok());
}

} // namespace
} // namespace distc::test
