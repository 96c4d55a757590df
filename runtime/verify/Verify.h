// The cross-rank verifier: an independent witness over plan files alone. It shares no code with the passes it checks.
#pragma once

#include "distc/Status.h"
#include "runtime/schema/plan_generated.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace distc {

/// One way in which a plan set is wrong. `ranks` and `instructions` (ids) say where. The kinds:
///   one rank        mesh limits group kv kv-overlap rope ledger index-range schedule event
///     weights       weight-file weight-shape weight-slice weight-map weight-memory layer-order
///     instructions  buffer-size buffer-bounds buffer-parent rows-mismatch shape-mismatch dtype-mismatch
///     memory        read-before-write unordered-access in-place buffer-overlap kv-order
///   all ranks       mesh set-mismatch group host-exchange
///     weights       weight-declaration weight-coverage weight-unused
///     exchange      collective-mismatch send-recv-mismatch deadlock
///     values        slice-alignment partial-value vocabulary-slice attention-heads value-mismatch layer-order rope
struct Violation {
  std::string kind;
  std::string message;
  std::vector<uint32_t> ranks;
  std::vector<uint32_t> instructions;
};

/// One rank alone: every index in range, every offset and size within its memory, the ledger true, every buffer written
/// before it is read, no two live buffers overlapping. After this, a run needs no checks.
std::vector<Violation> verifyPlan(const plan::Plan &plan);

/// All ranks of a set, in rank order: verifyPlan of each, then what holds between them: weight coverage, matched
/// collectives, sends and receives, no deadlock, values made of slices that belong together, the same values on all
/// ranks of a stage and in all programs. Stops after `limit` violations, and before a proof that rests on one that
/// failed.
std::vector<Violation> verifyPlanSet(std::span<const plan::Plan *const> plans, size_t limit = 100);

/// verifyPlanSet, its violations as one failure that names `directory`.
Status provePlanSet(std::span<const plan::Plan *const> plans, const std::string &directory);

} // namespace distc
