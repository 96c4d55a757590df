// Plans small enough to say by hand how long they take, and a machine for which that is easy: a byte takes a
// nanosecond, arithmetic and everything else none.
#pragma once

#include "compiler/Analysis/Simulate.h"

#include "PlanBuilder.h"

#include <gmock/gmock.h>

namespace distc::test {

constexpr double kNano = 1e-9;

inline Machine plainMachine() {
  Machine m;
  m.name = "plain";
  m.memoryBytes = uint64_t(1) << 30;
  m.memory = m.coreMemory = RateCurve({{1, 1e9}});
  m.matrix[plan::DType::F32] = m.attention = RateCurve({{1, 1e30}});
  m.elementwise = m.activation = 1e30;
  m.links = {{.name = "link", .devices = 1024, .bandwidth = 1e30}};
  return m;
}

/// One program that takes `width` values of each token through linears of one square matrix.
class LittlePlan {
public:
  static constexpr uint32_t kWidth = 64, kTokens = 64;
  /// Bytes of a linear over `tokens` tokens, which are its nanoseconds.
  static double linearBytes(uint64_t tokens) { return 4.0 * (kWidth * kWidth + 2.0 * double(tokens) * kWidth); }

  LittlePlan(uint32_t tp, uint32_t pp, uint32_t rank, plan::Regime regime = plan::Regime::Prefill)
      : checkpoint_(1), builder(begin(), "file", tp, pp, rank) {
    builder.plan.target = "sm_90";
    *builder.plan.limits = {};
    builder.plan.limits->max_batch = builder.plan.limits->max_tokens = kTokens;
    builder.plan.limits->max_sequence = 1 << 20;
    matrix_ = builder.weight(0, plan::DType::F32);
    builder.beginProgram(regime, kTokens, kTokens, kTokens);
    value = builder.buffer(kWidth);
  }

  plan::InstructionT &linear(const BufferSpec &spec = {}) {
    const uint32_t out = builder.buffer(kWidth, spec);
    auto &op = builder.add<plan::LinearT>("linear");
    op.input = value;
    op.weight = matrix_;
    op.out = value = out;
    return last();
  }
  plan::InstructionT &allReduce() {
    auto &op = builder.add<plan::AllReduceT>("all_reduce");
    op.sequence = builder.nextSequence(0);
    op.input = op.out = value;
    return last();
  }
  plan::InstructionT &last() { return *builder.plan.programs.back()->instructions.back(); }
  plan::ProgramT &program() { return *builder.plan.programs.back(); }

private:
  const Checkpoint &begin() {
    checkpoint_.add("matrix", plan::DType::F32, {kWidth, kWidth});
    return checkpoint_;
  }
  Checkpoint checkpoint_;
  uint32_t matrix_ = 0;

public:
  PlanBuilder builder;
  uint32_t value = 0;
};

/// The plans packed, as a simulator takes them.
class Packed {
public:
  explicit Packed(const std::vector<std::unique_ptr<LittlePlan>> &ranks) {
    for (const auto &rank : ranks)
      bytes_.push_back(packPayload(rank->builder.finish()));
    for (const auto &payload : bytes_)
      plans.push_back(flatbuffers::GetRoot<plan::Plan>(payload.data()));
  }
  std::vector<const plan::Plan *> plans;

private:
  std::vector<std::vector<uint8_t>> bytes_;
};

/// The times of one prefill step of one sequence.
inline StepTimes timesOf(const Machine &machine, const Packed &packed, uint64_t tokens,
                         std::vector<TraceEvent> *trace = nullptr) {
  Result<StepSimulator> simulator = StepSimulator::create(machine, packed.plans);
  EXPECT_TRUE(simulator.ok()) << simulator.status().message();
  Result<StepTimes> times = simulator->run(plan::Regime::Prefill, {{1, tokens, 0, 1}}, trace);
  EXPECT_TRUE(times.ok()) << times.status().message();
  return times.take();
}

} // namespace distc::test
