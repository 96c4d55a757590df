// The plans that are explained or compared: a whole set, proven, or one file of it.
#pragma once

#include "runtime/schema/PlanFile.h"

#include <string>
#include <vector>

namespace distc::explain {

struct PlanSet {
  std::string path;
  std::vector<PlanFile> files;
  std::vector<const plan::Plan *> plans; // in rank order

  const plan::Plan &first() const { return *plans[0]; }
  uint32_t tp() const { return first().mesh()->tp(); }
  uint32_t pp() const { return first().mesh()->pp(); }
  /// Every rank of the mesh is there.
  bool whole() const { return plans.size() == size_t(tp()) * pp(); }
  /// The plans of a stage; of a part of a set those that are there.
  std::vector<const plan::Plan *> stage(uint32_t stage) const;
  /// One plan of each stage that is there, the first.
  std::vector<const plan::Plan *> stages() const;
};

/// A folder: all its ranks, proven as `distc verify` does; a file: that rank, proven alone.
Result<PlanSet> openPlans(const std::string &path);
Result<PlanSet> openFolder(const std::string &path);

} // namespace distc::explain
