#include "runtime/comm/Processes.h"

#include "runtime/comm/TcpLink.h"
#ifdef DISTC_HAVE_MPI
#include "runtime/comm/Mpi.h"
#endif

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <sstream>

namespace distc {

#ifndef DISTC_HAVE_MPI
class Mpi {};
#endif

namespace {

// The first of `names` that is set, as a number up to `most`.
Result<std::optional<uint32_t>> variable(std::initializer_list<const char *> names, uint32_t most) {
  for (const char *name : names)
    if (const char *text = std::getenv(name)) {
      const std::string_view value(text);
      uint32_t number = 0;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
      if (error != std::errc() || end != value.data() + value.size() || number > most)
        return invalidArgument(std::string(name) + " is '" + text + "', expected a number up to " +
                               std::to_string(most));
      return std::optional(number);
    }
  return std::optional<uint32_t>();
}

Result<uint32_t> needed(std::initializer_list<const char *> names, uint32_t most) {
  DISTC_ASSIGN(const std::optional<uint32_t> number, variable(names, most));
  if (!number)
    return failedPrecondition(std::string(*names.begin()) + " is not set; --ranks env needs RANK, WORLD_SIZE, "
                                                            "MASTER_ADDR and MASTER_PORT in the environment of each "
                                                            "process, as torchrun sets them");
  return *number;
}

constexpr uint32_t kMaxWorld = 1 << 16;

} // namespace

bool hasMpi() {
#ifdef DISTC_HAVE_MPI
  return true;
#else
  return false;
#endif
}

Processes::Processes() = default;
Processes::~Processes() = default;

Result<std::unique_ptr<Processes>> Processes::join(Launcher launcher, double timeoutSeconds,
                                                   const std::atomic<bool> *interrupted) {
  std::unique_ptr<Processes> processes(new Processes);
  ControlOptions options{0, 1, timeoutSeconds, interrupted};
  uint32_t port = 0;
  std::vector<std::string> hosts;
  Socket listener;
  auto listen = [&]() -> Status {
    DISTC_ASSIGN(listener, listenOn(static_cast<uint16_t>(port)));
    return {};
  };
  if (launcher == Launcher::Environment) {
    DISTC_ASSIGN(options.rank, needed({"RANK", "SLURM_PROCID"}, kMaxWorld - 1));
    DISTC_ASSIGN(options.world, needed({"WORLD_SIZE", "SLURM_NTASKS"}, kMaxWorld));
    DISTC_ASSIGN(port, needed({"MASTER_PORT"}, UINT16_MAX));
    DISTC_ASSIGN(processes->localRank_, variable({"LOCAL_RANK", "SLURM_LOCALID"}, kMaxWorld));
    const char *address = std::getenv("MASTER_ADDR");
    if (!address || !*address)
      return failedPrecondition("MASTER_ADDR is not set, expected the host of rank 0");
    if (options.rank >= options.world)
      return invalidArgument("RANK is " + std::to_string(options.rank) + " and WORLD_SIZE " +
                             std::to_string(options.world) + "; expected less than it");
    hosts = {address};
    // There torchrun itself listens on MASTER_PORT.
    if (const char *store = std::getenv("TORCHELASTIC_USE_AGENT_STORE"); store && std::string_view(store) == "True")
      ++port;
    if (options.rank == 0)
      DISTC_TRY(listen().context("MASTER_PORT"));
  } else {
#ifdef DISTC_HAVE_MPI
    DISTC_ASSIGN(processes->mpi_, Mpi::start());
    options.rank = processes->mpi_->rank();
    options.world = processes->mpi_->world();
    DISTC_ASSIGN(processes->localRank_, variable({"OMPI_COMM_WORLD_LOCAL_RANK"}, kMaxWorld));
    // "PORT NAME ADDRESS …"
    std::string place;
    if (options.rank == 0) {
      DISTC_TRY(listen());
      place = std::to_string(portOf(listener)) + " " + hostName();
      for (const std::string &address : hostAddresses())
        place += " " + address;
    }
    DISTC_TRY(processes->mpi_->broadcast(place, Patience(timeoutSeconds, interrupted)));
    std::istringstream words(place);
    std::string host;
    words >> port >> host;
    if (host == hostName())
      hosts.push_back("localhost");
    for (std::string address; words >> address;)
      hosts.push_back(address);
#else
    return failedPrecondition("this distrun was built without MPI; build it with -DDISTC_MPI=ON, or use --ranks env");
#endif
  }
  auto control = options.rank == 0 ? ControlPlane::host(listener, options)
                                   : ControlPlane::join(hosts, static_cast<uint16_t>(port), options);
  if (!control.ok())
    return control.status();
  processes->control_ = control.take();
  return processes;
}

Result<std::unique_ptr<Link>> Processes::connect() {
#ifdef DISTC_HAVE_MPI
  if (mpi_)
    return mpi_->link();
#endif
  return connectTcp(*control_);
}

bool Processes::finish(const Status &status) {
  const bool report = control_->finish(status);
#ifdef DISTC_HAVE_MPI
  if (mpi_ && status.ok())
    mpi_->finish();
#endif
  return report;
}

} // namespace distc
