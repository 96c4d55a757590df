#include "DeviceTest.h"

namespace distc::cuda {
namespace {

using reference::Attention;
using reference::AttentionCase;

class CudaAttentionTest : public DeviceTest {
protected:
  /// The operands of one case on the device; `rows` of them from `first` on are run.
  struct OnDevice {
    OnDevice(Attention &d, Type qType, Type cacheType, bool shifted)
        : d(d), qType(qType), cacheType(cacheType), q(d.q, qType, shifted), cache(d.cache, cacheType, shifted),
          table(d.table), sequenceOf(d.c.sequenceOf), positions(d.c.positions) {}

    cudaError_t run(int64_t first, int64_t rows, int clusterBlocks, Out out) const {
      const int64_t width = d.c.heads * d.c.dim;
      return attention({static_cast<const char *>(q.data()) + first * width * bytesOf(qType), qType}, rows,
                       {cache.data(), cacheType, d.c.kvHeads, d.c.blockTokens, d.c.dim},
                       {d.c.heads, d.scale(), d.c.window, d.c.softCap, clusterBlocks},
                       {table.data(), d.blocksPerSequence, sequenceOf.data() + first, positions.data() + first}, out,
                       nullptr);
    }

    const Attention &d;
    Type qType, cacheType;
    DeviceValues q, cache;
    DeviceArray<int32_t> table, sequenceOf, positions;
  };

  std::vector<AttentionCase> cases() {
    std::vector<AttentionCase> all = reference::attentionCases;
    // Two prefill chunks, the second in the middle of its sequence, between decode tokens; all groups in turn.
    for (int64_t group : {1, 3, 4, 5, 8, 16})
      all.push_back({2 * group, 2, 64, 16, 0, 0.0f, {700, 0, 1, 2, 3, 40, 41, 42, 9}, {0, 1, 1, 1, 1, 2, 2, 2, 3}});
    for (int64_t dim : {8, 16, 80, 96, 128, 144, 256})
      all.push_back({4, 2, dim, 32, dim % 3 ? 0 : 100, 0.0f, {1100, 64, 63}, {}});
    return all;
  }
};

TEST_F(CudaAttentionTest, AgreesWithDoubles) {
  for (const AttentionCase &c : cases())
    for (Type qType : types)
      for (Type cacheType : types) {
        Attention d(c, random);
        d.q = rounded(d.q, qType);
        d.cache = rounded(d.cache, cacheType);
        const std::vector<double> expected = d.result();
        for (int clusterBlocks : {1, 2, 4, 8}) {
          const OnDevice operands(d, qType, cacheType, clusterBlocks == 2);
          const DeviceValues out(d.q.size(), qType);
          ASSERT_CUDA(operands.run(0, int64_t(c.positions.size()), clusterBlocks, out));
          EXPECT_LE(relativeError(out.values().data(), expected), bound(qType, 3e-6))
              << c.heads << "/" << c.kvHeads << " heads of " << c.dim << " types " << int(qType) << int(cacheType)
              << " clusters of " << clusterBlocks;
        }
      }
}

TEST_F(CudaAttentionTest, BitsDependNeitherOnOtherRowsNorOnBlockSize) {
  for (const AttentionCase &c : cases()) {
    Attention d(c, random);
    AttentionCase changed = c;
    changed.blockTokens = c.blockTokens + 3;
    Attention moved(changed, random);
    moved.q = d.q;
    for (size_t t = 0; t < c.positions.size(); ++t)
      for (int64_t p = 0; p <= c.positions[t]; ++p)
        for (int64_t part = 0; part < 2 * c.kvHeads; ++part)
          std::copy_n(d.at(d.c.sequenceOf[t], p, part), c.dim, moved.at(d.c.sequenceOf[t], p, part));
    const OnDevice operands(d, Type::F32, Type::BF16, false), other(moved, Type::F32, Type::BF16, true);
    for (int clusterBlocks : {1, 8}) {
      const auto rows = int64_t(c.positions.size()), width = c.heads * c.dim;
      const DeviceValues all(d.q.size(), Type::F32), parts(d.q.size(), Type::F32), second(d.q.size(), Type::F32);
      ASSERT_CUDA(operands.run(0, rows, clusterBlocks, all));
      for (int64_t t = rows; t-- > 0;)
        ASSERT_CUDA(operands.run(t, 1, clusterBlocks, {parts.floats() + t * width, Type::F32}));
      ASSERT_CUDA(other.run(0, rows, clusterBlocks, second));
      EXPECT_EQ(all.bytes(), parts.bytes()) << c.heads << " heads of " << c.dim;
      EXPECT_EQ(all.bytes(), second.bytes()) << c.heads << " heads of " << c.dim;
    }
  }
}

TEST_F(CudaAttentionTest, ReadsNothingBehindThePosition) {
  // The rest of the cache is NaN.
  const AttentionCase c{8, 2, 64, 16, 0, 0.0f, {37, 5}, {}};
  Attention d(c, random);
  std::vector<float> cache(d.cache.size(), std::numeric_limits<float>::quiet_NaN());
  cache.swap(d.cache);
  for (size_t t = 0; t < c.positions.size(); ++t)
    for (int64_t p = 0; p <= c.positions[t]; ++p)
      for (int64_t part = 0; part < 2 * c.kvHeads; ++part) {
        float *at = d.at(int64_t(t), p, part);
        std::copy_n(&cache[at - d.cache.data()], c.dim, at);
      }
  const OnDevice operands(d, Type::F32, Type::F32, false);
  const DeviceValues out(d.q.size(), Type::F32);
  ASSERT_CUDA(operands.run(0, 2, 4, out));
  EXPECT_LE(relativeError(out.values().data(), d.result()), 3e-6);
}

TEST_F(CudaAttentionTest, LargeScoresDoNotOverflow) {
  Attention d({2, 1, 64, 16, 0, 0.0f, {90}, {}}, random);
  for (float &q : d.q)
    q *= 100.0f;
  const OnDevice operands(d, Type::F32, Type::F32, false);
  const DeviceValues out(d.q.size(), Type::F32);
  ASSERT_CUDA(operands.run(0, 1, 8, out));
  EXPECT_LE(relativeError(out.values().data(), d.result()), 2e-4); // their own rounding is what the weights show
}

// Few positions of every kind: what a race detector, which takes minutes for the others, gets through.
TEST_F(CudaAttentionTest, SmallOnes) {
  for (const AttentionCase &c : {AttentionCase{4, 2, 64, 16, 0, 0.0f, {70, 3}, {}},
                                 {8, 1, 128, 16, 20, 0.0f, {130}, {}},
                                 {3, 1, 10, 5, 0, 30.0f, {33}, {}}})
    for (int clusterBlocks : {1, 2, 4, 8}) {
      Attention d(c, random);
      d.cache = rounded(d.cache, Type::BF16);
      const OnDevice operands(d, Type::F32, Type::BF16, false);
      const DeviceValues out(d.q.size(), Type::F32);
      ASSERT_CUDA(operands.run(0, int64_t(c.positions.size()), clusterBlocks, out));
      EXPECT_LE(relativeError(out.values().data(), d.result()), 3e-6) << c.dim << ", clusters of " << clusterBlocks;
    }
}

TEST_F(CudaAttentionTest, RefusesWhatItCannotDo) {
  Attention d({2, 1, 64, 16, 0, 0.0f, {3}, {}}, random);
  const OnDevice operands(d, Type::F32, Type::F32, false);
  const DeviceValues out(d.q.size(), Type::F32);
  EXPECT_EQ(operands.run(0, 1, 3, out), cudaErrorInvalidValue);
  EXPECT_CUDA(operands.run(0, 0, 1, out));
  for (float v : out.values())
    EXPECT_TRUE(std::isnan(v));
}

} // namespace
} // namespace distc::cuda
