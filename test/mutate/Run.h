// What a plan set computes, found out in a process of its own: a fault may crash, hang, or ask for all memory.
#pragma once

#include "distc/Runner.h"
#include "test/mutate/Plans.h"

#include <string>

namespace distc::mutate {

enum class Ending { Done, Refused, Failed, Died, TimedOut };

struct Outcome {
  Ending ending = Ending::Died;
  uint64_t bits = 0; // Done: the hash of all ids and logits
  std::string message;
};

/// Writes the set into `folder`, which must lie beside the original for the checkpoint's files to be found.
void write(const Payloads &payloads, const std::string &folder);
/// Opens the set and takes some steps with it, as large as `shape` says: ragged prefill, chunks, all micro-batches,
/// decode, greedy and sampled. Refused: it was not opened, or a step is larger than it takes. Failed: a step was.
Outcome run(const std::string &folder, const PlanSetInfo &shape, double seconds);

} // namespace distc::mutate
