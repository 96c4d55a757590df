// What the ranks of a plan set say to each other: collectives, and messages between stages.
#pragma once

#include "compiler/Explain/PlanSet.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace distc::explain {

/// Instructions that are alike but for the numbers in their labels, of all stages, of one program.
struct ExchangeFact {
  plan::Regime regime = plan::Regime::Decode;
  size_t program = 0;
  std::string op, name; // "AllReduce", "layers.0-79.o"
  std::string group;    // "tp of 8", "to the next stage"
  std::string from;     // the op that makes what is exchanged: "Linear layers.0-79.o"
  unsigned queue = 0;
  uint64_t count = 0;
  double bytes = 0; // of one message; of all of them together it is count times as much
  std::string unit; // per "token", "output" or "step"
};

/// By program, in the order of the first. A message between stages is told once, as the Send.
std::vector<ExchangeFact> exchangeFacts(const PlanSet &set);

/// The count and the bytes of each op: {"AllReduce", unit} → (161, 1.3e6), of one program.
std::map<std::pair<std::string, std::string>, std::pair<uint64_t, double>>
exchangeTotals(const std::vector<ExchangeFact> &facts, size_t program);

/// "161 AllReduce, 1 AllGather: 2.53 MiB a token"; "none".
std::string totalsText(const std::vector<ExchangeFact> &facts, size_t program);

} // namespace distc::explain
