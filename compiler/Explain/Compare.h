// `distc diff`: what differs between two plan sets, or two plans, in the terms of `distc explain`.
#pragma once

#include "compiler/Explain/PlanSet.h"

#include <string>
#include <vector>

namespace distc::explain {

/// One thing that differs. An empty side: it is on the other alone.
struct Change {
  std::string name, a, b;
};

struct Section {
  std::string title; // "model", "weights", "decode instructions", …
  std::vector<Change> changes;
};

struct Comparison {
  std::vector<Section> sections; // those in which something differs
  std::vector<std::string> same; // titles of the others
  bool differ() const { return !sections.empty(); }
};

Comparison compare(const PlanSet &a, const PlanSet &b);

std::string compareText(const PlanSet &a, const PlanSet &b, const Comparison &comparison);
std::string compareJson(const PlanSet &a, const PlanSet &b, const Comparison &comparison);

} // namespace distc::explain
