#include "runtime/plan/SliceRuns.h"
#include "PlanBuilder.h"

#include <gmock/gmock.h>

namespace distc::test {
namespace {

// Random slices of random views, element by element against the definition, from random starts.
TEST(SliceRuns, EveryElementOfRandomSlices) {
  std::mt19937 random(freshSeed());
  auto upTo = [&](uint64_t limit) { return random() % (limit + 1); };
  for (int round = 0; round < 300; ++round) {
    std::vector<uint64_t> view(1 + upTo(3));
    plan::WeightT weight;
    Slices slices;
    std::vector<std::vector<uint64_t>> indices; // of each dimension of the part: where in the view
    uint64_t elements = 1;
    for (uint64_t &d : view) {
      d = 1 + upTo(6);
      elements *= d;
      auto &slice = slices.emplace_back();
      auto &index = indices.emplace_back();
      for (uint64_t s = 0, n = 1 + upTo(2); s < n; ++s) {
        Slice part{upTo(d - 1), 0};
        part.count = upTo(d - part.begin);
        if (s == 0 && upTo(1) == 0)
          part = {0, d};
        if (upTo(4) == 0)
          part.begin = kZeroFill;
        slice.push_back(part);
        for (uint64_t i = 0; i < part.count; ++i)
          index.push_back(part.begin == kZeroFill ? kZeroFill : part.begin + i);
      }
    }
    std::vector<uint64_t> expected = {0};
    for (size_t d = 0; d < view.size(); ++d) {
      std::vector<uint64_t> next;
      for (uint64_t base : expected)
        for (uint64_t i : indices[d])
          next.push_back(base == kZeroFill || i == kZeroFill ? kZeroFill : base * view[d] + i);
      expected = std::move(next);
    }

    // Where the first dimensions come last in the tensor.
    const auto transposed = static_cast<uint8_t>(upTo(1) == 0 ? 0 : upTo(view.size() - 1));
    uint64_t rows = 1;
    for (size_t d = 0; d < transposed; ++d)
      rows *= view[d];
    for (uint64_t &i : expected)
      if (i != kZeroFill && transposed != 0)
        i = i % (elements / rows) * rows + i / (elements / rows);

    PlanBuilder::addSource(weight, 0, slices, view, transposed);
    flatbuffers::FlatBufferBuilder fbb;
    fbb.Finish(plan::WeightSource::Pack(fbb, weight.sources[0].get()));
    auto runs = SliceRuns::create(*flatbuffers::GetRoot<plan::WeightSource>(fbb.GetBufferPointer()), elements);
    ASSERT_TRUE(runs.ok()) << runs.status().message();
    ASSERT_EQ(runs->elements(), expected.size());
    const uint64_t begin = upTo(expected.size()), end = begin + upTo(expected.size() - begin);
    uint64_t next = begin;
    std::vector<int> seen(expected.size());
    const uint64_t stride = runs->stride();
    runs->forEachRun(begin, end, [&](uint64_t from, uint64_t at, uint64_t count) {
      ASSERT_TRUE(at == next || stride > 1);
      ASSERT_GT(count, 0u);
      for (uint64_t i = 0; i < count; ++i) {
        ASSERT_LT(at + i * stride, expected.size());
        ASSERT_EQ(expected[at + i * stride], from == kZeroFill ? kZeroFill : from + i);
        ++seen[at + i * stride];
      }
      next += count;
    });
    ASSERT_EQ(next, end);
    for (uint64_t i = 0; i < expected.size(); ++i)
      ASSERT_EQ(seen[i], i >= begin && i < end);
  }
}

TEST(SliceRuns, NotAllDimensionsComeLast) {
  plan::WeightT weight;
  PlanBuilder::addSource(weight, 0, {{{0, 4}}, {{0, 5}}}, {4, 5}, 2);
  flatbuffers::FlatBufferBuilder fbb;
  fbb.Finish(plan::WeightSource::Pack(fbb, weight.sources[0].get()));
  auto runs = SliceRuns::create(*flatbuffers::GetRoot<plan::WeightSource>(fbb.GetBufferPointer()), 20);
  ASSERT_FALSE(runs.ok());
  EXPECT_THAT(runs.status().message(), ::testing::HasSubstr("2 of which come last"));
}

TEST(SliceRuns, WholeTrailingDimensionsMakeOneRun) {
  plan::WeightT weight;
  PlanBuilder::addSource(weight, 0, {{{1, 2}}, {{0, 5}}, {{0, 7}}}, {4, 5, 7});
  flatbuffers::FlatBufferBuilder fbb;
  fbb.Finish(plan::WeightSource::Pack(fbb, weight.sources[0].get()));
  auto runs = SliceRuns::create(*flatbuffers::GetRoot<plan::WeightSource>(fbb.GetBufferPointer()), 140);
  ASSERT_TRUE(runs.ok());
  int count = 0;
  runs->forEachRun(0, 70, [&](uint64_t from, uint64_t at, uint64_t n) {
    ++count;
    EXPECT_EQ(from, 35u);
    EXPECT_EQ(at, 0u);
    EXPECT_EQ(n, 70u);
  });
  EXPECT_EQ(count, 1);
}

} // namespace
} // namespace distc::test
