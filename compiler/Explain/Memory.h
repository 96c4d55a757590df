// The memory of the ranks, and the longest context that fits.
#pragma once

#include "compiler/Explain/PlanSet.h"

#include <optional>
#include <string>
#include <vector>

namespace distc::explain {

/// Ranks with the same ledger and as many layers.
struct LedgerGroup {
  std::vector<uint32_t> ranks, stages;
  std::string layers; // "0-79", of all of them
  const plan::Plan *plan = nullptr;
};
std::vector<LedgerGroup> ledgerGroups(const PlanSet &set);

uint64_t ledgerTotal(const plan::Ledger &ledger);

/// Bytes of KV cache that a token of a sequence takes on a rank.
double kvBytesPerToken(const plan::Plan &plan);

/// "80GiB", "24 GB", "1073741824": bytes. Units: B, KB, MB, GB, TB of 1000 and KiB … TiB of 1024.
Result<uint64_t> parseMemory(const std::string &text, const std::string &flag);

struct ContextFit {
  uint64_t tokens = 0; // of each sequence, in whole KV blocks; 0: not one block
  uint64_t room = 0;   // bytes for KV cache on the tightest rank
  uint32_t rank = 0;   // the tightest; of a CPU all ranks share the memory
  bool fixedFits = true;
};
/// The longest context of `batch` sequences in `memory` bytes of each device, on a CPU of the host that the ranks
/// share: weights and arena as compiled, KV cache and position tables as long.
ContextFit longestContext(const PlanSet &set, uint64_t memory, uint64_t batch);

} // namespace distc::explain
