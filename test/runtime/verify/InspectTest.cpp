// The print of a plan: what is in it, what its filters leave, and that it is the same each time.
#include "runtime/verify/Inspect.h"
#include "ValidSet.h"

#include <gmock/gmock.h>

namespace distc::test {

namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(Inspect, SaysWhatThePlanHolds) {
  ValidSet set(freshSeed());
  const std::string text = inspectText(*set.pack()[1]);
  EXPECT_THAT(text, AllOf(HasSubstr("mesh      tp 2 x pp 2: rank 1, stage 0, tp_index 1, layers 0:1\n"),
                          HasSubstr("group     tp [0, 1]\n"), HasSubstr("cache     layer 0: 1 heads of 4 F32 at 0,")));
  EXPECT_THAT(text,
              AllOf(HasSubstr("weight    q F32 [2, 4, 16] load at "),
                    HasSubstr("  from    layers.0.q F32 [12, 16] as [3, 4, 16] [2:3+0x1, 0:4, 0:16] in model.bin")));
  EXPECT_THAT(text,
              AllOf(HasSubstr(", first_row 7, signals 0 | embed\n"), HasSubstr("program   1 decode: up to 2 tokens"),
                    HasSubstr("AllReduce %0 b0 -> %0 b0, group tp #0, Sum, waits [0]"),
                    HasSubstr(", eps 1e-05, squares of 12 in column 0"), HasSubstr(", factor 0.25"),
                    HasSubstr(", group pp #0, peer rank 3"), HasSubstr("%0 b0: Tokens x 16 F32 at 0, 512 bytes")));
}

TEST(Inspect, FiltersLeaveWhatTheySay) {
  ValidSet set(freshSeed());
  const plan::Plan &plan = *set.pack()[3];
  EXPECT_THAT(inspectText(plan, {.weights = true, .program = {}, .grep = {}}),
              AllOf(HasSubstr("weight    final F32 [16] map"), Not(HasSubstr("program"))));
  EXPECT_THAT(inspectText(plan, {.weights = false, .program = plan::Regime::Decode, .grep = {}}),
              AllOf(HasSubstr("1 decode"), Not(HasSubstr("0 prefill")), Not(HasSubstr("weight  "))));
  const std::string found = inspectText(plan, {.weights = false, .program = {}, .grep = "o.bias"});
  EXPECT_THAT(found, AllOf(HasSubstr("weight    o.bias"), HasSubstr("bias o.bias"), Not(HasSubstr("weight    gate"))));
}

TEST(Inspect, IsTheSameForTheSamePlan) {
  const uint32_t seed = freshSeed();
  ValidSet a(seed), b(seed);
  EXPECT_EQ(inspectText(*a.pack()[2]), inspectText(*b.pack()[2]));
  EXPECT_EQ(inspectJson(*a.pack()[2]), inspectJson(*b.pack()[2]));
  b.weight(2, "up").copies = 9;
  EXPECT_NE(inspectText(*a.pack()[2]), inspectText(*b.pack()[2]));
}

TEST(Inspect, JsonHasEveryFieldByName) {
  ValidSet set(freshSeed());
  const plan::Plan &plan = *set.pack()[0];
  const std::string json = inspectJson(plan);
  EXPECT_THAT(json,
              AllOf(HasSubstr("\"producer\": \"test\""), HasSubstr("\"stage\": 0"), HasSubstr("\"dtype\": \"F32\""),
                    HasSubstr("\"op_type\": \"RmsNorm\""), HasSubstr("\"inv_freq\": [ 1, 0.01 ]")));
  EXPECT_THAT(inspectJson(plan, {.weights = true, .program = {}, .grep = {}}), Not(HasSubstr("\"RmsNorm\"")));
  EXPECT_THAT(inspectJson(plan, {.weights = false, .program = plan::Regime::Decode, .grep = {}}),
              AllOf(HasSubstr("\"Decode\""), Not(HasSubstr("\"Prefill\"")), Not(HasSubstr("\"placement\""))));
}

} // namespace

} // namespace distc::test
