// What the ranks do when in a step: simulated, or from a trace of a run.
#pragma once

#include "compiler/Analysis/Simulate.h"
#include "compiler/Explain/PlanSet.h"

#include <string>
#include <vector>

namespace distc::report {

struct Event {
  double begin = 0, end = 0; // seconds from the beginning of the step
  uint32_t queue = 0, microBatch = 0;
  uint32_t instruction = 0; // index in the program
};

/// A rank that stands for those of its stage that do the same.
struct Track {
  const plan::Plan *plan = nullptr;
  const plan::Program *program = nullptr;
  std::string name;          // "stage 0, ranks 0-7"
  std::vector<Event> events; // by begin
  double busy() const;
};

struct Step {
  plan::Regime regime = plan::Regime::Decode;
  std::string about; // one sentence: where it comes from
  double length = 0; // seconds
  uint32_t microBatches = 1;
  std::vector<Track> tracks; // of each stage the busiest rank
};

/// The first prefill step and the first decode step of a simulation with a trace.
std::vector<Step> simulatedSteps(const explain::PlanSet &set, const Simulation &simulation, const Machine &machine);

/// Of a file as `distrun --trace` and `distc simulate --trace` write it the last step of each regime that all ranks
/// have done. DataLoss where it is no such file, InvalidArgument where it is of another plan set.
Result<std::vector<Step>> tracedSteps(const explain::PlanSet &set, const std::string &path);

} // namespace distc::report
