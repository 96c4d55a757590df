// Ranks that do not hold every weight as they should, or were compiled with other limits.
#include "Mutants.h"

namespace distc::test {
namespace {

std::vector<Mutant> mutants() {
  return {
      {"OtherLimits",
       "set-mismatch",
       {"max_tokens"},
       [](ValidSet &s) {
         s.rank(1).limits->max_tokens = 4;
         s.rank(1).programs[0]->max_tokens = 4;
         for (plan::Buffer &b : s.rank(1).programs[0]->buffers)
           if (b.rows() == plan::RowUnit::Tokens)
             b = changed(b, b.offset(), b.bytes() / 2, b.row_elements());
       }},
      {"StageWithoutIds", "host-exchange", {"EmitIds"}, [](ValidSet &s) { removeOp(s, 1, 0, "emit.ids"); }},
      {"SliceHeldTwice",
       "weight-coverage",
       {"'layers.0.gate'", "0:6", "2 times", "expected 1"},
       [](ValidSet &s) {
         auto &dims = s.weight(1, "gate").sources[0]->dims[0]->segments;
         dims = {{0, 6}};
       }},
      {"SliceShiftedByOne",
       "weight-coverage",
       {"'layers.1.up'"},
       [](ValidSet &s) { setSegment(s, 2, "up", 0, 1, std::nullopt); }},
      {"PaddingInsteadOfData",
       "weight-coverage",
       {"'layers.0.down'", "held 0 times"},
       [](ValidSet &s) { s.weight(1, "down").sources[0]->dims[1]->segments = {{6, 3}, {kZeroFill, 3}}; }},
      {"SplitInsteadOfReplicated",
       "weight-coverage",
       {"norm1", "1 times", "expected 2"},
       [](ValidSet &s) { s.weight(1, "norm1").sources[0]->dims[0]->segments = {{kZeroFill, 16}}; }},
      {"TransposedOnOneRank",
       "weight-coverage",
       {"'layers.0.gate'", "rank 1 reads it as [10, 16], 1 dimensions last in the tensor"},
       [](ValidSet &s) { s.weight(1, "gate").sources[0]->transposed = 1; }},
      {"FusedPartTransposed",
       "weight-coverage",
       {"reads it transposed in another way"},
       [](ValidSet &s) {
         for (uint32_t r : {0u, 1u})
           s.weight(r, "v").sources[0]->transposed = 1;
       }},
      {"FusedPartTakenTwice",
       "weight-coverage",
       {"'layers.0.kv'", "two weights"},
       [](ValidSet &s) {
         for (uint32_t r : {0u, 1u})
           setSegment(s, r, "v", 0, 0, std::nullopt);
       }},
      {"FusedPartTakenByNone",
       "weight-coverage",
       {"'layers.0.kv'", "64 to 80 are held by no weight"},
       [](ValidSet &s) {
         for (uint32_t r : {0u, 1u})
           s.weight(r, "v").sources[0]->dims[0]->segments = {{5, 3}, {kZeroFill, 1}};
       }},
      {"WeightMissingOnARank",
       "weight-declaration",
       {"'final'", "rank 3"},
       [](ValidSet &s) { s.weight(3, "final").name = "other"; }},
      {"TensorElsewhere",
       "weight-declaration",
       {"'layers.0.q'"},
       [](ValidSet &s) { s.rank(1).tensors[3]->offset -= 4; }},
  };
}

INSTANTIATE_TEST_SUITE_P(Slices, Mutants, testing::ValuesIn(mutants()), nameOf);

} // namespace
} // namespace distc::test
