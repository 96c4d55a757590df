// The kinds of faults. A kind seeds one at a random place of a plan set, and says where; it says nothing where the set
// has no place for it.
#pragma once

#include "test/mutate/Plans.h"

#include <string>

namespace distc::mutate {

struct FaultKind {
  std::string name;
  // One of the two: before the plans are packed, or after.
  std::function<std::string(Plans &, Random &)> tables;
  std::function<std::string(Payloads &, Random &)> scalars;
};

std::vector<FaultKind> weightFaults();  // slices, sources, declarations
std::vector<FaultKind> programFaults(); // instructions, events, communication, schedules
std::vector<FaultKind> memoryFaults();  // buffers, offsets, ledgers, limits, the tables of a rank
std::vector<FaultKind> operandFaults(); // operands and attributes, of whatever ops the schema has
std::vector<FaultKind> anyFaults();     // any scalar, any list

/// Make true again what follows from the rest, so that a fault of meaning remains: sizes of buffers, weights and
/// caches, and ledgers; the numbers of what communicates.
void settle(plan::PlanT &plan);
void renumber(Payloads &payloads);

} // namespace distc::mutate
