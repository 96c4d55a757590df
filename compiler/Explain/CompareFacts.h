// What plan sets are compared by: names with a text each. Texts that are equal say that nothing differs.
#pragma once

#include "compiler/Explain/PlanSet.h"

#include <string>
#include <utility>
#include <vector>

namespace distc::explain {

/// In the order of the first.
using Facts = std::vector<std::pair<std::string, std::string>>;

Facts modelFacts(const PlanSet &set);
/// The files and tensors of the checkpoint. Their paths are left out: it may be moved.
Facts checkpointFacts(const PlanSet &set);
Facts meshFacts(const PlanSet &set);
Facts limitFacts(const PlanSet &set);
Facts ledgerFacts(const PlanSet &set);
Facts weightTexts(const PlanSet &set);
Facts exchangeTexts(const PlanSet &set);
/// Of these programs, of all stages together: sizes, chunks, micro-batches, tile schedule.
Facts scheduleFacts(const PlanSet &set, const std::vector<uint32_t> &programs);

/// The instructions of a program of all stages: by label, op and how often these have been, whatever their ids and
/// places. `logical`: whatever a rank's share of them, too.
struct Listing {
  Facts facts;
  std::vector<std::string> order;
};
Listing listingOf(const PlanSet &set, uint32_t program, bool logical);

} // namespace distc::explain
