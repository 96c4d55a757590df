// Ranks, layers and programs that compute something else than the others.
#include "Mutants.h"

namespace distc::test {
namespace {

std::vector<Mutant> mutants() {
  return {
      {"SwappedSlicesOfOneWeight",
       "slice-alignment",
       {"Linear, down", "weight 'down'"},
       [](ValidSet &s) { swapSlices(s, "down"); }},
      {"GateAndUpOfOtherColumns", "slice-alignment", {"Glu"}, [](ValidSet &s) { swapSlices(s, "up"); }},
      {"QueryHeadsOfAnotherRank",
       "slice-alignment",
       {"weight 'o'"},
       [](ValidSet &s) {
         swapSlices(s, "q");
         swapSlices(s, "q.all");
       }},
      {"HeadsCutInHalves",
       "attention-heads",
       {"cut a head of 4"},
       [](ValidSet &s) {
         for (uint32_t r : {0u, 1u})
           s.weight(r, "q").sources[0]->dims[1]->segments = {{2, 2}, {0, 2}};
       }},
      {"NormOfHeadsInAnotherOrder",
       "slice-alignment",
       {"RmsNorm, q.norm", "expected all of them"},
       [](ValidSet &s) {
         for (uint32_t r : {0u, 1u})
           s.weight(r, "q.norm").sources[0]->dims[0]->segments = {{2, 2}, {0, 2}};
       }},
      {"NormOfOtherHeads",
       "slice-alignment",
       {"RmsNorm, q.all", "weight 'q.all'"},
       [](ValidSet &s) { swapSlices(s, "q"); }},
      {"SquaresOfAnotherValue",
       "slice-alignment",
       {"RmsNorm, k.all", "column 0", "is not the sum of squares"},
       [](ValidSet &s) { s.op<plan::RmsNormT>(0, 0, "k.all").column = 0; }},
      {"SquaresOfWhatIsWrittenAgain",
       "slice-alignment",
       {"RmsNorm, q.all", "column 0", "is not the sum of squares"},
       [](ValidSet &s) {
         for (uint32_t r : {0u, 1u})
           swapInstructions(*s.rank(r).programs[0], s.place(r, 0, "q.norm"), s.place(r, 0, "squares"));
       }},
      {"SquaresOfPaddingToo",
       "slice-alignment",
       {"RmsNorm, q.all", "those of 16 elements, expected 12"},
       [](ValidSet &s) { s.op<plan::RmsNormT>(1, 0, "q.all").elements = 16; }},
      {"SquaresOfOneCopy",
       "slice-alignment",
       {"RmsNorm, k.all", "those of 4 elements, expected 8"},
       [](ValidSet &s) { s.op<plan::RmsNormT>(1, 1, "k.all").elements = 4; }},
      {"SquaresThatAreNotSummed",
       "partial-value",
       {"RmsNorm, q.all"},
       [](ValidSet &s) {
         for (uint32_t r = 0; r < 4; ++r)
           removeOp(s, r, 0, "squares.reduce");
       }},
      {"HeadOfOtherIds",
       "vocabulary-slice",
       {"Embedding"},
       [](ValidSet &s) { s.op<plan::EmbeddingT>(1, 0, "embed").first_row = 6; }},
      {"CandidatesOfOtherIds",
       "vocabulary-slice",
       {"ids 0 to 6"},
       [](ValidSet &s) { s.op<plan::TopCandidatesT>(3, 0, "candidates").first_id = 0; }},
      {"PaddingAmongTheLogits",
       "shape-mismatch",
       {"ids 7 to 14", "vocabulary of 13"},
       [](ValidSet &s) { s.op<plan::EmitLogitsT>(3, 0, "emit.logits").valid = 7; }},
      {"NotSummed",
       "partial-value",
       {"add1"},
       [](ValidSet &s) {
         for (uint32_t r = 0; r < 4; ++r)
           removeOp(s, r, 0, "o.reduce");
       }},
      {"RopeTableOfOneRank",
       "rope",
       {"rank 3", "queries of layer 1", "those of layer 0"},
       [](ValidSet &s) { s.rank(3).rope_tables[0]->inv_freq[1] *= 1.0001; }},
      {"RopeTableOfOneStage",
       "rope",
       {"rank 2", "queries of layer 1", "those of layer 0"},
       [](ValidSet &s) {
         for (uint32_t r : {2u, 3u})
           s.rank(r).rope_tables[0]->inv_freq[1] *= 1.0001;
       }},
      {"KeysOfAnotherRopeTable",
       "rope",
       {"queries of layer 0", "its keys"},
       [](ValidSet &s) {
         for (uint32_t r : {0u, 1u}) {
           plan::PlanT &plan = s.rank(r);
           plan.rope_tables.push_back(std::make_unique<plan::RopeTableT>(*plan.rope_tables[0]));
           plan.rope_tables[1]->inv_freq[1] = .5;
           plan.ledger->tables *= 2;
           for (uint32_t p : {0u, 1u})
             s.op<plan::RopeT>(r, p, "k.rope").table = 1;
         }
       }},
      {"ParametersOfTheModel",
       "weight-coverage",
       {"elements, expected the model's"},
       [](ValidSet &s) {
         for (uint32_t r = 0; r < 4; ++r)
           ++s.rank(r).model->parameters;
       }},
      {"TensorsInOnePlace",
       "weight-file",
       {"'layers.0.gate'", "'layers.0.up'", "overlap"},
       [](ValidSet &s) {
         for (uint32_t r = 0; r < 4; ++r) {
           auto &tensors = s.rank(r).tensors;
           const auto named = [&](const std::string &name) -> plan::SourceTensorT & {
             return **std::find_if(tensors.begin(), tensors.end(), [&](auto &tensor) { return tensor->name == name; });
           };
           named("layers.0.up").offset = named("layers.0.gate").offset;
         }
       }},
      {"AttributeOfOneRank",
       "value-mismatch",
       {"rank 1, prefill program 0", "RmsNorm, norm1", "ranks of a stage"},
       [](ValidSet &s) { s.op<plan::RmsNormT>(1, 0, "norm1").eps *= 2; }},
      {"AttributeOfOneProgram",
       "value-mismatch",
       {"rank 0, decode program 1", "Attention, attention", "all programs"},
       [](ValidSet &s) {
         for (uint32_t r = 0; r < 4; ++r)
           s.op<plan::AttentionT>(r, 1, "attention").scale = .25;
       }},
      {"GateAndUpSwappedInOneProgram",
       "value-mismatch",
       {"Glu, glu", "all programs"},
       [](ValidSet &s) {
         for (uint32_t r = 0; r < 4; ++r) {
           auto &glu = s.op<plan::GluT>(r, 0, "glu");
           std::swap(glu.gate, glu.up);
         }
       }},
      {"WeightThatNothingUses",
       "weight-unused",
       {"weight 'up'"},
       [](ValidSet &s) {
         for (uint32_t r = 0; r < 4; ++r)
           for (uint32_t p : {0u, 1u})
             s.op<plan::LinearT>(r, p, "up").weight = s.op<plan::LinearT>(r, p, "gate").weight;
       }},
      {"RopeTableThatNothingUses",
       "rope",
       {"no instruction uses rope table 1"},
       [](ValidSet &s) {
         plan::PlanT &plan = s.rank(0);
         plan.rope_tables.push_back(std::make_unique<plan::RopeTableT>(*plan.rope_tables[0]));
         plan.ledger->tables *= 2;
       }},
      {"DecodeWithoutLogits",
       "host-exchange",
       {"rank 3", "0 EmitLogits"},
       [](ValidSet &s) { removeOp(s, 3, 1, "emit.logits"); }},
      {"ColumnWithoutSquares",
       "shape-mismatch",
       {"column 1 and 0 elements of no squares"},
       [](ValidSet &s) { s.op<plan::RmsNormT>(0, 0, "norm1").column = 1; }},
      {"SumOverAGroupOfOne",
       "partial-value",
       {"add1"},
       [](ValidSet &s) {
         for (uint32_t r = 0; r < 4; ++r) {
           auto alone = std::make_unique<plan::GroupT>();
           alone->name = "alone" + std::to_string(r);
           alone->ranks = {r};
           s.rank(r).groups.push_back(std::move(alone));
           s.op<plan::AllReduceT>(r, 0, "o.reduce").group = 2;
           s.op<plan::AllReduceT>(r, 0, "o.reduce").sequence = 0;
           uint32_t sequence = 0;
           for (auto &it : s.rank(r).programs[0]->instructions)
             if (auto *reduce = it->op.AsAllReduce(); reduce && reduce->group == 0)
               reduce->sequence = sequence++;
             else if (auto *gather = it->op.AsAllGather())
               gather->sequence = sequence++;
         }
       }},
      {"WeightOfOtherTensorsOnOneRank",
       "weight-declaration",
       {"'gate'", "layers.0.up", "layers.0.gate"},
       [](ValidSet &s) { std::swap(s.weight(1, "gate").sources[0]->tensor, s.weight(1, "up").sources[0]->tensor); }},
      {"HiddenOfTheModel",
       "shape-mismatch",
       {"expected 17 (hidden, of the model)"},
       [](ValidSet &s) {
         for (uint32_t r = 0; r < 4; ++r)
           ++s.rank(r).model->hidden;
       }},
      {"BiasAddedByAllRanks",
       "partial-value",
       {"'o.bias'"},
       [](ValidSet &s) {
         for (uint32_t r = 0; r < 4; ++r) {
           s.weight(r, "o.bias").sources[0]->dims[0]->segments = {{0, 16}};
           s.weight(r, "o.bias").copies = 2;
         }
       }},
  };
}

INSTANTIATE_TEST_SUITE_P(Values, Mutants, testing::ValuesIn(mutants()), nameOf);

} // namespace
} // namespace distc::test
