#include "runtime/base/ThreadPool.h"
#include "runtime/base/AnonymousMemory.h"

#include <gmock/gmock.h>

#include <numeric>

namespace distc {
namespace {

class Pools : public ::testing::TestWithParam<std::tuple<uint32_t, bool>> {
protected:
  ThreadPool pool{{.threads = std::get<0>(GetParam()), .spin = std::get<1>(GetParam()), .cores = {}}};
};

TEST_P(Pools, EveryIndexOnceInRangesCutAtTheGrain) {
  for (int64_t n : {0, 1, 7, 64, 1000})
    for (int64_t grain : {1, 16, 2000}) {
      std::vector<int> seen(n);
      pool.parallelFor(n, grain, [&](int64_t begin, int64_t end) {
        EXPECT_EQ(begin % grain, 0);
        EXPECT_TRUE(end == n || end % grain == 0);
        for (int64_t i = begin; i < end; ++i)
          ++seen[i];
      });
      EXPECT_THAT(seen, ::testing::Each(1));
    }
}

TEST_P(Pools, ManyShortRunsInARow) {
  std::vector<uint64_t> sums(pool.size() * 16);
  for (int run = 0; run < 3000; ++run)
    pool.forEachThread([&](uint32_t part) { sums[part * 16] += part + run; });
  uint64_t total = std::accumulate(sums.begin(), sums.end(), uint64_t(0)), size = pool.size();
  EXPECT_EQ(total, size * (3000ull * 2999 / 2) + 3000 * (size * (size - 1) / 2));
}

INSTANTIATE_TEST_SUITE_P(Sizes, Pools, ::testing::Combine(::testing::Values(1, 2, 5), ::testing::Bool()));

TEST(AnonymousMemory, IsZeroAndCommitted) {
  ThreadPool pool({.threads = 2, .spin = false, .cores = {}});
  auto memory = AnonymousMemory::reserve((5 << 20) + 3, "test");
  ASSERT_TRUE(memory.ok());
  ASSERT_TRUE(memory->commit(pool, "test").ok());
  EXPECT_THAT(std::vector<std::byte>(memory->data(), memory->data() + memory->size()), ::testing::Each(std::byte(0)));
  AnonymousMemory moved = memory.take();
  moved.data()[moved.size() - 1] = std::byte(1);
}

TEST(AnonymousMemory, TooMuchIsAnError) {
  auto memory = AnonymousMemory::reserve(uint64_t(1) << 60, "the KV cache of rank 3");
  ASSERT_FALSE(memory.ok());
  EXPECT_EQ(memory.status().code(), Code::ResourceExhausted);
  EXPECT_THAT(memory.status().message(), ::testing::HasSubstr("the KV cache of rank 3: cannot get 1024.00 PiB"));
}

} // namespace
} // namespace distc
