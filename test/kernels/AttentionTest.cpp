#include "KernelTest.h"

namespace distc::cpu {
namespace {

using reference::Attention;
using reference::AttentionCase;
using reference::attentionCases;

class AttentionTest : public KernelTest {
protected:
  static void run(Attention &d, float *out, int64_t begin, int64_t end) {
    attention(d.q.data(), {d.cache.data(), d.c.kvHeads, d.c.blockTokens, d.c.dim},
              {d.c.heads, d.scale(), d.c.window, d.c.softCap}, d.table.data(), d.blocksPerSequence,
              d.c.sequenceOf.data(), d.c.positions.data(), out, begin, end);
  }
};
DISTC_KERNEL_SUITE(AttentionTest);

TEST_P(AttentionTest, AgreesWithDoubles) {
  for (size_t i = 0; i < attentionCases.size(); ++i) {
    Attention d(attentionCases[i], random);
    Guarded out(d.q.size());
    run(d, out.data(), 0, int64_t(d.c.positions.size()) * d.c.kvHeads);
    EXPECT_LE(relativeError(out.data(), d.result()), 5e-6) << "case " << i;
  }
}

TEST_P(AttentionTest, BitsDependNeitherOnRangeNorOnBlockSize) {
  for (const AttentionCase &c : attentionCases) {
    Attention d(c, random);
    const int64_t items = int64_t(c.positions.size()) * c.kvHeads;
    Guarded all(d.q.size()), parts(d.q.size()), other(d.q.size());
    run(d, all.data(), 0, items);
    for (int64_t i = items; i-- > 0;)
      run(d, parts.data(), i, i + 1);
    EXPECT_TRUE(sameBits(all.data(), parts.data(), all.size()));

    AttentionCase changed = c;
    changed.blockTokens = c.blockTokens + 3;
    Attention moved(changed, random);
    moved.q = d.q;
    for (size_t t = 0; t < c.positions.size(); ++t)
      for (int64_t p = 0; p <= c.positions[t]; ++p)
        for (int64_t part = 0; part < 2 * c.kvHeads; ++part)
          std::copy_n(d.at(int64_t(t), p, part), c.dim, moved.at(int64_t(t), p, part));
    run(moved, other.data(), 0, items);
    EXPECT_TRUE(sameBits(all.data(), other.data(), all.size()));
  }
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  Attention d({2, 1, 64, 16, 0, 0.0f, {90}, {}}, random);
  for (float &q : d.q)
    q *= 100.0f;
  Guarded out(d.q.size());
  run(d, out.data(), 0, 1);
  // Scores of some hundreds: their own rounding is what the weights show.
  EXPECT_LE(relativeError(out.data(), d.result()), 2e-4);
}

} // namespace
} // namespace distc::cpu
