// A run of a plan set on a machine: prompts, then tokens, as `distrun bench` runs them.
#pragma once

#include "compiler/Analysis/StepSimulator.h"

#include <string>

namespace distc {

struct SimulateOptions {
  uint64_t batch = 1, promptTokens = 512, newTokens = 128; // the first new token comes out of prefill
  bool trace = false;
};

struct Phase {
  double seconds = 0; // with the host's overhead of each step
  double tokens = 0, steps = 0;
  std::vector<NodeTimes> nodes; // sums over the steps
  /// The share of the time in which the compute queues are idle.
  double idle() const;
  double exposedShare() const; // of the nodes on average
};

struct Simulation {
  std::vector<Node> nodes;
  Phase prefill, decode;
  double firstToken = 0, lastFirstToken = 0; // seconds to a sequence's first token: on average, and the latest
  std::vector<TraceEvent> trace;             // of all prefill steps and the first decode step, if asked
};

/// `plans`: of all ranks, in rank order, verified; `where` leads errors. Steps of decode differ in their context alone,
/// in which the time is smooth: of each stretch with the same sequences the first, the middle and the last are run.
Result<Simulation> simulate(const Machine &machine, std::span<const plan::Plan *const> plans, const std::string &where,
                            const SimulateOptions &options);

/// Chrome trace JSON with the tracks and events of runtime/exec/Trace.cpp.
std::string traceJson(const Simulation &simulation);

} // namespace distc
