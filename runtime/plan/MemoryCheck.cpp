#include "runtime/plan/MemoryCheck.h"

#include "runtime/base/File.h"
#include "runtime/plan/WeightLoader.h"

#include <cstdio>

namespace distc {

namespace {

// Column by column: weights in memory, mapped, KV, arena, tables.
struct Need {
  uint64_t weights = 0, mapped = 0, kv = 0, arena = 0, tables = 0;

  uint64_t total() const {
    uint64_t sum = 0;
    for (uint64_t part : {weights, kv, arena, tables})
      if (__builtin_add_overflow(sum, part, &sum))
        return ~uint64_t(0);
    return sum;
  }
};

Need needOf(const plan::Plan &plan, bool randomWeights) {
  const plan::Ledger &ledger = *plan.ledger();
  Need need{ledger.weights_loaded(), ledger.weights_mapped(), ledger.kv(), ledger.arena(), ledger.tables()};
  if (randomWeights) {
    if (__builtin_add_overflow(need.weights, mappedInMemoryBytes(plan), &need.weights))
      need.weights = ~uint64_t(0);
    need.mapped = 0;
  }
  return need;
}

std::string line(const std::string &name, const std::vector<std::string> &cells) {
  char text[32];
  std::snprintf(text, sizeof text, "  %-7s", name.c_str());
  std::string result = text;
  for (const std::string &cell : cells) {
    std::snprintf(text, sizeof text, "  %12s", cell.c_str());
    result += text;
  }
  return result + "\n";
}

} // namespace

uint64_t neededMemory(std::span<const plan::Plan *const> plans, bool randomWeights) {
  uint64_t sum = 0;
  for (const plan::Plan *plan : plans)
    if (__builtin_add_overflow(sum, needOf(*plan, randomWeights).total(), &sum))
      return ~uint64_t(0);
  return sum;
}

std::string ledgerTable(std::span<const plan::Plan *const> plans, bool randomWeights) {
  std::string table = line("rank", {"weights", "KV cache", "activations", "tables", "sum", "mapped"});
  for (const plan::Plan *plan : plans) {
    const Need need = needOf(*plan, randomWeights);
    table += line(std::to_string(plan->mesh()->rank()),
                  {formatBytes(need.weights), formatBytes(need.kv), formatBytes(need.arena), formatBytes(need.tables),
                   formatBytes(need.total()), formatBytes(need.mapped)});
  }
  return table + line("all", {"", "", "", "", formatBytes(neededMemory(plans, randomWeights)), ""});
}

Status checkMemory(std::span<const plan::Plan *const> plans, bool randomWeights, uint64_t available,
                   const std::string &what, const std::string &where) {
  const uint64_t needed = neededMemory(plans, randomWeights);
  if (needed <= available)
    return {};
  return resourceExhausted("the " + std::to_string(plans.size()) + " rank(s) " + where + " need " +
                           formatBytes(needed) + " of " + what + ", " + formatBytes(available) +
                           " are available; compile for a smaller batch or shorter sequences, or free memory\n" +
                           ledgerTable(plans, randomWeights));
}

Status withLedger(Status status, std::span<const plan::Plan *const> plans, bool randomWeights) {
  if (status.code() != Code::ResourceExhausted)
    return status;
  return resourceExhausted(status.message() +
                           "\nthe ledgers of the ranks, beside which loading, libraries and graphs " +
                           "take memory:\n" + ledgerTable(plans, randomWeights));
}

} // namespace distc
