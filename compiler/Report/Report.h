// `distc report`: a plan set as one page of HTML that needs nothing else: its mesh, memory, exchanges and weights, and
// the timeline of a step.
#pragma once

#include "compiler/Report/Timeline.h"

#include <optional>
#include <string>
#include <vector>

namespace distc::report {

struct ReportInput {
  std::optional<uint64_t> memory; // bytes of a device; of a CPU of its host
  std::string memoryOf;           // "--memory", or the machine's name
  const Simulation *simulation = nullptr;
  const Machine *machine = nullptr;
  std::vector<Step> steps; // none: the page says how to get them
  uint64_t batch = 1, promptTokens = 0;
};

/// Texts of the plans are escaped: they may hold anything.
std::string reportPage(const explain::PlanSet &set, const ReportInput &input);

} // namespace distc::report
