#include "DeviceTest.h"

namespace distc::cuda {
namespace {

using reference::Attention;
using reference::AttentionCase;

/// A sequence of a batch: `rows` tokens from position `first` on.
struct Chunk {
  int32_t first, rows;
};

class CudaAttentionPrefillTest : public DeviceTest {
protected:
  static AttentionCase batchOf(int64_t heads, int64_t kvHeads, int64_t dim, int64_t blockTokens, int64_t window,
                               float softCap, const std::vector<Chunk> &chunks) {
    AttentionCase c{heads, kvHeads, dim, blockTokens, window, softCap, {}, {}};
    for (size_t s = 0; s < chunks.size(); ++s)
      for (int32_t i = 0; i < chunks[s].rows; ++i) {
        c.positions.push_back(chunks[s].first + i);
        c.sequenceOf.push_back(int32_t(s));
      }
    return c;
  }

  /// Runs rows [first, first + rows) of a case whose cache holds NaN wherever no position is.
  void run(Attention &d, Type type, int64_t first, int64_t rows, Out out) {
    const AttentionCase &c = d.c;
    std::vector<float> cache(d.cache.size(), std::numeric_limits<float>::quiet_NaN());
    for (size_t t = 0; t < c.positions.size(); ++t)
      for (int64_t p = 0; p <= c.positions[t]; ++p)
        for (int64_t part = 0; part < 2 * c.kvHeads; ++part) {
          const float *at = d.at(c.sequenceOf[t], p, part);
          std::copy_n(at, c.dim, &cache[at - d.cache.data()]);
        }
    const DeviceValues q(d.q, type), dCache(cache, type);
    const DeviceArray<int32_t> table(d.table), sequenceOf(c.sequenceOf), positions(c.positions);
    const int64_t width = c.heads * c.dim;
    const In rowsOfQ{static_cast<const char *>(q.data()) + first * width * 2, type};
    const KvView view{dCache.data(), type, c.kvHeads, c.blockTokens, c.dim};
    const AttentionParams params{c.heads, d.scale(), c.window, c.softCap};
    ASSERT_TRUE(attentionPrefillSuits(rowsOfQ, view, params, out));
    ASSERT_CUDA(attentionPrefill(
        rowsOfQ, rows, view, params,
        {table.data(), d.blocksPerSequence, sequenceOf.data() + first, positions.data() + first}, out, nullptr));
    ASSERT_CUDA(cudaDeviceSynchronize());
  }

  void check(const AttentionCase &c) {
    for (Type type : {Type::F16, Type::BF16}) {
      Attention d(c, random);
      d.q = rounded(d.q, type);
      d.cache = rounded(d.cache, type);
      const DeviceValues out(d.q.size(), type);
      run(d, type, 0, int64_t(c.positions.size()), out);
      // The weights of the values are rounded to the type, as the result is.
      EXPECT_LE(relativeError(out.values().data(), d.result()), 2 * bound(type, 1e-5))
          << c.heads << "/" << c.kvHeads << " heads of " << c.dim << ", blocks of " << c.blockTokens << ", window "
          << c.window << ", " << c.positions.size() << " rows, type " << int(type);
    }
  }
};

TEST_F(CudaAttentionPrefillTest, AgreesWithDoubles) {
  // One sequence from its start; one that goes on in the middle of a block; many, some of one row.
  const std::vector<std::vector<Chunk>> batches{
      {{0, 1}},   {{0, 5}},     {{0, 300}},
      {{777, 1}}, {{131, 140}}, {{0, 33}, {50, 1}, {7, 90}, {600, 3}, {0, 1}, {127, 2}, {128, 64}}};
  for (const std::vector<Chunk> &batch : batches)
    for (int64_t dim : {64, 80, 96, 128, 256})
      check(batchOf(8, 2, dim, 16, 0, 0.0f, batch));
}

TEST_F(CudaAttentionPrefillTest, EveryGroupHeadAndBlockSize) {
  const std::vector<Chunk> batch{{3, 50}, {0, 17}, {200, 70}};
  for (int64_t group = 1; group <= 16; ++group)
    check(batchOf(2 * group, 2, 64, 16, 0, 0.0f, batch));
  check(batchOf(128, 1, 64, 16, 0, 0.0f, batch));
  for (int64_t dim : {8, 16, 24, 72, 136, 192, 248})
    check(batchOf(4, 2, dim, 16, 0, 0.0f, batch));
  for (int64_t block : {1, 5, 7, 32, 100, 256, 1024})
    check(batchOf(4, 2, 128, block, 0, 0.0f, batch));
}

TEST_F(CudaAttentionPrefillTest, WindowsAndSoftCaps) {
  const std::vector<Chunk> batch{{400, 150}, {0, 260}, {63, 1}};
  for (int64_t window : std::initializer_list<int64_t>{1, 2, 64, 127, 128, 129, 250, 5000, INT32_MAX, UINT32_MAX})
    for (int64_t dim : {64, 128, 256})
      check(batchOf(4, 2, dim, 16, window, 0.0f, batch));
  for (float softCap : {0.5f, 30.0f})
    for (int64_t window : {0, 40})
      check(batchOf(4, 2, 128, 16, window, softCap, batch));
}

TEST_F(CudaAttentionPrefillTest, ChunksGiveWhatTheWholeGives) {
  Attention d(batchOf(8, 2, 128, 16, 0, 0.0f, {{0, 500}}), random);
  const Type type = Type::BF16;
  d.q = rounded(d.q, type);
  d.cache = rounded(d.cache, type);
  const DeviceValues whole(d.q.size(), type), parts(d.q.size(), type);
  run(d, type, 0, 500, whole);
  const int64_t width = d.c.heads * d.c.dim;
  for (int64_t first = 0; first < 500;) {
    const int64_t rows = std::min<int64_t>(500 - first, uniform(1, 200));
    run(d, type, first, rows, {static_cast<char *>(parts.data()) + first * width * 2, type});
    first += rows;
  }
  const std::vector<float> a = whole.values(), b = parts.values();
  EXPECT_LE(relativeError(b.data(), std::vector<double>(a.begin(), a.end())), 2 * bound(type, 1e-5));
}

TEST_F(CudaAttentionPrefillTest, LargeScoresDoNotOverflow) {
  Attention d(batchOf(2, 1, 64, 16, 0, 0.0f, {{0, 200}}), random);
  for (float &q : d.q)
    q *= 100.0f;
  d.q = rounded(d.q, Type::BF16);
  d.cache = rounded(d.cache, Type::BF16);
  const DeviceValues out(d.q.size(), Type::BF16);
  run(d, Type::BF16, 0, 200, out);
  EXPECT_LE(relativeError(out.values().data(), d.result()), 2 * bound(Type::BF16, 2e-4));
}

TEST_F(CudaAttentionPrefillTest, RefusesWhatItCannotDo) {
  const DeviceValues q(64, Type::BF16), cache(2 * 64 * 16, Type::BF16), full(64, Type::F32), out(64, Type::BF16);
  const KvView view{cache.data(), Type::BF16, 1, 16, 64};
  const AttentionParams params{1, 1.0f, 0, 0.0f};
  EXPECT_TRUE(attentionPrefillSuits(q, view, params, out));
  EXPECT_FALSE(attentionPrefillSuits(full, view, params, full));
  EXPECT_FALSE(attentionPrefillSuits(q, {cache.data(), Type::F16, 1, 16, 64}, params, out));
  EXPECT_FALSE(attentionPrefillSuits(q, {cache.data(), Type::BF16, 1, 16, 60}, params, out));
  EXPECT_EQ(attentionPrefill(full, 1, view, params, {}, full, nullptr), cudaErrorInvalidValue);
  EXPECT_CUDA(attentionPrefill(q, 0, view, params, {}, out, nullptr));
  for (float v : out.values())
    EXPECT_TRUE(std::isnan(v));
}

} // namespace
} // namespace distc::cuda
