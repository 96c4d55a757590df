// One step of a plan set on a machine, event by event.
//
// Every micro-batch is a walk of its own of the program of its regime. Of one micro-batch the instructions of a queue
// run in order, and wait for events. Of one rank the compute instructions of all micro-batches exclude each other: a
// micro-batch keeps its turn until it has to wait, then the lowest that can go on has it. Micro-batch k computes an
// instruction after micro-batch k-1 has, attention after micro-batch k-1 has appended all its keys and values.
// Communication runs beside all that: a collective begins when all its members are there, a receive ends `latency`
// after the send's bytes have left, a send waits for nobody. Messages that are under way at once do not slow each other
// down. On a serial machine a rank begins a
// micro-batch when it has ended the one before, but for what it receives back from later stages: that comes behind all.
#pragma once

#include "compiler/Analysis/CostModel.h"

#include <map>
#include <memory>

namespace distc {

/// Ranks that do the same at the same time, simulated as one.
struct Node {
  const plan::Plan *plan = nullptr;
  std::vector<uint32_t> ranks;
};

struct NodeTimes {
  double compute = 0; // the compute queue is busy
  double exposed = 0; // it is idle, and a collective or a receive is under way
};

struct StepTimes {
  double seconds = 0; // of the ranks, without the host's overhead
  std::vector<NodeTimes> nodes;
};

struct TraceEvent {
  uint32_t node = 0, microBatch = 0;
  const plan::Program *program = nullptr;
  uint32_t instruction = 0;  // index in the program
  double begin = 0, end = 0; // seconds from the beginning of the step
  double bytes = 0;
};

class StepSimulator {
public:
  /// The plans of all ranks, in rank order, verified; they and the machine outlive it. Ranks of a tensor-parallel group
  /// are one node where that is exact: their programs have the same shapes and their messages the same links. The plan
  /// of a stage's first rank may stand for the others', where that is so.
  static Result<StepSimulator> create(const Machine &machine, std::span<const plan::Plan *const> plans);

  StepSimulator(StepSimulator &&) noexcept;
  ~StepSimulator();

  const std::vector<Node> &nodes() const;
  /// What fits a step of the regime: micro-batches times the limits of one.
  StepLimits limits(plan::Regime regime) const;
  /// InvalidArgument where the plans have no program for it.
  Result<StepTimes> run(plan::Regime regime, const Runs &step, std::vector<TraceEvent> *trace = nullptr) const;

private:
  struct State;
  explicit StepSimulator(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

} // namespace distc
