#include "runtime/plan/RopeTables.h"
#include "PlanBuilder.h"

#include <cmath>

namespace distc::test {
namespace {

TEST(RopeTables, EveryPositionOfEveryTable) {
  Checkpoint checkpoint(1);
  PlanBuilder plan(checkpoint, "f", 1, 1, 0);
  plan.plan.limits->max_sequence = 100;
  for (uint32_t half : {3, 8}) {
    auto table = std::make_unique<plan::RopeTableT>();
    for (uint32_t i = 0; i < half; ++i)
      table->inv_freq.push_back(std::pow(10000.0, -double(i) / half));
    table->magnitude = half == 3 ? 1 : 1.25;
    plan.plan.rope_tables.push_back(std::move(table));
  }
  const std::vector<uint8_t> payload = packPayload(plan.finish());
  ThreadPool pool({.threads = 2, .spin = false, .cores = {}});
  auto tables = RopeTables::create(*flatbuffers::GetRoot<plan::Plan>(payload.data()), pool);
  ASSERT_TRUE(tables.ok());
  for (uint32_t t = 0; t < 2; ++t) {
    const plan::RopeTableT &table = *plan.plan.rope_tables[t];
    const float *out = (*tables)[t];
    for (uint32_t p = 0; p < 100; ++p)
      for (double frequency : table.inv_freq) {
        ASSERT_EQ(*out++, static_cast<float>(std::cos(p * frequency) * table.magnitude));
        ASSERT_EQ(*out++, static_cast<float>(std::sin(p * frequency) * table.magnitude));
      }
  }
}

} // namespace
} // namespace distc::test
