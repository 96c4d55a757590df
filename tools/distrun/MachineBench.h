// What this machine's cores, memory and threads do, measured with the kernels and communicators that plans run on.
#pragma once

#include "distc/Status.h"

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace distc {

/// The figures of a machine file (docs/machines.md), in its units; rates are of one core unless said.
struct MachineFigures {
  uint32_t cores = 1;
  uint64_t memoryBytes = 0;
  double readAll = 0; // GB/s of plain reads, all cores together
  using Points = std::vector<std::pair<uint32_t, double>>;
  Points streamAll, stream; // MB, and GB/s of so many weights in products with one token: all cores, one core
  std::map<std::string, Points> matrix;                    // by the type of the weight: tokens, GFLOP/s
  Points attention;                                        // tokens, GFLOP/s
  double cacheRead = 0;                                    // GB/s of a long KV cache, one core
  double elementwise = 0, activation = 0;                  // GB/s, elements/ns
  double instruction = 0, fork = 0, step = 0;              // µs
  double message = 0, collective = 0, collectiveBytes = 0; // µs, µs, GB/s between two ranks
};

/// Everything `rounds` times over, each figure the median of the rounds: some seconds each. Cancelled soon after
/// `interrupted`.
Result<MachineFigures> measureMachine(uint32_t rounds, const std::atomic<bool> &interrupted);

} // namespace distc
