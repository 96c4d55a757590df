// Instructions that are wrong in themselves: operands, shapes, types.
#include "Mutants.h"

namespace distc::test {
namespace {

std::vector<Mutant> mutants() {
  return {
      {"OperandOutOfRange",
       "index-range",
       {"input 999"},
       [](ValidSet &s) { s.op<plan::LinearT>(1, 0, "q").input = 999; }},
      {"WeightOutOfRange",
       "index-range",
       {"weight 4000000000"},
       [](ValidSet &s) { s.op<plan::LinearT>(1, 0, "q").weight = 4000000000u; }},
      {"BiasOutOfRange", "index-range", {"bias -7"}, [](ValidSet &s) { s.op<plan::LinearT>(1, 0, "q").bias = -7; }},
      {"PeerIsItself", "index-range", {"peer"}, [](ValidSet &s) { s.op<plan::SendT>(0, 0, "boundary").peer = 0; }},
      {"SameIdTwice", "index-range", {"same id"}, [](ValidSet &s) { s.instruction(0, 1, "q").id = 0; }},
      {"BufferOfAnotherSize",
       "buffer-size",
       {"expected 512"},
       [](ValidSet &s) {
         plan::Buffer &b = s.rank(0).programs[0]->buffers[0];
         b = changed(b, b.offset(), b.bytes() - 4, b.row_elements());
       }},
      {"BufferBeyondTheArena",
       "buffer-bounds",
       {"arena"},
       [](ValidSet &s) {
         plan::Buffer &b = s.rank(0).programs[0]->buffers[0];
         b = changed(b, uint64_t(1) << 40, b.bytes(), b.row_elements());
       }},
      {"WidthOfALinear",
       "shape-mismatch",
       {"Linear, q", "'gate'"},
       [](ValidSet &s) { s.op<plan::LinearT>(0, 0, "q").weight = s.op<plan::LinearT>(0, 0, "gate").weight; }},
      {"NormOfNoWholeParts",
       "shape-mismatch",
       {"RmsNorm, q.norm", "rows of 8 elements, expected a multiple of 16"},
       [](ValidSet &s) { s.op<plan::RmsNormT>(0, 0, "q.norm").weight = s.op<plan::RmsNormT>(0, 0, "norm1").weight; }},
      {"ColumnOfNoSquares",
       "shape-mismatch",
       {"RmsNorm, q.all", "column 2"},
       [](ValidSet &s) { s.op<plan::RmsNormT>(0, 0, "q.all").column = 2; }},
      {"SquaresOfMoreThanThereAre",
       "index-range",
       {"squares"},
       [](ValidSet &s) { s.op<plan::RmsNormT>(0, 0, "q.all").squares = -7; }},
      {"SquareSumOfOneInputInTwoColumns",
       "shape-mismatch",
       {"SquareSum, squares", "one for each input"},
       [](ValidSet &s) { s.op<plan::SquareSumT>(0, 0, "squares").b = -1; }},
      {"FactorThatIsNone",
       "shape-mismatch",
       {"Scale, o.scale", "factor"},
       [](ValidSet &s) { s.op<plan::ScaleT>(0, 0, "o.scale").factor = std::numeric_limits<float>::infinity(); }},
      {"CapOfNothing",
       "shape-mismatch",
       {"SoftCap, cap", "cap is not a positive number"},
       [](ValidSet &s) { s.op<plan::SoftCapT>(3, 0, "cap").cap = 0; }},
      {"ANormOfHalfType",
       "dtype-mismatch",
       {"RmsNorm, norm1", "weight 'norm1' is F16, expected F32 for a norm or a bias"},
       [](ValidSet &s) {
         plan::WeightT &norm = s.weight(0, "norm1");
         norm.dtype = plan::DType::F16;
         norm.bytes /= 2;
       }},
      {"BiasOfALayerNorm",
       "shape-mismatch",
       {"LayerNorm, norm1", "expected 96 (the elements of the bias)"},
       [](ValidSet &s) { toLayerNorm(s, 0, 0, "gate"); }},
      {"UnknownActivation",
       "shape-mismatch",
       {"Activate, glu", "unknown activation"},
       [](ValidSet &s) {
         const plan::GluT glu = s.op<plan::GluT>(0, 0, "glu");
         plan::ActivateT op;
         op.input = glu.gate;
         op.out = glu.out;
         op.activation = static_cast<plan::Activation>(9);
         s.instruction(0, 0, "glu").op.Set(op);
       }},
      {"FewerPositionsThanASequenceHas",
       "shape-mismatch",
       {"PositionEmbedding, add1", "expected a row for each of"},
       [](ValidSet &s) {
         const plan::AddT add = s.op<plan::AddT>(0, 0, "add1");
         plan::PositionEmbeddingT op;
         op.input = add.a;
         op.out = add.out;
         op.weight = s.op<plan::LinearT>(0, 0, "o").weight;
         s.instruction(0, 0, "add1").op.Set(op);
       }},
      {"SetsOfARopeTableThatDoNotIncrease",
       "rope",
       {"more than [4, 3] tokens", "increasing"},
       [](ValidSet &s) {
         plan::RopeTableT &table = *s.rank(0).rope_tables[0];
         const std::vector<double> set = table.inv_freq;
         for (int i = 0; i < 2; ++i)
           table.inv_freq.insert(table.inv_freq.end(), set.begin(), set.end());
         table.over = {4, 3};
         s.rank(0).ledger->tables *= 3;
       }},
      {"SetsOfARopeTableOfTwoSizes",
       "rope",
       {"expected sets of one size"},
       [](ValidSet &s) { s.rank(0).rope_tables[0]->over = {2, 3}; }},
      {"HeadsOfARope", "shape-mismatch", {"q.rope"}, [](ValidSet &s) { s.op<plan::RopeT>(0, 0, "q.rope").heads = 1; }},
      {"HeadsOfNoElements",
       "shape-mismatch",
       {"q.rope"},
       [](ValidSet &s) { s.op<plan::RopeT>(0, 0, "q.rope").head_dim = 0; }},
      {"RowsOfOutputsForTokens",
       "rows-mismatch",
       {"Rope, q.rope"},
       [](ValidSet &s) {
         plan::Buffer &b = s.rank(0).programs[0]->buffers[s.op<plan::RopeT>(0, 0, "q.rope").out];
         b = plan::Buffer(b.offset(), b.bytes() / 4, b.row_elements(), -1, 1, 1, 0, 1, plan::RowUnit::Outputs,
                          b.dtype());
       }},
      {"IdsThatAreFloats",
       "dtype-mismatch",
       {"EmitIds", "expected I32"},
       [](ValidSet &s) {
         plan::Buffer &b = s.rank(0).programs[0]->buffers[s.op<plan::EmitIdsT>(0, 0, "emit.ids").input];
         b = plan::Buffer(b.offset(), b.bytes(), b.row_elements(), -1, 1, 1, 0, 1, b.rows(), plan::DType::F32);
       }},
      {"WaitForALaterEvent",
       "event",
       {"event", "no instruction before"},
       [](ValidSet &s) {
         auto &waits = s.instruction(0, 0, "embed").waits;
         waits.push_back(static_cast<uint32_t>(s.instruction(0, 0, "embed").signal));
       }},
      {"EventThatIsNeverSignalled", "event", {"never"}, [](ValidSet &s) { ++s.rank(0).programs[0]->events; }},
      {"EventThatIsSignalledTwice",
       "event",
       {"as rank 0", "does"},
       [](ValidSet &s) { s.instruction(0, 0, "q").signal = s.instruction(0, 0, "embed").signal; }},
  };
}

INSTANTIATE_TEST_SUITE_P(Instructions, Mutants, testing::ValuesIn(mutants()), nameOf);

} // namespace
} // namespace distc::test
