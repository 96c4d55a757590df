// Placement: which ranks of a plan set this process runs, on which devices and cores, and what they exchange through.
#pragma once

#include "distc/Runner.h"
#include "runtime/backends/Backend.h"
#include "runtime/schema/PlanFile.h"

#include <memory>
#include <span>
#include <vector>

namespace distc {

using Plans = std::span<const plan::Plan *const>;

struct Placement {
  /// A device, and the ranks that take its memory: those of other processes on this host too.
  struct Share {
    Device device;
    std::vector<const plan::Plan *> plans;
    std::string where; // "in this process", for errors
  };
  struct Place {
    const plan::Plan *plan = nullptr;
    uint32_t share = 0;
    ThreadPool::Options threads;
    bool spin = false; // every thread of the ranks that share the cores has one: who waits for another rank may poll
  };
  uint32_t devices = 1; // that all ranks have together; more than one: they exchange through a network of devices
  std::vector<Share> shares;
  std::vector<Place> places; // the ranks of this process, in rank order
};

/// Of processes: agrees with the others, so all call it at the same place. Fails if they were given different plan
/// sets, or their number is not that of the ranks.
Result<Placement> placeRanks(Plans plans, uint64_t setHash, const std::string &directory, const RunnerOptions &options);

/// Communicators for each of placement.places. Of processes all call it at the same place.
Result<std::vector<Communicators>> connectRanks(const Placement &placement, Plans plans, const RunnerOptions &options);

} // namespace distc
