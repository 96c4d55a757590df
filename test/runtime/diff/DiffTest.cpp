// The values of a small model, put together from chunks of rows, shards of rows and columns, and partial sums, against
// those of one rank that computes all of it.
#include "exec/Sequences.h"

#include "runtime/diff/CompareValues.h"
#include "runtime/verify/Operands.h"

#include <gmock/gmock.h>

namespace distc::test {
namespace {

// Names what the builder does not: each buffer by the label of the instruction that writes it first.
void nameValues(plan::PlanT &plan, uint32_t tp) {
  auto ends = [](const std::string &text, const char *end) { return text.ends_with(end); };
  for (const auto &program : plan.programs)
    for (size_t i = program->instructions.size(); i > 0; --i) {
      const plan::Op op = program->instructions[i - 1]->op.type;
      if (op >= plan::Op::AllReduce && op <= plan::Op::Recv && op != plan::Op::ReduceScatter)
        continue;
      flatbuffers::FlatBufferBuilder bytes;
      bytes.Finish(plan::CreateInstruction(bytes, program->instructions[i - 1].get()));
      const Operands operands = operandsOf(*flatbuffers::GetRoot<plan::Instruction>(bytes.GetBufferPointer()));
      for (const BufferOperand &operand : operands.buffers()) {
        if (!operand.write)
          continue;
        plan::Buffer &buffer = program->buffers[operand.buffer];
        plan::ValueInfoT &value =
            *program->values[buffer.parent() < 0 ? operand.buffer : static_cast<size_t>(buffer.parent())];
        const std::string &label = value.name = program->labels[i - 1];
        value.layout = plan::LayoutKind::Replicated;
        value.dim = -1;
        uint64_t columns = buffer.row_elements();
        if (tp == 1)
          ;
        else if (op == plan::Op::ReduceScatter) {
          value.layout = plan::LayoutKind::Split;
          value.dim = 0;
        } else if (op == plan::Op::Embedding || ends(label, ".o") || ends(label, ".down")) {
          value.layout = plan::LayoutKind::Partial;
        } else if (op == plan::Op::Linear || op == plan::Op::Attention || op == plan::Op::Glu || op == plan::Op::Rope) {
          value.layout = plan::LayoutKind::Split;
          value.dim = 1;
          columns *= tp;
        }
        value.dims = {columns};
      }
    }
}

// Changes what one rank's instruction seems to have written.
struct Tampered : StepObserver {
  StepRecorder *recorder = nullptr;
  uint32_t rank = ~0u;
  std::string label;
  Status executed(const plan::Plan &plan, uint32_t program, uint32_t index, const Read &read) override {
    const bool mine =
        plan.mesh()->rank() == rank && plan.programs()->Get(program)->labels()->Get(index)->str() == label;
    return recorder->executed(plan, program, index, [&](uint32_t buffer) -> Result<std::vector<float>> {
      DISTC_ASSIGN(std::vector<float> data, read(buffer));
      if (mine)
        data[3] += 1;
      return data;
    });
  }
};

class Diff : public ::testing::Test {
protected:
  // One step over the first tokens of a sequence, and of another where there are two.
  StepValues step(const TinyOptions &options, size_t tokens, uint32_t tamperedRank = ~0u, const char *label = "") {
    TinyModel model(seed, options);
    TemporaryFolder folder;
    for (plan::PlanT *plan : model.plans())
      nameValues(*plan, options.tp);
    model.write(folder.path());
    StepRecorder recorder;
    Tampered observer;
    observer.recorder = &recorder;
    observer.rank = tamperedRank;
    observer.label = label;
    RunnerOptions runnerOptions;
    runnerOptions.observer = &observer;
    auto opened = Runner::open(folder.path(), runnerOptions);
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    runner = opened.take(); // the plans that the values point into
    std::mt19937 random(seed);
    std::vector<Sequence> sequences = randomSequences(random, 1, tokens);
    recorder.begin(options.tp * options.pp);
    const auto result = runner->step(makeBatch({&sequences[0]}, {tokens}, false));
    EXPECT_TRUE(result.ok()) << result.status().message();
    auto values = recorder.finish(tokens, 1);
    EXPECT_TRUE(values.ok()) << values.status().message();
    runners.push_back(std::move(runner));
    return values.take();
  }

  const uint32_t seed = freshSeed();
  std::unique_ptr<Runner> runner;
  std::vector<std::unique_ptr<Runner>> runners;
};

TEST_F(Diff, ChunksAndShardsOfRowsAreOneValue) {
  for (const size_t tokens : {1, 2, 9, 10, 13, 16}) { // of odd counts the last shard or chunk is short, or empty
    const StepValues reference = step({}, tokens);
    for (const TinyOptions &options : {TinyOptions{.chunked = true},
                                       {.tp = 2},
                                       {.tp = 2, .scattered = true},
                                       {.tp = 2, .chunked = true},
                                       {.tp = 2, .chunked = true, .scattered = true}}) {
      const Comparison comparison = compareValues(step(options, tokens), reference, 1e-4);
      // x, and of each layer norm1, q and k twice, v, attention, o, add1, norm2, gate, glu, up, down, add2; rows and
      // their norm, logits, ids.
      EXPECT_EQ(comparison.values.size(), 1u + 15 * TinyModel::kLayers + 4);
      for (const ComparedValue &value : comparison.values) {
        EXPECT_LT(value.relative, 1e-5) << value.name << " of " << tokens << " tokens, tp " << options.tp;
        EXPECT_EQ(value.padded, value.name == "head" && options.tp == 2);
      }
      EXPECT_THAT(comparison.skipped, testing::ElementsAre(testing::Pair("candidates", testing::_)));
    }
  }
}

TEST_F(Diff, OneRankThatHoldsSomethingElseIsFound) {
  const StepValues reference = step({}, 9);
  struct Case {
    const char *label, *value;
    std::vector<uint32_t> ranks;
    std::vector<uint64_t> index;
  };
  const TinyOptions scattered{.tp = 2, .scattered = true};
  for (const Case &c : {Case{"layers.1.norm1", "layers.1.norm1", {1}, {0, 3}},
                        {"layers.0.attention.v", "layers.0.attention.v", {0, 1}, {0, 8 + 3}},
                        {"layers.1.ffn.down", "layers.1.ffn.down", {0, 1}, {0, 3}},
                        {"layers.0.ffn.scatter", "layers.0.ffn.down", {0, 1}, {5, 3}},
                        {"layers.0.ffn.gather", "layers.0.ffn.down", {1}, {0, 3}},
                        {"layers.0.attention.k.rope", "layers.0.attention.k #2", {0, 1}, {0, 8 + 3}}}) {
    const StepValues other = step(scattered, 9, 1, c.label);
    for (const bool swapped : {false, true}) {
      const Comparison comparison = compareValues(swapped ? reference : other, swapped ? other : reference, 1e-4);
      std::vector<std::string> names;
      for (const ComparedValue &value : comparison.values)
        if (value.relative > 1e-4) {
          names.push_back(value.name);
          const ComparedValue::Side &side = swapped ? value.b : value.a;
          EXPECT_THAT(side.ranks, testing::UnorderedElementsAreArray(c.ranks)) << c.label;
          EXPECT_EQ(side.index, c.index) << c.label;
          EXPECT_NEAR(side.element - (swapped ? value.a : value.b).element, 1, 1e-4) << c.label;
        }
      EXPECT_THAT(names, testing::ElementsAre(c.value)) << c.label;
    }
  }
}

TEST_F(Diff, WhatIsReceivedUnderAnotherNameIsAValueOfItsOwn) {
  const Comparison comparison = compareValues(step({.tp = 2, .pp = 2}, 7), step({}, 7), 1e-4);
  EXPECT_EQ(comparison.values.size(), 1u + 15 * TinyModel::kLayers + 4);
  for (const ComparedValue &value : comparison.values)
    EXPECT_LT(value.relative, 1e-5) << value.name;
  using testing::Pair, testing::StartsWith;
  const auto alone = Pair(StartsWith("b"), "A alone computes it"); // the boundary of the stages, and the ids
  EXPECT_THAT(comparison.skipped, testing::UnorderedElementsAre(Pair("candidates", testing::_), alone, alone));
}

TEST_F(Diff, DimensionsThatAreNotThoseOfTheBufferAreSkipped) {
  TinyModel model(seed, {});
  plan::ProgramT &program = *model.plans()[0]->programs[0];
  for (size_t i = 0; i < program.values.size(); ++i) {
    plan::ValueInfoT &value = *program.values[i];
    const uint64_t width = program.buffers[i].row_elements();
    if (i % 3 == 0)
      value.dims = {uint64_t(1) << 32, uint64_t(1) << 32, width}; // their product is 0, in 64 bits
    else if (i % 3 == 1)
      value.dims = {width, (uint64_t(1) << 63) + 1};
    else {
      value.layout = plan::LayoutKind::Split;
      value.dim = 1000;
    }
  }
  TemporaryFolder folder;
  model.write(folder.path());
  StepRecorder recorder;
  RunnerOptions options;
  options.observer = &recorder;
  auto opened = Runner::open(folder.path(), options);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  std::mt19937 random(seed);
  std::vector<Sequence> sequences = randomSequences(random, 1, 5);
  recorder.begin(1);
  ASSERT_TRUE((*opened)->step(makeBatch({&sequences[0]}, {5}, false)).ok());
  const auto values = recorder.finish(5, 1);
  ASSERT_TRUE(values.ok()) << values.status().message();
  const Comparison comparison = compareValues(*values, *values, 0);
  EXPECT_TRUE(comparison.values.empty());
  EXPECT_FALSE(comparison.skipped.empty());
}

TEST_F(Diff, WithoutNamesThereIsNothingToCompare) {
  TinyModel model(seed, {});
  for (plan::PlanT *plan : model.plans())
    for (const auto &program : plan->programs)
      program->values.clear();
  TemporaryFolder folder;
  model.write(folder.path());
  StepRecorder recorder;
  RunnerOptions options;
  options.observer = &recorder;
  auto opened = Runner::open(folder.path(), options);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  std::mt19937 random(seed);
  std::vector<Sequence> sequences = randomSequences(random, 1, 5);
  recorder.begin(1);
  ASSERT_TRUE((*opened)->step(makeBatch({&sequences[0]}, {5}, false)).ok());
  EXPECT_EQ(recorder.finish(5, 1).status().message(),
            "rank 0: the plan does not name its values, so there is nothing to compare; compile again");
}

} // namespace
} // namespace distc::test
