// The verifier accepts a valid set, and of each of many seeded faults says what it is and where.
#include "runtime/verify/Verify.h"
#include "ValidSet.h"
#include "exec/TinyModel.h"

#include <gmock/gmock.h>

#include <functional>
#include <optional>

namespace distc::test {

namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string textOf(const std::vector<Violation> &violations) {
  std::string text;
  for (const Violation &v : violations)
    text += v.kind + ": " + v.message + "\n";
  return text;
}

TEST(Verifier, AcceptsAValidSet) {
  for (plan::DType type : {plan::DType::F32, plan::DType::F16, plan::DType::BF16}) {
    ValidSet set(freshSeed(), type);
    EXPECT_EQ(textOf(verifyPlanSet(set.pack())), "") << EnumNameDType(type);
    for (const plan::Plan *plan : set.pack())
      EXPECT_EQ(textOf(verifyPlan(*plan)), "") << EnumNameDType(type);
  }
}

// There is no value that may have another type than it has: all others are tried. Ids are as wide as an F32, the others
// shrink, so that nothing else is wrong.
TEST(Verifier, EveryValueHasTheTypeThatItsInstructionsTake) {
  using plan::DType;
  ValidSet set(freshSeed(), DType::BF16);
  int tried = 0;
  for (uint32_t rank = 0; rank < 4; ++rank)
    for (auto &program : set.rank(rank).programs)
      for (size_t i = 0; i < program->buffers.size(); ++i)
        for (DType type : {DType::F32, DType::F16, DType::BF16, DType::I32}) {
          plan::Buffer &b = program->buffers[i];
          const plan::Buffer old = b;
          if (type == old.dtype() || dtypeBytes(type) > dtypeBytes(old.dtype()))
            continue;
          b = plan::Buffer(old.offset(), old.bytes() / dtypeBytes(old.dtype()) * dtypeBytes(type), old.row_elements(),
                           -1, old.times(), 1, 0, 1, old.rows(), type);
          EXPECT_THAT(textOf(verifyPlanSet(set.pack())), HasSubstr("dtype-mismatch"))
              << "rank " << rank << ", value " << i << ": " << EnumNameDType(old.dtype()) << " as "
              << EnumNameDType(type);
          b = old;
          ++tried;
        }
  EXPECT_GT(tried, 100);
}

/// `norm1` as a LayerNorm with the vector `bias`.
void toLayerNorm(ValidSet &s, uint32_t rank, uint32_t program, const std::string &bias) {
  const plan::RmsNormT norm = s.op<plan::RmsNormT>(rank, program, "norm1");
  plan::LayerNormT op;
  op.input = norm.input;
  op.weight = norm.weight;
  op.out = norm.out;
  op.eps = norm.eps;
  auto &weights = s.rank(rank).weights;
  for (size_t w = 0; w < weights.size(); ++w)
    if (weights[w].get() == &s.weight(rank, bias))
      op.bias = static_cast<int32_t>(w);
  s.instruction(rank, program, "norm1").op.Set(op);
}

TEST(Verifier, AcceptsALayerNorm) {
  ValidSet set(freshSeed());
  for (uint32_t rank = 0; rank < 4; ++rank)
    for (uint32_t program : {0u, 1u})
      toLayerNorm(set, rank, program, "norm2");
  EXPECT_EQ(textOf(verifyPlanSet(set.pack())), "");
}

TEST(Verifier, TheKvCacheMayHaveAnotherFloatType) {
  ValidSet set(freshSeed());
  plan::KvCacheT &cache = *set.rank(1).kv->caches[0];
  cache.bytes /= 2;
  cache.dtype = plan::DType::F16;
  set.rank(1).ledger->kv = cache.bytes;
  EXPECT_EQ(textOf(verifyPlanSet(set.pack())), "");
  cache.bytes *= 2;
  cache.dtype = plan::DType::I32;
  set.rank(1).ledger->kv = cache.bytes;
  EXPECT_THAT(textOf(verifyPlanSet(set.pack())), HasSubstr("kv: rank 1: KV cache of layer 0: dtype 3, expected f32"));
}

TEST(Verifier, OnlyACpuReadsWeightsInTheFile) {
  ValidSet set(freshSeed());
  for (uint32_t rank = 0; rank < 4; ++rank)
    set.rank(rank).target = "sm_90";
  EXPECT_THAT(textOf(verifyPlanSet(set.pack())),
              HasSubstr("weight-map: rank 2: mapped weight 'final': target sm_90 reads no weight in its file"));
}

TEST(Verifier, AllRanksHaveOneTypeOnTheWay) {
  using plan::DType;
  ValidSet set(freshSeed(), DType::BF16);
  plan::ProgramT &program = *set.rank(0).programs[0];
  for (plan::Buffer &b : program.buffers)
    if (b.dtype() == DType::BF16)
      b = plan::Buffer(b.offset(), b.bytes(), b.row_elements(), -1, 1, 1, 0, 1, b.rows(), DType::F16);
  EXPECT_THAT(textOf(verifyPlanSet(set.pack())),
              AllOf(HasSubstr("collective-mismatch"), HasSubstr("send-recv-mismatch"), HasSubstr("F16")));
}

struct Mutant {
  std::string name, kind;
  std::vector<std::string> words; // that the message must hold
  std::function<void(ValidSet &)> seed;
};

void PrintTo(const Mutant &mutant, std::ostream *out) { *out << mutant.name; }

plan::Buffer changed(const plan::Buffer &b, uint64_t offset, uint64_t bytes, uint32_t width) {
  return plan::Buffer(offset, bytes, width, b.parent(), b.times(), b.shards(), b.chunk(), b.chunks(), b.rows(),
                      b.dtype());
}

void move(ValidSet &set, uint32_t rank, uint32_t program, uint32_t buffer, uint64_t offset) {
  plan::ProgramT &p = *set.rank(rank).programs[program];
  const plan::Buffer old = p.buffers[buffer];
  p.buffers[buffer] = changed(old, offset, old.bytes(), old.row_elements());
  p.arena_bytes = std::max(p.arena_bytes, offset + old.bytes());
  set.rank(rank).ledger->arena = std::max(set.rank(rank).ledger->arena, p.arena_bytes);
}

void swapInstructions(plan::ProgramT &program, size_t a, size_t b) {
  std::swap(program.instructions[a]->op, program.instructions[b]->op);
  std::swap(program.labels[a], program.labels[b]);
}

/// The first segment of a dimension, with another begin or count.
void setSegment(ValidSet &set, uint32_t rank, const std::string &weight, size_t dim, std::optional<uint64_t> begin,
                std::optional<uint64_t> count) {
  plan::Segment &segment = set.weight(rank, weight).sources[0]->dims[dim]->segments[0];
  segment = {begin.value_or(segment.begin()), count.value_or(segment.count())};
}

void swapSlices(ValidSet &set, const std::string &weight, uint32_t a = 0, uint32_t b = 1) {
  std::swap(set.weight(a, weight).sources[0]->dims, set.weight(b, weight).sources[0]->dims);
}

void removeOp(ValidSet &set, uint32_t rank, uint32_t program, const std::string &label) {
  plan::ProgramT &p = *set.rank(rank).programs[program];
  const size_t at = set.place(rank, program, label);
  // Its events go to the instruction before, so that the order of the others stays proven.
  auto &removed = *p.instructions[at];
  auto &before = *p.instructions[at - 1];
  if (removed.signal >= 0 && before.signal < 0) {
    before.signal = removed.signal;
  } else if (removed.signal >= 0) {
    for (auto &it : p.instructions)
      for (uint32_t &wait : it->waits)
        if (wait == uint32_t(removed.signal))
          wait = uint32_t(before.signal);
    for (auto &it : p.instructions) {
      for (uint32_t &wait : it->waits)
        wait -= wait > uint32_t(removed.signal);
      if (it->signal > removed.signal && it.get() != &removed)
        --it->signal;
    }
    --p.events;
  }
  p.instructions.erase(p.instructions.begin() + at);
  p.labels.erase(p.labels.begin() + at);
  uint32_t sequence = 0;
  for (auto &it : p.instructions)
    if (auto *reduce = it->op.AsAllReduce())
      reduce->sequence = sequence++;
    else if (auto *gather = it->op.AsAllGather())
      gather->sequence = sequence++;
}

std::vector<Mutant> mutants() {
  return {
      // One rank: tables.
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
      // One rank: weights.
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
      // One rank: instructions.
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
      // One rank: memory over time.
      {"ReadBeforeWrite",
       "read-before-write",
       {"Linear, k"},
       [](ValidSet &s) { s.op<plan::LinearT>(0, 0, "k").input = s.op<plan::AddT>(0, 0, "add1").out; }},
      {"MissingWait",
       "unordered-access",
       {"expected an event"},
       [](ValidSet &s) { s.instruction(0, 0, "add1").waits.clear(); }},
      {"LiveValuesOverlap",
       "buffer-overlap",
       {"overlap"},
       [](ValidSet &s) {
         move(s, 0, 0, s.op<plan::LinearT>(0, 0, "k").out,
              s.rank(0).programs[0]->buffers[s.op<plan::LinearT>(0, 0, "q").out].offset());
       }},
      {"LinearInPlace",
       "in-place",
       {"Linear, q"},
       [](ValidSet &s) {
         move(s, 0, 0, s.op<plan::LinearT>(0, 0, "o").out,
              s.rank(0).programs[0]->buffers[s.op<plan::LinearT>(0, 0, "o").input].offset());
         move(s, 0, 0, s.op<plan::LinearT>(0, 0, "q").out,
              s.rank(0).programs[0]->buffers[s.op<plan::LinearT>(0, 0, "q").input].offset());
       }},
      {"InPlaceAtAnotherOffset",
       "in-place",
       {"Add, add1"},
       [](ValidSet &s) {
         const auto &add = s.op<plan::AddT>(0, 0, "add1");
         const auto &buffers = s.rank(0).programs[0]->buffers;
         move(s, 0, 0, add.out, buffers[add.out].offset() + 16);
       }},
      {"ComputeOnTheOtherQueue",
       "queue",
       {"Add", "on queue 1, expected 0"},
       [](ValidSet &s) { s.rank(0).programs[0]->instructions[s.place(0, 0, "add1")]->queue = 1; }},
      {"CollectiveAmongComputation",
       "queue",
       {"AllReduce", "on queue 0, expected 1"},
       [](ValidSet &s) { s.rank(0).programs[0]->instructions[s.place(0, 0, "embed.reduce")]->queue = 0; }},
      {"AttentionBeforeAppend",
       "kv-order",
       {"layer 1"},
       [](ValidSet &s) {
         swapInstructions(*s.rank(2).programs[1], s.place(2, 1, "append"), s.place(2, 1, "attention"));
       }},
      {"NoAppend", "kv-order", {"appended by 0"}, [](ValidSet &s) { removeOp(s, 2, 1, "append"); }},
      // All ranks.
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
      // Weights between ranks.
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
      // Exchange between ranks.
      {"CollectiveOfAnotherOp",
       "collective-mismatch",
       {"(sum)", "(max)"},
       [](ValidSet &s) { s.op<plan::AllReduceT>(1, 0, "o.reduce").op = plan::ReduceOp::Max; }},
      {"CollectivesOutOfSequence",
       "collective-mismatch",
       {"number 3", "expected 2"},
       [](ValidSet &s) {
         std::swap(s.op<plan::AllReduceT>(1, 0, "o.reduce").sequence,
                   s.op<plan::AllReduceT>(1, 0, "down.reduce").sequence);
       }},
      {"CollectiveMissingOnOneRank",
       "collective-mismatch",
       {"AllReduce, down.reduce", "AllGather, gather"},
       [](ValidSet &s) { removeOp(s, 3, 0, "down.reduce"); }},
      {"LastCollectiveMissingOnOneRank",
       "collective-mismatch",
       {"no counterpart"},
       [](ValidSet &s) { removeOp(s, 1, 0, "down.reduce"); }},
      {"SendWithoutReceive",
       "send-recv-mismatch",
       {"rank 2 sends 2 times", "receives 1 times"},
       [](ValidSet &s) {
         plan::ProgramT &p = *s.rank(2).programs[0];
         auto again = std::make_unique<plan::InstructionT>();
         again->id = 1000;
         again->queue = 1;
         plan::SendT send = s.op<plan::SendT>(2, 0, "ids");
         send.sequence = 1;
         again->op.Set(std::move(send));
         p.instructions.push_back(std::move(again));
         p.labels.push_back("ids.again");
       }},
      {"ReceiveOfAnotherNumber",
       "send-recv-mismatch",
       {"number 0 from rank 0 to rank 2"},
       [](ValidSet &s) { s.op<plan::RecvT>(2, 0, "boundary").sequence = 1; }},
      {"DeadlockByOrder",
       "deadlock",
       {"wait for ever", "waits for"},
       [](ValidSet &s) {
         // Stage 0 waits for the ids before it sends what they are made from.
         for (uint32_t r : {0u, 1u}) {
           move(s, r, 0, s.op<plan::RecvT>(r, 0, "ids").out, s.rank(r).programs[0]->arena_bytes / 16 * 16 + 16);
           swapInstructions(*s.rank(r).programs[0], s.place(r, 0, "boundary"), s.place(r, 0, "ids"));
         }
       }},
      // Values between ranks.
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

class Mutants : public testing::TestWithParam<Mutant> {};

TEST_P(Mutants, IsRejected) {
  const Mutant &mutant = GetParam();
  ValidSet set(freshSeed());
  mutant.seed(set);
  const std::vector<Violation> violations = verifyPlanSet(set.pack());
  ASSERT_FALSE(violations.empty());
  const auto it = std::find_if(violations.begin(), violations.end(), [&](const Violation &v) {
    return v.kind == mutant.kind && std::all_of(mutant.words.begin(), mutant.words.end(), [&](const std::string &word) {
             return v.message.find(word) != std::string::npos;
           });
  });
  EXPECT_NE(it, violations.end()) << "expected " << mutant.kind << ", got\n" << textOf(violations);
}

INSTANTIATE_TEST_SUITE_P(Seeded, Mutants, testing::ValuesIn(mutants()),
                         [](const auto &info) { return info.param.name; });

/// The plans of a TinyModel as a verifier sees them.
struct Packed {
  std::vector<std::vector<uint8_t>> payloads;
  std::vector<const plan::Plan *> plans;

  explicit Packed(TinyModel &model) {
    for (const plan::PlanT *plan : model.plans())
      payloads.push_back(packPayload(*plan));
    for (const auto &payload : payloads)
      plans.push_back(flatbuffers::GetRoot<plan::Plan>(payload.data()));
  }
};

std::string verdict(TinyModel &model) { return textOf(verifyPlanSet(Packed(model).plans)); }

TEST(Verifier, ChunksAreAllWrittenBeforeTheWholeIsRead) {
  TinyModel model(freshSeed(), {.tp = 2, .chunked = true});
  EXPECT_EQ(verdict(model), "");
  auto &program = *model.plans()[0]->programs[0];
  program.instructions[1]->op.AsEmbedding()->out = program.instructions[0]->op.AsEmbedding()->out;
  EXPECT_THAT(verdict(model), AllOf(HasSubstr("read-before-write"), HasSubstr("embed.reduce")));
}

TEST(Verifier, MicroBatchesHaveTheirSlots) {
  const auto change = [](auto seed) {
    TinyModel model(1, {.tp = 2, .microBatches = 3});
    EXPECT_EQ(verdict(model), "");
    seed(model.plans());
    return verdict(model);
  };
  using Plans = std::vector<plan::PlanT *>;
  const auto withLedger = [](const Plans &plans) { // as it would have to be
    for (plan::PlanT *plan : plans) {
      plan->ledger->arena = 0;
      for (const auto &program : plan->programs)
        plan->ledger->arena = std::max(plan->ledger->arena, program->arena_bytes * program->micro_batches);
    }
  };
  const auto each = [](const Plans &plans, uint16_t count) {
    for (plan::PlanT *plan : plans)
      plan->programs[1]->micro_batches = count;
  };
  EXPECT_THAT(change([&](const Plans &plans) { each(plans, 0), withLedger(plans); }),
              AllOf(HasSubstr("limits"), HasSubstr("0 micro-batches")));
  EXPECT_THAT(change([&](const Plans &plans) { each(plans, 257), withLedger(plans); }),
              AllOf(HasSubstr("limits"), HasSubstr("1 to 256 micro-batches")));
  EXPECT_EQ(change([&](const Plans &plans) { each(plans, 256), withLedger(plans); }), "");
  EXPECT_THAT(change([&](const Plans &plans) { plans[1]->programs[1]->micro_batches = 2; }),
              AllOf(HasSubstr("set-mismatch"), HasSubstr("micro_batches")));
  EXPECT_THAT(change([](const Plans &plans) { plans[0]->ledger->arena /= 3; }),
              AllOf(HasSubstr("ledger"), HasSubstr("arena_bytes x micro_batches")));
  EXPECT_THAT(change([&](const Plans &plans) { plans[0]->programs[0]->arena_bytes += 8, withLedger(plans); }),
              AllOf(HasSubstr("limits"), HasSubstr("expected a multiple of 16")));
}

TEST(Verifier, ScatteredRowsAreGatheredAsTheyWere) {
  TinyModel model(freshSeed(), {.tp = 2, .scattered = true});
  EXPECT_EQ(verdict(model), "");
  for (auto &instruction : model.plans()[0]->programs[0]->instructions)
    if (auto *gather = instruction->op.AsAllGather())
      if (gather->sequence < 5)
        gather->input = gather->out;
  EXPECT_THAT(verdict(model), HasSubstr("rows-mismatch"));
}

TEST(Verifier, MappedRowsAreWhereTheyAreSaidToBe) {
  TinyModel model(freshSeed(), {.tp = 2, .mapped = true});
  EXPECT_EQ(verdict(model), "");
  for (auto &weight : model.plans()[1]->weights)
    if (weight->name == "layers.1.down")
      weight->row_stride += 1;
  EXPECT_THAT(verdict(model), AllOf(HasSubstr("weight-map"), HasSubstr("layers.1.down")));
}

TEST(Verifier, QuantizedBlocksAreTakenWhole) {
  const auto change = [](const std::string &name, auto &&with) {
    TinyModel model(freshSeed(), {.tp = 2, .weights = plan::DType::Q4_0, .mapped = true});
    EXPECT_EQ(verdict(model), "");
    for (auto &weight : model.plans()[1]->weights)
      if (weight->name == name)
        with(*weight, *model.plans()[1]);
    return verdict(model);
  };
  EXPECT_THAT(change("layers.1.down", [](plan::WeightT &w,
                                         plan::PlanT &) { w.sources[0]->dims[1]->segments = {plan::Segment(16, 32)}; }),
              AllOf(HasSubstr("slice-alignment"), HasSubstr("cuts a block of 32 elements")));
  EXPECT_THAT(change("layers.0.q", [](plan::WeightT &w, plan::PlanT &) { w.sources[0]->transposed = 1; }),
              AllOf(HasSubstr("weight-slice"), HasSubstr("is to stay Q4_0, but is transposed")));
  EXPECT_THAT(change("layers.0.q", [](plan::WeightT &w, plan::PlanT &) { w.bytes *= 2; }), HasSubstr("weight-shape"));
  EXPECT_THAT(change("layers.0.q", [](plan::WeightT &w,
                                      plan::PlanT &p) { p.tensors[w.sources[0]->tensor]->dtype = plan::DType::Q5_0; }),
              HasSubstr("weight-shape"));
  EXPECT_THAT(change("layers.0.q", [](plan::WeightT &w, plan::PlanT &) { w.dtype = plan::DType::Q4_1; }),
              HasSubstr("weight-shape"));
  // A norm reads floats.
  EXPECT_THAT(change("layers.0.norm1",
                     [](plan::WeightT &w, plan::PlanT &p) {
                       w.dtype = p.tensors[w.sources[0]->tensor]->dtype = plan::DType::Q4_0;
                       w.bytes = p.tensors[w.sources[0]->tensor]->bytes = 18;
                     }),
              AllOf(HasSubstr("dtype-mismatch"), HasSubstr("layers.0.norm1")));
}

TEST(Verifier, QueryHeadsReadTheirOwnKvHeads) {
  TinyModel model(freshSeed(), {.tp = 2});
  for (const std::string name : {"layers.0.k", "layers.0.v"}) {
    plan::WeightT *ranks[2] = {};
    for (int r : {0, 1})
      for (auto &weight : model.plans()[r]->weights)
        if (weight->name == name)
          ranks[r] = weight.get();
    std::swap(ranks[0]->sources, ranks[1]->sources);
  }
  EXPECT_THAT(verdict(model), AllOf(HasSubstr("attention-heads"),
                                    HasSubstr("query head 0 is head 0 of the model and reads KV head 1")));
}

// What all ranks and programs agree on may still be of the wrong layer.
TEST(Verifier, LayersFollowEachOther) {
  const auto change = [](const std::function<void(plan::PlanT &)> &seed) {
    TinyModel model(freshSeed(), {.tp = 2});
    EXPECT_EQ(verdict(model), "");
    for (plan::PlanT *plan : model.plans())
      seed(*plan);
    return verdict(model);
  };
  const auto place = [](const plan::PlanT &plan, const std::string &weight) {
    return static_cast<uint32_t>(
        std::find_if(plan.weights.begin(), plan.weights.end(), [&](auto &w) { return w->name == weight; }) -
        plan.weights.begin());
  };
  EXPECT_THAT(change([&](plan::PlanT &plan) {
                const uint32_t a = place(plan, "layers.0.q"), b = place(plan, "layers.1.q");
                for (auto &program : plan.programs)
                  for (auto &it : program->instructions)
                    if (auto *linear = it->op.AsLinear(); linear && (linear->weight == a || linear->weight == b))
                      linear->weight = a + b - linear->weight;
              }),
              AllOf(HasSubstr("layer-order"), HasSubstr("the cache of layer 0 on a value that has come to layer 1")));
  EXPECT_THAT(change([](plan::PlanT &plan) { std::swap(plan.kv->caches[0]->layer, plan.kv->caches[1]->layer); }),
              AllOf(HasSubstr("layer-order"), HasSubstr("the cache of layer 1")));
  EXPECT_THAT(change([&](plan::PlanT &plan) {
                std::swap(plan.weights[place(plan, "layers.0.up")]->sources[0]->tensor,
                          plan.weights[place(plan, "layers.1.up")]->sources[0]->tensor);
              }),
              AllOf(HasSubstr("layer-order"), HasSubstr("'layers.0.up' is of layer 0, but its tensor 'layers.1.up'")));
  EXPECT_THAT(change([&](plan::PlanT &plan) {
                plan.weights[place(plan, "norm")]->sources[0]->tensor =
                    plan.weights[place(plan, "layers.1.norm1")]->sources[0]->tensor;
              }),
              AllOf(HasSubstr("layer-order"), HasSubstr("expected weights of one layer")));
}

TEST(Verifier, ChunksAreComputedAlike) {
  TinyModel model(freshSeed(), {.tp = 2, .chunked = true});
  for (plan::PlanT *plan : model.plans())
    for (auto &it : plan->programs[0]->instructions)
      if (auto *norm = it->op.AsRmsNorm()) {
        norm->eps *= 2;
        break;
      }
  EXPECT_THAT(verdict(model), HasSubstr("value-mismatch"));
}

// Whatever bytes are damaged: the verifier ends, and reads nothing that is not there.
TEST(Verifier, SurvivesDamage) {
  std::mt19937 random(freshSeed());
  ValidSet set(random());
  set.pack();
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::vector<uint8_t>> payloads;
    std::vector<const plan::Plan *> plans;
    bool sound = true;
    for (uint32_t r = 0; r < 4; ++r)
      payloads.push_back(packPayload(set.rank(r)));
    for (auto &payload : payloads) {
      for (uint32_t flips = random() % 3; flips > 0; --flips) {
        uint8_t &byte = payload[random() % payload.size()];
        byte = random() % 2 == 0 ? static_cast<uint8_t>(random()) : static_cast<uint8_t>(byte ^ (1u << random() % 8));
      }
      flatbuffers::Verifier verifier(payload.data(), payload.size(), 16, 1'000'000);
      sound = sound && verifier.VerifyBuffer<plan::Plan>(nullptr);
      plans.push_back(flatbuffers::GetRoot<plan::Plan>(payload.data()));
    }
    if (sound)
      verifyPlanSet(plans);
  }
}

TEST(Verifier, StopsAtTheLimit) {
  ValidSet set(freshSeed());
  for (uint32_t r = 0; r < 4; ++r)
    set.rank(r).ledger->arena += 16;
  EXPECT_EQ(verifyPlanSet(set.pack(), 2).size(), 2u);
  EXPECT_EQ(verifyPlanSet(set.pack()).size(), 4u);
}

TEST(Verifier, NoPlans) { EXPECT_EQ(verifyPlanSet({}).size(), 1u); }

TEST(Verifier, ARankIsMissing) {
  ValidSet set(freshSeed());
  auto plans = set.pack();
  plans.pop_back();
  EXPECT_THAT(textOf(verifyPlanSet(plans)), HasSubstr("3 plans, expected 4"));
}

} // namespace

} // namespace distc::test
