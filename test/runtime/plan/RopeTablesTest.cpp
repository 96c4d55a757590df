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

// Each sequence keeps the set that its length chooses, at every position.
TEST(RopeTables, SetsByTheLengthOfASequence) {
  Checkpoint checkpoint(1);
  PlanBuilder plan(checkpoint, "f", 1, 1, 0);
  plan.plan.limits->max_sequence = 50;
  auto made = std::make_unique<plan::RopeTableT>();
  made->inv_freq = {1, 0.5, 0.25, 0.125, 0.1, 0.01};
  made->over = {10, 20};
  plan.plan.rope_tables.push_back(std::move(made));
  const std::vector<uint8_t> payload = packPayload(plan.finish());
  ThreadPool pool({.threads = 2, .spin = false, .cores = {}});
  const auto &root = *flatbuffers::GetRoot<plan::Plan>(payload.data());
  auto tables = RopeTables::create(root, pool);
  ASSERT_TRUE(tables.ok());
  const plan::RopeTable &table = *root.rope_tables()->Get(0);
  EXPECT_EQ(frequencies(table), 2);
  Batch batch;
  batch.positions = {3, 4, 9, 0, 49};
  batch.sequenceStarts = {0, 2, 3, 4, 5};
  batch.lengths = {10, 11, 20, 50};
  std::vector<int32_t> rows(5);
  findRopeRows(table, 50, batch, rows.data());
  EXPECT_EQ(rows, (std::vector<int32_t>{3, 4, 59, 50, 149}));
  const std::vector<size_t> sets = {0, 0, 1, 1, 2};
  for (size_t t = 0; t < rows.size(); ++t)
    for (uint32_t i = 0; i < 2; ++i) {
      const double angle = batch.positions[t] * table.inv_freq()->Get(static_cast<uint32_t>(sets[t] * 2 + i));
      EXPECT_EQ((*tables)[0][(rows[t] * 2 + i) * 2], static_cast<float>(std::cos(angle)));
      EXPECT_EQ((*tables)[0][(rows[t] * 2 + i) * 2 + 1], static_cast<float>(std::sin(angle)));
    }
  batch.lengths.clear(); // as long as the plan allows
  findRopeRows(table, 50, batch, rows.data());
  EXPECT_EQ(rows, (std::vector<int32_t>{103, 104, 109, 100, 149}));
}

} // namespace
} // namespace distc::test
