#include "runtime/comm/ControlPlane.h"

#include "runtime/comm/Bytes.h"

#include <cerrno>
#include <cstring>
#include <poll.h>

namespace distc {

namespace {

constexpr uint32_t kMagic = 0x43545344, kVersion = 1; // of this protocol
constexpr uint64_t kMaxBytes = uint64_t(1) << 34;     // of a message: whatever says more is not ours
constexpr int kPollMilliseconds = 20;
constexpr double kHelloSeconds = 1;   // who has connected says at once who it is
constexpr double kLateSeconds = 1;    // for processes that come when the run has failed already
constexpr double kFailureSeconds = 1; // to tell a rank of a failure that no longer reads
constexpr std::chrono::seconds kAlive{1};
constexpr double kSilentSeconds = 5; // at least, whatever the time limit
constexpr double kReportSeconds = 3; // for rank 0 to report a failure

template <typename T> std::span<const std::byte> bytesOf(const T &value) { return std::as_bytes(std::span(&value, 1)); }

std::string name(uint32_t rank) { return "rank " + std::to_string(rank); }

ByteWriter pack(const Status &status) {
  ByteWriter writer;
  writer.put(static_cast<uint32_t>(status.code())).put(status.message());
  return writer;
}

Status unpack(std::span<const std::byte> bytes) {
  uint32_t code = 0;
  std::string message;
  const bool ok = ByteReader(bytes).get(code).get(message).atEnd();
  if (!ok || code == 0 || code > static_cast<uint32_t>(Code::Internal))
    return internal("a failure that cannot be read");
  return {static_cast<Code>(code), message};
}

} // namespace

ControlPlane::ControlPlane(const ControlOptions &options)
    : World({.timeoutSeconds = options.timeoutSeconds, .interrupted = options.interrupted}), rank_(options.rank),
      world_(options.world), peers_(options.world) {}

Result<std::unique_ptr<ControlPlane>> ControlPlane::host(const Socket &listener, const ControlOptions &options) {
  std::unique_ptr<ControlPlane> plane(new ControlPlane(options));
  const Patience patience(options.timeoutSeconds, options.interrupted);
  auto missing = [&] {
    std::string ranks;
    for (uint32_t r = 1; r < options.world; ++r)
      if (!plane->peers_[r].socket.isOpen())
        ranks += (ranks.empty() ? "" : ", ") + name(r);
    return ranks;
  };
  Status status;
  while (status.ok() && !missing().empty()) {
    if (std::optional<Socket> socket = acceptNow(listener))
      status = plane->admit(std::move(*socket), patience);
    else if (patience.stopped())
      status = cancelled("interrupted");
    else if (patience.over())
      status = deadlineExceeded("rank 0" + plane->waited() + missing() + " to connect to port " +
                                std::to_string(portOf(listener)) + "; a process must be started for each rank");
    else
      (void)listener.waitReadable(kPollMilliseconds);
  }
  if (!status.ok()) {
    plane->record(status);
    // Those that come now would wait for the time limit.
    for (const Patience late(kLateSeconds, options.interrupted); !late.over() && !late.stopped() && !missing().empty();)
      if (std::optional<Socket> socket = acceptNow(listener))
        (void)plane->admit(std::move(*socket), late);
      else
        (void)listener.waitReadable(kPollMilliseconds);
    return status;
  }
  plane->listener_ = std::thread([&plane = *plane] { plane.listen(); });
  return plane;
}

// Whoever does not speak this protocol is turned away; who speaks it and does not fit is a failure of the run.
Status ControlPlane::admit(Socket socket, const Patience &patience) {
  Head head{};
  Hello hello{};
  const Patience soon(kHelloSeconds, patience.interrupted);
  if (!readAll(socket, std::as_writable_bytes(std::span(&head, 1)), soon).ok() || head.magic != kMagic ||
      head.kind != Kind::Hello || head.bytes != sizeof(hello) ||
      !readAll(socket, std::as_writable_bytes(std::span(&hello, 1)), soon).ok())
    return {};
  Status status = failed() ? failure() : judge(hello, peerAddress(socket));
  if (!status.ok()) {
    const auto body = pack(status).take();
    const Head refusal{kMagic, Kind::Failure, body.size()};
    (void)writeAll(socket, bytesOf(refusal), soon);
    (void)writeAll(socket, body, soon);
    late_.push_back(std::move(socket)); // closed when rank 0 has reported
    return status;
  }
  detectLostHost(socket);
  peers_[hello.rank].socket = std::move(socket);
  return {};
}

Status ControlPlane::judge(const Hello &hello, const std::string &address) const {
  if (hello.version != kVersion)
    return failedPrecondition("the process at " + address + " is of another version of distrun than rank 0");
  if (hello.world != world_)
    return failedPrecondition(name(hello.rank) + " was started as one of " + std::to_string(hello.world) +
                              " processes, rank 0 as one of " + std::to_string(world_) + "; start all with one size");
  if (hello.rank == 0 || hello.rank >= world_)
    return failedPrecondition("the process at " + address + " was started as rank " + std::to_string(hello.rank) +
                              " of " + std::to_string(world_) + (hello.rank == 0 ? ", and there is a rank 0" : ""));
  if (peers_[hello.rank].socket.isOpen())
    return failedPrecondition("two processes were started as " + name(hello.rank));
  return {};
}

Result<std::unique_ptr<ControlPlane>> ControlPlane::join(const std::vector<std::string> &hosts, uint16_t port,
                                                         const ControlOptions &options) {
  std::unique_ptr<ControlPlane> plane(new ControlPlane(options));
  const Patience patience(options.timeoutSeconds, options.interrupted);
  Result<Socket> socket = connectTo(hosts, port, patience);
  if (!socket.ok()) {
    if (socket.status().code() == Code::Cancelled)
      return socket.status();
    return deadlineExceeded(name(options.rank) + plane->waited() + "rank 0 at " + (hosts.empty() ? "" : hosts[0]) +
                            ":" + std::to_string(port) + ": " + socket.status().message());
  }
  detectLostHost(*socket);
  plane->peers_[0].socket = socket.take();
  const Hello hello{kVersion, options.rank, options.world};
  DISTC_TRY(plane->send(0, Kind::Hello, bytesOf(hello)));
  plane->listener_ = std::thread([&plane = *plane] { plane.listen(); });
  return plane;
}

ControlPlane::~ControlPlane() {
  stop_ = true;
  if (listener_.joinable())
    listener_.join();
}

Result<bool> ControlPlane::broadcast(Bytes &message) {
  if (rank_ != 0)
    return receive(0, message);
  DISTC_TRY(failure());
  for (uint32_t r = 1; r < world_; ++r)
    DISTC_TRY(send(r, Kind::Message, message));
  return true;
}

Result<std::vector<ControlPlane::Bytes>> ControlPlane::gather(Bytes message) {
  std::vector<Bytes> all;
  if (rank_ != 0) {
    DISTC_TRY(failure());
    DISTC_TRY(send(0, Kind::Message, message));
    return all;
  }
  all.resize(world_);
  all[0] = std::move(message);
  for (uint32_t r = 1; r < world_; ++r) {
    DISTC_ASSIGN(const bool more, receive(r, all[r]));
    if (!more) {
      record(internal(name(r) + " has ended before the run"));
      return failure();
    }
  }
  return all;
}

Result<std::vector<ControlPlane::Bytes>> ControlPlane::exchange(Bytes message) {
  DISTC_ASSIGN(std::vector<Bytes> all, gather(std::move(message)));
  ByteWriter writer;
  for (const Bytes &one : all)
    writer.put(one);
  Bytes together = writer.take();
  DISTC_ASSIGN(const bool more, broadcast(together));
  all.resize(world_);
  ByteReader reader(together);
  for (Bytes &one : all) {
    one.clear();
    reader.get(one);
  }
  if (!more || !reader.atEnd())
    return internal(name(rank_) + ": what all ranks said cannot be read");
  return all;
}

Result<bool> ControlPlane::receive(uint32_t rank, Bytes &message) {
  Peer &peer = peers_[rank];
  std::unique_lock lock(mutex_);
  while (peer.messages.empty()) {
    if (peer.finished)
      return false;
    if (failed())
      return failure();
    if (interrupted()) {
      lock.unlock();
      record(cancelled("interrupted"));
      return failure();
    }
    changed_.wait_for(lock, std::chrono::milliseconds(kPollMilliseconds));
  }
  message = std::move(peer.messages.front());
  peer.messages.pop_front();
  return true;
}

void ControlPlane::record(const Status &status) {
  if (failed() || finishing_)
    return;
  World::record(status);
  tellAll(Kind::Failure, pack(failure()).bytes());
  std::lock_guard lock(mutex_);
  changed_.notify_all();
}

bool ControlPlane::finish(const Status &status) {
  if (status.ok()) {
    finishing_ = true;
    tellAll(Kind::Bye, {});
    return false;
  }
  record(status);
  if (rank_ == 0)
    return true;
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::duration<double>(kReportSeconds), [&] { return peers_[0].closed; });
  return !told_ || !peers_[0].closed;
}

Status ControlPlane::send(uint32_t rank, Kind kind, std::span<const std::byte> body) {
  Peer &peer = peers_[rank];
  const Head head{kMagic, kind, body.size()};
  const std::span<const std::byte> headBytes = bytesOf(head);
  const bool last = kind == Kind::Failure || kind == Kind::Bye;
  // Whoever else writes to this rank gives up soon after a failure, so this does not wait long.
  std::unique_lock lock(*peer.writing);
  std::optional<Patience> patience;
  if (last)
    patience.emplace(kFailureSeconds, nullptr);
  for (size_t at = 0; at < sizeof(head) + body.size();) {
    const auto rest = at < sizeof(head) ? headBytes.subspan(at) : std::span<const std::byte>();
    const std::optional<size_t> sent = peer.socket.write(rest, body.subspan(at < sizeof(head) ? 0 : at - sizeof(head)));
    if (!sent) {
      const std::string why = std::strerror(errno);
      lock.unlock(); // all are told now, this rank too
      if (!last)
        lost(rank, why);
      return failure();
    }
    at += *sent;
    if (*sent != 0)
      continue;
    // A message that is left half sent ends the conversation, so a failure gives it some time.
    if (!patience && failed())
      patience.emplace(kFailureSeconds, nullptr);
    if (patience && patience->over())
      break;
    (void)peer.socket.waitWritable(kPollMilliseconds);
  }
  return last ? Status() : failure();
}

void ControlPlane::tellAll(Kind kind, std::span<const std::byte> body) {
  for (uint32_t r = 0; r < world_; ++r)
    if (peers_[r].socket.isOpen())
      (void)send(r, kind, body);
}

void ControlPlane::lost(uint32_t rank, const std::string &why) {
  record(failedPrecondition(
      name(rank) + " is lost: its process has ended or is stopped, or its host cannot be reached (" + why + ")"));
}

void ControlPlane::listen() {
  using Clock = std::chrono::steady_clock;
  std::vector<pollfd> entries;
  std::vector<uint32_t> ranks;
  const std::chrono::duration<double> silence(std::max(timeoutSeconds(), kSilentSeconds));
  Clock::time_point alive = Clock::now();
  for (Peer &peer : peers_)
    peer.heard = alive;
  while (!stop_) {
    if (const auto now = Clock::now(); now - alive >= kAlive) {
      alive = now;
      showLife();
    }
    entries.clear();
    ranks.clear();
    for (uint32_t r = 0; r < world_; ++r)
      if (peers_[r].socket.isOpen() && !peers_[r].closed) {
        entries.push_back({peers_[r].socket.fd(), POLLIN, 0});
        ranks.push_back(r);
        if (Clock::now() - peers_[r].heard > silence)
          lost(r, "it is silent");
      }
    if (::poll(entries.data(), entries.size(), kPollMilliseconds) <= 0)
      continue;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (entries[i].revents == 0 || readFrames(ranks[i]))
        continue;
      const std::string why = errno == 0 ? "the connection was closed" : std::strerror(errno);
      Peer &peer = peers_[ranks[i]];
      bool expected;
      {
        std::lock_guard lock(mutex_);
        expected = peer.finished;
        peer.closed = true;
      }
      if (!expected)
        lost(ranks[i], why);
      changed_.notify_all();
    }
  }
}

// Leaves out who is being told something anyway, or does not read.
void ControlPlane::showLife() {
  const Head head{kMagic, Kind::Alive, 0};
  for (Peer &peer : peers_)
    if (peer.socket.isOpen() && !peer.closed && peer.socket.waitWritable(0))
      if (std::unique_lock lock(*peer.writing, std::try_to_lock); lock.owns_lock())
        (void)writeAll(peer.socket, bytesOf(head), Patience(kFailureSeconds, nullptr));
}

// What has come so far; false: the connection is gone, errno says why.
bool ControlPlane::readFrames(uint32_t rank) {
  Peer &peer = peers_[rank];
  while (true) {
    const bool inHead = peer.have < sizeof(Head);
    const std::span<std::byte> into = inHead ? std::as_writable_bytes(std::span(&peer.head, 1)).subspan(peer.have)
                                             : std::span<std::byte>(peer.body).subspan(peer.have - sizeof(Head));
    if (!into.empty()) {
      const std::optional<size_t> read = peer.socket.read(into);
      if (!read)
        return false;
      if (*read == 0)
        return true;
      peer.have += *read;
      peer.heard = std::chrono::steady_clock::now();
    }
    if (peer.have < sizeof(Head))
      continue;
    if (inHead) {
      if (peer.head.magic != kMagic || peer.head.bytes > kMaxBytes) {
        errno = EPROTO;
        return false;
      }
      peer.body.resize(peer.head.bytes);
    }
    if (peer.have < sizeof(Head) + peer.head.bytes)
      continue;
    peer.have = 0;
    handle(rank, peer.head.kind, std::move(peer.body));
    peer.body = {};
  }
}

void ControlPlane::handle(uint32_t rank, Kind kind, Bytes body) {
  if (kind == Kind::Failure) {
    {
      std::lock_guard lock(mutex_);
      told_ |= rank == 0;
    }
    // Rank 0 tells the others, and the one that it comes from, that it knows.
    record(unpack(body));
    return;
  }
  if (kind == Kind::Alive)
    return;
  std::lock_guard lock(mutex_);
  if (kind == Kind::Bye)
    peers_[rank].finished = true;
  else
    peers_[rank].messages.push_back(std::move(body));
  changed_.notify_all();
}

} // namespace distc
