#include "runtime/exec/PlanSetInfo.h"

#include "runtime/plan/ExpertUse.h"
#include "verify/ValidSet.h"

#include <gtest/gtest.h>

namespace distc::test {
namespace {

// Weights that a decode step reads whole are counted apart from experts', of which it reads some.
TEST(PlanSetInfo, CountsExpertsApart) {
  constexpr uint32_t experts = 3, chosen = ValidSet::kChosen, matrix = 6 * ValidSet::kHidden * 4;
  ValidSet plain(freshSeed()), mixture(freshSeed(), plan::DType::F32, experts);
  const PlanSetInfo one = planSetInfo(plain.pack(), "."), all = planSetInfo(mixture.pack(), ".");
  const uint64_t ranks = ValidSet::kTp * ValidSet::kPp;
  EXPECT_TRUE(one.expertBytes.empty());
  ASSERT_EQ(all.expertBytes.size(), 1u);
  EXPECT_EQ(all.expertBytes.begin()->first.experts, experts);
  EXPECT_EQ(all.expertBytes.begin()->first.count, chosen);
  EXPECT_EQ(all.expertBytes.begin()->second, ranks * 3 * experts * matrix);
  EXPECT_EQ(all.weightBytes, one.weightBytes - ranks * 3 * matrix + ranks * experts * ValidSet::kHidden * 4);
}

TEST(ExpertUse, IsExactForOneRowAndForAllExperts) {
  EXPECT_DOUBLE_EQ(expectedExperts(8, 2, 1), 2);
  EXPECT_DOUBLE_EQ(expectedExperts(128, 8, 1), 8);
  EXPECT_DOUBLE_EQ(expectedExperts(5, 5, 7), 5);
  EXPECT_DOUBLE_EQ(expectedExperts(4, 2, 2), 3);
  EXPECT_NEAR(expectedExperts(8, 2, 1000), 8, 1e-9);
}

} // namespace
} // namespace distc::test
