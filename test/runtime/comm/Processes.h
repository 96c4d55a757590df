// Ranks as they are in processes of their own, joined over TCP: here each is a thread, so that a test sees them all.
#pragma once

#include "Ranks.h"
#include "runtime/comm/ControlPlane.h"
#include "runtime/comm/Messages.h"
#include "runtime/comm/TcpLink.h"

#include <gtest/gtest.h>

namespace distc::test {

struct Joined {
  std::vector<std::shared_ptr<ControlPlane>> controls; // by rank; null where joining failed
  std::vector<Status> statuses;
};

/// `ranks` control planes that have found each other. `alter` changes what a rank asks for.
inline Joined join(uint32_t ranks, double timeoutSeconds = 20,
                   const std::function<void(uint32_t, ControlOptions &)> &alter = {}) {
  Joined joined{std::vector<std::shared_ptr<ControlPlane>>(ranks), std::vector<Status>(ranks)};
  Socket listener = listenOn(0).take();
  const uint16_t port = portOf(listener);
  std::vector<std::thread> threads;
  for (uint32_t rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      ControlOptions options{rank, ranks, timeoutSeconds, nullptr};
      if (alter)
        alter(rank, options);
      auto control =
          rank == 0 ? ControlPlane::host(listener, options) : ControlPlane::join({"127.0.0.1"}, port, options);
      joined.statuses[rank] = control.status();
      if (control.ok())
        joined.controls[rank] = control.take();
    });
  for (std::thread &thread : threads)
    thread.join();
  return joined;
}

/// work(rank, control) of each rank on a thread of its own.
inline std::vector<Status> onEach(const Joined &joined, const std::function<Status(uint32_t, ControlPlane &)> &work) {
  std::vector<Status> statuses(joined.controls.size());
  std::vector<std::thread> threads;
  for (uint32_t rank = 0; rank < joined.controls.size(); ++rank)
    threads.emplace_back([&, rank] { statuses[rank] = work(rank, *joined.controls[rank]); });
  for (std::thread &thread : threads)
    thread.join();
  return statuses;
}

/// Communicators of messages over TCP; as connectInProcess.
inline std::vector<std::unique_ptr<Communicator>> connectOverTcp(const std::vector<std::vector<CommGroup>> &groups,
                                                                 const Joined &joined, bool spin) {
  std::vector<std::unique_ptr<Communicator>> result(groups.size());
  const auto statuses = onEach(joined, [&](uint32_t rank, ControlPlane &control) -> Status {
    DISTC_ASSIGN(std::shared_ptr<Link> link, connectTcp(control));
    result[rank] = connectMessages(rank, groups[rank], std::move(link), joined.controls[rank], spin);
    return {};
  });
  for (const Status &status : statuses)
    EXPECT_TRUE(status.ok()) << status.message();
  return result;
}

} // namespace distc::test
