// Plans with a mixture of experts: a valid set is accepted, each rule broken is refused.
#include "ValidSet.h"
#include "runtime/verify/Verify.h"

#include <gmock/gmock.h>

#include <functional>

namespace distc::test {

namespace {

constexpr uint32_t kExperts = 3;

std::string verified(ValidSet &set) {
  std::string text;
  for (const Violation &v : verifyPlanSet(set.pack()))
    text += v.kind + ": " + v.message + "\n";
  return text;
}

TEST(VerifierOfExperts, AcceptsAValidSet) {
  for (plan::DType type : {plan::DType::F32, plan::DType::BF16})
    for (uint32_t experts : {2u, kExperts}) {
      ValidSet set(freshSeed(), type, experts);
      EXPECT_EQ(verified(set), "") << EnumNameDType(type);
    }
}

/// The buffer's rows, of another width.
void widen(ValidSet &s, uint32_t rank, uint32_t buffer, uint32_t width) {
  plan::ProgramT &program = *s.rank(rank).programs[0];
  plan::Buffer &b = program.buffers[buffer];
  const uint64_t end = (program.arena_bytes + 15) / 16 * 16, bytes = b.bytes() / b.row_elements() * width;
  b = plan::Buffer(end, bytes, width, -1, 1, 1, 0, 1, b.rows(), b.dtype());
  s.rank(rank).ledger->arena = std::max(s.rank(rank).ledger->arena, program.arena_bytes = end + bytes);
}

struct Mutant {
  std::string name, kind;
  std::vector<std::string> words; // that the message must hold
  std::function<void(ValidSet &)> seed;
};

TEST(VerifierOfExperts, RefusesEachBrokenRule) {
  auto route = [](ValidSet &s) -> plan::RouteT & { return s.op<plan::RouteT>(0, 0, "route"); };
  auto gate = [](ValidSet &s) -> plan::ExpertLinearT & { return s.op<plan::ExpertLinearT>(0, 0, "gate"); };
  const std::vector<Mutant> mutants = {
      {"none chosen", "shape-mismatch", {"chooses 0 of 3"}, [&](ValidSet &s) { route(s).count = 0; }},
      {"more than there are", "shape-mismatch", {"chooses 4 of 3"}, [&](ValidSet &s) { route(s).count = 4; }},
      {"another count than pairs",
       "shape-mismatch",
       {"rows of 4", "expected 2"},
       [&](ValidSet &s) { route(s).count = 1; }},
      {"routes of more rows than tokens",
       "rows-mismatch",
       {"expected at most one for each token"},
       [&](ValidSet &s) {
         for (uint32_t buffer : {route(s).logits, route(s).out}) {
           plan::Buffer &b = s.rank(0).programs[0]->buffers[buffer];
           b = plan::Buffer(b.offset(), 2 * b.bytes(), b.row_elements(), -1, 2, 1, 0, 1, b.rows(), b.dtype());
         }
       }},
      {"a weight out of range", "index-range", {"weight 99"}, [&](ValidSet &s) { gate(s).weight = 99; }},
      {"a matrix for experts",
       "shape-mismatch",
       {"'router'", "expected [experts, rows, columns]"},
       [&](ValidSet &s) { gate(s).weight = s.op<plan::LinearT>(0, 0, "router").weight; }},
      {"an input of another width",
       "shape-mismatch",
       {"Linear, down", "expected 12"},
       [&](ValidSet &s) { widen(s, 0, s.op<plan::GluT>(0, 0, "glu").out, 13); }},
      {"routes among more experts",
       "slice-alignment",
       {"has 3 experts, the routes are among 2"},
       [&](ValidSet &s) {
         for (uint32_t r : {0u, 1u}) {
           plan::WeightT &router = s.weight(r, "router");
           router.shape[0] = 2;
           router.bytes = router.bytes / 3 * 2;
           router.sources[0]->dims[0]->segments[0] = {0, 2};
           for (uint32_t p : {0u, 1u}) {
             plan::Buffer &b = s.rank(r).programs[p]->buffers[s.op<plan::LinearT>(r, p, "router").out];
             b = plan::Buffer(b.offset(), b.bytes() / 3 * 2, 2, -1, 1, 1, 0, 1, b.rows(), b.dtype());
           }
         }
       }},
      {"the other rank's part of an expert",
       "slice-alignment",
       {"expected the same of each"},
       [&](ValidSet &s) { std::swap(s.weight(0, "gate").sources[1]->dims, s.weight(1, "gate").sources[1]->dims); }},
      {"gate and up of other parts",
       "slice-alignment",
       {"glu"},
       [&](ValidSet &s) {
         for (uint32_t e = 0; e < kExperts; ++e)
           std::swap(s.weight(0, "gate").sources[e]->dims, s.weight(1, "gate").sources[e]->dims);
       }},
      {"an expert twice",
       "weight-coverage",
       {"experts.0.gate"},
       [&](ValidSet &s) {
         for (uint32_t r : {0u, 1u})
           s.weight(r, "gate").sources[1]->tensor = s.weight(r, "gate").sources[0]->tensor;
       }},
      {"the sum of other rows",
       "shape-mismatch",
       {"Combine"},
       [&](ValidSet &s) { s.op<plan::CombineT>(0, 0, "combine").input = gate(s).out; }},
      {"the largest of shares in place of their sum",
       "partial-value",
       {"down.reduce", "is a rank's share", "by max"},
       [&](ValidSet &s) {
         for (uint32_t r : {0u, 1u})
           s.op<plan::AllReduceT>(r, 0, "down.reduce").op = plan::ReduceOp::Max;
       }},
  };
  for (const Mutant &mutant : mutants) {
    ValidSet set(freshSeed(), plan::DType::F32, kExperts);
    mutant.seed(set);
    const std::string found = verified(set);
    EXPECT_THAT(found, testing::HasSubstr(mutant.kind)) << mutant.name;
    for (const std::string &word : mutant.words)
      EXPECT_THAT(found, testing::HasSubstr(word)) << mutant.name;
  }
}

TEST(VerifierOfExperts, RoutesAreWhatARouteHasWritten) {
  ValidSet set(freshSeed(), plan::DType::F32, 2 * ValidSet::kChosen); // as many logits as a row of routes has elements
  set.op<plan::ExpertLinearT>(0, 0, "gate").routes = set.op<plan::LinearT>(0, 0, "router").out;
  EXPECT_THAT(verified(set), testing::HasSubstr("no Route has written it"));
}

} // namespace

} // namespace distc::test
