#include "runtime/exec/Placement.h"

#include "runtime/base/System.h"
#include "runtime/comm/Bytes.h"
#include "runtime/comm/InProcess.h"
#include "runtime/comm/Membership.h"
#include "runtime/comm/Messages.h"
#include "runtime/comm/Processes.h"
#include "runtime/comm/Slowed.h"

#include <algorithm>

namespace distc {

namespace {

std::string count(size_t number, const char *one, const char *many) {
  return std::to_string(number) + " " + (number == 1 ? one : many);
}

// Rank `index` of `sharing` that have the cores of this process together.
Placement::Place placeOf(const plan::Plan &plan, uint32_t index, uint32_t sharing, const RunnerOptions &options) {
  const uint32_t cores = usableCores();
  const std::vector<int> allowed = allowedCores();
  const uint32_t threads = options.threadsPerRank != 0 ? options.threadsPerRank : std::max(1u, cores / sharing);
  const bool fits = uint64_t(sharing) * threads <= cores;
  Placement::Place place{&plan, 0, {threads, fits && threads > 1, {}}, fits && cores > 1};
  // Where the processor time is limited below the cores, a fixed core may be one that others use.
  if (fits && cores == allowed.size())
    place.threads.cores.assign(allowed.begin() + index * threads, allowed.begin() + (index + 1) * threads);
  return place;
}

Result<RankKind> chooseKind(const plan::Plan &plan, size_t ranks, RankKind asked) {
  const std::string_view target = plan.target()->string_view();
  const uint32_t devices = deviceCount(target);
  const bool cpu = target == "cpu";
  if (asked == RankKind::Automatic)
    return cpu ? RankKind::Threads : ranks > 1 && devices >= ranks ? RankKind::Gpus : RankKind::Device;
  if (cpu != (asked == RankKind::Threads))
    return failedPrecondition(
        cpu ? "the plan is for target cpu, whose ranks are threads; leave out --ranks, or compile "
              "with --target sm_90"
            : "the plan is for target " + std::string(target) +
                  ", whose ranks are not threads; use --ranks device or gpus, or compile with "
                  "--target cpu");
  if (asked == RankKind::Gpus && devices < ranks)
    return failedPrecondition("--ranks gpus needs a GPU for each of " + count(ranks, "rank", "ranks") +
                              ", and there are " + std::to_string(devices) +
                              "; use --ranks device to run them all on one");
  return asked;
}

Result<Device> openDeviceFor(const plan::Plan &plan, uint32_t index, const std::string &directory) {
  Result<Device> device = openDevice(plan.target()->string_view(), index);
  return device.ok() ? std::move(device) : Result<Device>(device.status().context(directory));
}

Result<Placement> placeInThisProcess(Plans plans, const std::string &directory, const RunnerOptions &options) {
  const plan::Plan &first = *plans[0];
  DISTC_ASSIGN(const RankKind kind, chooseKind(first, plans.size(), options.ranks));
  Placement placement;
  const uint32_t ranks = static_cast<uint32_t>(plans.size());
  for (uint32_t r = 0; r < ranks; ++r) {
    if (r == 0 || kind == RankKind::Gpus) {
      DISTC_ASSIGN(Device device, openDeviceFor(first, r, directory));
      placement.shares.push_back({std::move(device), {}, "in this process"});
    }
    placement.shares.back().plans.push_back(plans[r]);
    Placement::Place &place = placement.places.emplace_back(placeOf(*plans[r], r, ranks, options));
    place.share = static_cast<uint32_t>(placement.shares.size()) - 1;
  }
  placement.devices = static_cast<uint32_t>(placement.shares.size());
  return placement;
}

// What a process says of itself, so that each knows with whom it shares a host, and its cores.
struct Introduction {
  uint64_t setHash = 0;
  std::string host;
  std::vector<int> cores;
};

Result<std::vector<Introduction>> introduce(const Introduction &self, Processes &processes) {
  ControlPlane &control = *processes.control();
  DISTC_ASSIGN(const auto all, control.exchange(ByteWriter().put(self.setHash).put(self.host).put(self.cores).take()));
  std::vector<Introduction> result;
  for (uint32_t r = 0; r < all.size(); ++r) {
    Introduction &one = result.emplace_back();
    if (!ByteReader(all[r]).get(one.setHash).get(one.host).get(one.cores).atEnd())
      return internal("what rank " + std::to_string(r) + " said of itself cannot be read");
    if (one.setHash != result[0].setHash)
      return failedPrecondition("rank " + std::to_string(r) + " (on host " + one.host +
                                ") has another plan set than rank 0 (on host " + result[0].host +
                                "); give all processes the same folder, or copies of it");
  }
  return result;
}

Result<Placement> placeProcess(Plans plans, uint64_t setHash, const std::string &directory,
                               const RunnerOptions &options) {
  Processes &processes = *options.processes;
  const uint32_t self = processes.rank();
  if (processes.world() != plans.size())
    return failedPrecondition(count(processes.world(), "process was", "processes were") + " started, and " + directory +
                              " has " + count(plans.size(), "rank", "ranks") + "; start " + processes.sizeFlag() +
                              std::to_string(plans.size()));
  const std::string_view target = plans[0]->target()->string_view();
  // Before all are known to be here: from then on others take memory.
  const uint64_t memory = availableMemory();
  DISTC_ASSIGN(const auto all, introduce({setHash, hostName(), allowedCores()}, processes));
  uint32_t onHost = 0, sharing = 0, index = 0;
  Placement placement;
  Placement::Share &share = placement.shares.emplace_back();
  for (uint32_t r = 0; r < all.size(); ++r) {
    if (all[r].host != all[self].host)
      continue;
    onHost += r < self;
    const bool same = all[r].cores == all[self].cores;
    index += same && r < self;
    sharing += same;
    share.plans.push_back(plans[r]);
  }
  uint32_t device = 0;
  if (deviceCount(target) > 1) // one alone is what the launcher has given this process
    device = processes.localRank().value_or(onHost);
  DISTC_ASSIGN(share.device, openDeviceFor(*plans[self], device, directory));
  share.where = "on this host";
  if (deviceCount(target) != 0) {
    placement.devices = processes.world();
    share.plans.assign(1, plans[self]);
    share.where = "of this process";
  } else {
    share.device.availableMemory = memory;
  }
  placement.places.push_back(placeOf(*plans[self], index, sharing, options));
  return placement;
}

// The most micro-batches that a rank has in flight. A device has one at a time.
uint32_t slotsOf(const plan::Plan &plan) {
  uint32_t slots = 1;
  if (deviceCount(plan.target()->string_view()) == 0)
    for (const plan::Program *program : *plan.programs())
      slots = std::max<uint32_t>(slots, program->micro_batches());
  return slots;
}

} // namespace

Result<Placement> placeRanks(Plans plans, uint64_t setHash, const std::string &directory,
                             const RunnerOptions &options) {
  return options.processes ? placeProcess(plans, setHash, directory, options)
                           : placeInThisProcess(plans, directory, options);
}

Result<std::vector<Communicators>> connectRanks(const Placement &placement, Plans plans, const RunnerOptions &options) {
  std::vector<std::vector<CommGroup>> groups;
  for (const plan::Plan *plan : plans)
    groups.push_back(groupsOf(*plan));
  std::vector<Communicators> result(placement.places.size());
  if (options.link && (options.processes || deviceCount(plans[0]->target()->string_view()) != 0))
    return failedPrecondition(
        "a slower link can be tried with ranks that are threads of one process on the CPU alone; leave "
        "out --link-latency and --link-bandwidth");
  const uint32_t slots = slotsOf(*plans[0]);
  const bool spin = placement.places[0].spin && slots == 1;
  std::vector<std::byte> network;
  const bool first = !options.processes || options.processes->rank() == 0;
  if (placement.devices > 1 && first) {
    DISTC_ASSIGN(network, openDeviceNetwork(plans));
  }
  if (options.processes) {
    Processes &processes = *options.processes;
    const uint32_t self = processes.rank();
    if (placement.devices > 1) {
      DISTC_TRY(processes.control()->broadcast(network).status());
      result[0].push_back(
          joinDeviceNetwork(plans, self, placement.shares[0].device.index, network, processes.control()));
    } else {
      for (uint32_t slot = 0; slot < slots; ++slot) {
        DISTC_ASSIGN(std::shared_ptr<Link> link, processes.connect());
        result[0].push_back(connectMessages(self, groups[self], std::move(link), processes.control(), spin));
      }
    }
    return result;
  }
  const InProcessOptions inProcess{options.timeoutSeconds, spin, options.interrupted, placement.shares[0].device.memory,
                                   slots};
  if (placement.devices == 1) {
    auto communicators = connectInProcess(groups, inProcess);
    for (size_t c = 0; c < communicators.size(); ++c) {
      const size_t rank = c / slots;
      if (options.link) {
        std::vector<size_t> members;
        for (const CommGroup &group : groups[rank])
          members.push_back(group.ranks.size());
        communicators[c] = slowDown(std::move(communicators[c]), options.link->latencySeconds,
                                    options.link->bytesPerSecond, members, options.interrupted);
      }
      result[rank].push_back(std::move(communicators[c]));
    }
    return result;
  }
  const auto world = std::make_shared<World>(inProcess);
  for (uint32_t r = 0; r < plans.size(); ++r)
    result[r].push_back(joinDeviceNetwork(plans, r, placement.shares[r].device.index, network, world));
  return result;
}

} // namespace distc
