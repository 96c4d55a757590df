// Whether a process can hold its ranks, asked before anything is allocated.
#pragma once

#include "distc/Status.h"
#include "runtime/schema/plan_generated.h"

#include <cstdint>
#include <span>
#include <string>

namespace distc {

/// The ledgers of `plans`, a line for each rank and one for the sum. With random weights nothing is mapped: those
/// weights are in memory too.
std::string ledgerTable(std::span<const plan::Plan *const> plans, bool randomWeights);

/// Fails with the table if the ranks, `where` they are, need more than `available` bytes of `what`, as "memory". Mapped
/// weights are not counted: the system can drop and read them again.
Status checkMemory(std::span<const plan::Plan *const> plans, bool randomWeights, uint64_t available,
                   const std::string &what = "memory", const std::string &where = "in this process");

/// An allocation that failed in spite of that check, with the table: ledgers leave out what the libraries of a GPU,
/// graphs and loading take besides. Any other status as it is.
Status withLedger(Status status, std::span<const plan::Plan *const> plans, bool randomWeights);

/// Bytes of memory that the ranks need by their ledgers, mapped weights aside; saturates.
uint64_t neededMemory(std::span<const plan::Plan *const> plans, bool randomWeights);

} // namespace distc
