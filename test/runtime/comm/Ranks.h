// Runs one thread per rank over an in-process communicator.
#pragma once

#include "runtime/comm/InProcess.h"

#include <functional>
#include <numeric>
#include <thread>

namespace distc::test {

/// One group "all" of `ranks` members.
inline std::vector<std::vector<CommGroup>> oneGroup(uint32_t ranks) {
  CommGroup group{"all", std::vector<uint32_t>(ranks)};
  std::iota(group.ranks.begin(), group.ranks.end(), 0);
  return std::vector<std::vector<CommGroup>>(ranks, {group});
}

/// The status with which each rank's `work` ended.
inline std::vector<Status> runRanks(std::span<const std::unique_ptr<Communicator>> communicators,
                                    const std::function<Status(uint32_t, Communicator &)> &work) {
  std::vector<Status> statuses(communicators.size());
  std::vector<std::thread> threads;
  for (uint32_t rank = 0; rank < communicators.size(); ++rank)
    threads.emplace_back([&, rank] { statuses[rank] = work(rank, *communicators[rank]); });
  for (std::thread &thread : threads)
    thread.join();
  return statuses;
}

} // namespace distc::test
