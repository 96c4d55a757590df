// What the tables of one rank say wrong: mesh, groups, KV cache, ledger, weights.
#include "Mutants.h"

namespace distc::test {
namespace {

std::vector<Mutant> mutants() {
  return {
      {"RankIsNotItsPlaceInTheMesh",
       "mesh",
       {"rank is 3", "expected 2"},
       [](ValidSet &s) { s.rank(2).mesh->rank = 3; }},
      {"LayerBeyondTheModel", "mesh", {"layers 1 to 3"}, [](ValidSet &s) { s.rank(2).mesh->layers = 2; }},
      {"GroupOfOtherRanks",
       "group",
       {"'tp'", "expected [2, 3]"},
       [](ValidSet &s) { s.rank(2).groups[0]->ranks = {2, 1}; }},
      {"AGroupOfTheMeshIsMissing",
       "group",
       {"group 'pp' [0, 2] is missing"},
       [](ValidSet &s) { s.rank(0).groups[1]->name = "other"; }},
      {"KvBlocksOfASequence",
       "kv",
       {"blocks_per_sequence is 2", "expected 3"},
       [](ValidSet &s) { s.rank(0).kv->blocks_per_sequence = 2; }},
      {"KvBytes", "kv", {"layer 0", "bytes is"}, [](ValidSet &s) { s.rank(0).kv->caches[0]->bytes -= 4; }},
      {"LedgerOfTheArena", "ledger", {"ledger.arena"}, [](ValidSet &s) { s.rank(1).ledger->arena += 16; }},
      {"LedgerOfTheWeights",
       "ledger",
       {"weights_loaded"},
       [](ValidSet &s) { s.rank(1).ledger->weights_loaded -= 256; }},
      {"LedgerOfMappedWeights",
       "ledger",
       {"weights_mapped"},
       [](ValidSet &s) { s.rank(3).ledger->weights_mapped += 1; }},
      {"LedgerOfTables", "ledger", {"tables"}, [](ValidSet &s) { s.rank(0).ledger->tables += 8; }},
      {"TensorBeyondTheFile",
       "weight-file",
       {"'final'", "outside"},
       [](ValidSet &s) { s.rank(0).tensors.back()->offset += uint64_t(1) << 40; }},
      {"TensorOfAnotherSize", "weight-shape", {"'embed'"}, [](ValidSet &s) { s.rank(0).tensors[0]->bytes -= 4; }},
      {"SliceBeyondTheView",
       "weight-slice",
       {"'gate'", "dimension 0", "[6, 16) of 10"},
       [](ValidSet &s) { setSegment(s, 1, "gate", 0, std::nullopt, 10); }},
      {"SliceThatOverflows",
       "weight-slice",
       {"'gate'"},
       [](ValidSet &s) { setSegment(s, 0, "gate", 0, kZeroFill - 2, std::nullopt); }},
      {"TooFewElements",
       "weight-slice",
       {"'up'", "64 elements", "[6, 16] needs 96"},
       [](ValidSet &s) { setSegment(s, 0, "up", 0, std::nullopt, 4); }},
      {"OverlappingWeights",
       "weight-memory",
       {"'q'", "overlap"},
       [](ValidSet &s) { s.weight(0, "q").offset = s.weight(0, "norm1").offset; }},
      {"MoreDimensionsLastThanThereAre",
       "weight-slice",
       {"'gate'", "2 dimensions of the view [10, 16] come last"},
       [](ValidSet &s) { s.weight(0, "gate").sources[0]->transposed = 2; }},
      {"MappedTransposed",
       "weight-map",
       {"'final'", "transposed"},
       [](ValidSet &s) {
         auto &source = *s.weight(3, "final").sources[0];
         source.view = {16, 1};
         source.dims.push_back(std::make_unique<plan::DimSliceT>());
         source.dims[1]->segments = {{0, 1}};
         source.transposed = 1;
       }},
      {"MappedWithPadding",
       "weight-map",
       {"'final'", "not one range"},
       [](ValidSet &s) { s.weight(3, "final").sources[0]->dims[0]->segments = {{0, 15}, {kZeroFill, 1}}; }},
  };
}

INSTANTIATE_TEST_SUITE_P(Tables, Mutants, testing::ValuesIn(mutants()), nameOf);

} // namespace
} // namespace distc::test
