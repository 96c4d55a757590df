#include "runtime/comm/TcpLink.h"

#include "runtime/comm/Bytes.h"

#include <cerrno>
#include <cstring>
#include <poll.h>
#include <random>

namespace distc {

namespace {

constexpr int kPollMilliseconds = 5; // how soon a failure of another rank is seen

std::string name(uint32_t rank) { return "rank " + std::to_string(rank); }

class TcpLink : public Link {
public:
  explicit TcpLink(uint32_t world) : Link(world), peers_(world) {}

  void add(uint32_t rank, Socket socket) { peers_[rank].socket = std::move(socket); }
  bool has(uint32_t rank) const { return peers_[rank].socket.isOpen(); }

  Status send(uint32_t to, std::span<const std::byte> head, std::span<const std::byte> body) override {
    Peer &peer = peers_[to];
    const uint64_t size = head.size() + body.size();
    Message first = spare(sizeof(size) + head.size());
    std::memcpy(first.data(), &size, sizeof(size));
    if (!head.empty())
      std::memcpy(first.data() + sizeof(size), head.data(), head.size());
    size_t sent = 0;
    if (peer.waiting.empty()) {
      const std::optional<size_t> now = peer.socket.write(first, body);
      if (!now)
        return lost(to);
      sent = *now;
    }
    // What does not go now is copied, in order.
    if (sent < first.size() + body.size()) {
      first.insert(first.end(), body.begin(), body.end());
      peer.waiting.push_back({std::move(first), sent});
      ++waiting_;
    } else {
      recycle(std::move(first));
    }
    return {};
  }

  Status progress() override {
    for (uint32_t r = 0; r < peers_.size(); ++r) {
      if (!peers_[r].socket.isOpen())
        continue;
      if (!writeWaiting(peers_[r]) || !readMessages(r))
        return lost(r);
    }
    return {};
  }

  bool drained() const override { return waiting_ == 0; }

  void pause(uint32_t) override {
    entries_.clear();
    for (const Peer &peer : peers_)
      if (peer.socket.isOpen())
        entries_.push_back({peer.socket.fd(), static_cast<short>(peer.waiting.empty() ? POLLIN : POLLIN | POLLOUT), 0});
    (void)::poll(entries_.data(), entries_.size(), kPollMilliseconds);
  }

private:
  struct Outgoing {
    Message bytes;
    size_t sent;
  };
  struct Peer {
    Socket socket;
    std::deque<Outgoing> waiting;
    uint64_t size = 0; // of the message that is being read
    size_t have = 0;   // bytes of its size and of itself
    Message message;
  };

  Status lost(uint32_t rank) {
    return failedPrecondition(name(rank) +
                              " is lost: " + (errno == 0 ? "it has closed the connection" : std::strerror(errno)));
  }

  bool writeWaiting(Peer &peer) {
    while (!peer.waiting.empty()) {
      Outgoing &next = peer.waiting.front();
      const std::optional<size_t> sent = peer.socket.write(std::span<const std::byte>(next.bytes).subspan(next.sent));
      if (!sent)
        return false;
      next.sent += *sent;
      if (next.sent < next.bytes.size())
        return true;
      recycle(std::move(next.bytes));
      peer.waiting.pop_front();
      --waiting_;
    }
    return true;
  }

  bool readMessages(uint32_t rank) {
    Peer &peer = peers_[rank];
    while (true) {
      const bool inSize = peer.have < sizeof(peer.size);
      const std::span<std::byte> into = inSize ? std::as_writable_bytes(std::span(&peer.size, 1)).subspan(peer.have)
                                               : std::span(peer.message).subspan(peer.have - sizeof(peer.size));
      if (!into.empty()) {
        const std::optional<size_t> read = peer.socket.read(into);
        if (!read)
          return false;
        if (*read == 0)
          return true;
        peer.have += *read;
      }
      if (peer.have < sizeof(peer.size))
        continue;
      if (inSize)
        peer.message = spare(peer.size);
      if (peer.have < sizeof(peer.size) + peer.size)
        continue;
      inbox(rank).push_back(std::move(peer.message));
      peer.have = 0;
    }
  }

  std::vector<Peer> peers_; // by rank; this one's has no socket
  size_t waiting_ = 0;
  std::vector<pollfd> entries_;
};

// How a rank is reached: at the address from which rank 0 sees it. A rank on rank 0's own host may be seen at a
// loopback address, which is of no use to others: they take rank 0's.
struct Place {
  std::string address; // empty: as rank 0
  uint16_t port = 0;
};

struct Greeting {
  uint64_t token;
  uint32_t rank;
};

} // namespace

Result<std::unique_ptr<Link>> connectTcp(ControlPlane &control) {
  auto link = std::make_unique<TcpLink>(control.world());
  DISTC_ASSIGN(const Socket listener, listenOn(0));
  DISTC_ASSIGN(const auto ports, control.gather(ByteWriter().put(portOf(listener)).take()));
  uint64_t token = 0; // tells a rank of this run from whoever else may connect
  ByteWriter table;
  if (control.rank() == 0) {
    std::random_device random;
    token = uint64_t(random()) << 32 | random();
    for (uint32_t r = 0; r < control.world(); ++r) {
      Place place;
      ByteReader(ports[r]).get(place.port);
      if (r != 0 && !isLoopback(control.addressOf(r)))
        place.address = control.addressOf(r);
      table.put(place.address).put(place.port);
    }
    table.put(token);
  }
  ControlPlane::Bytes told = table.take();
  DISTC_ASSIGN(const bool more, control.broadcast(told));
  std::vector<Place> places(control.world());
  ByteReader reader(told);
  for (Place &place : places)
    reader.get(place.address).get(place.port);
  if (!more || !reader.get(token).atEnd())
    return internal(name(control.rank()) + ": where the other ranks are cannot be read");

  // Each connects to those before it; a connection is made without the other side's doing, so nobody waits in a circle.
  const Greeting greeting{token, control.rank()};
  for (uint32_t r = 0; r < control.rank(); ++r) {
    const std::string host = places[r].address.empty() ? control.addressOf(0) : places[r].address;
    DISTC_TRY(control.failure());
    Result<Socket> socket =
        connectTo({host}, places[r].port, Patience(control.timeoutSeconds(), control.interruptedFlag()));
    Status status = socket.status();
    if (status.ok())
      status = writeAll(*socket, std::as_bytes(std::span(&greeting, 1)),
                        Patience(control.timeoutSeconds(), control.interruptedFlag()));
    if (!status.ok())
      return Status(status.code(), name(control.rank()) + ": cannot connect to " + name(r) + " at " + host + ":" +
                                       std::to_string(places[r].port) + ": " + status.message());
    link->add(r, socket.take());
  }
  const Patience patience(control.timeoutSeconds(), control.interruptedFlag());
  for (uint32_t missing = control.world() - 1 - control.rank(); missing != 0;) {
    DISTC_TRY(control.failure());
    if (control.interrupted())
      return cancelled("interrupted");
    if (patience.over())
      return deadlineExceeded(name(control.rank()) + control.waited() + std::to_string(missing) +
                              " ranks to connect to port " + std::to_string(portOf(listener)));
    std::optional<Socket> socket = acceptNow(listener);
    if (!socket) {
      (void)listener.waitReadable(kPollMilliseconds);
      continue;
    }
    Greeting other{};
    if (!readAll(*socket, std::as_writable_bytes(std::span(&other, 1)), Patience(1, control.interruptedFlag())).ok() ||
        other.token != token || other.rank <= control.rank() || other.rank >= control.world() || link->has(other.rank))
      continue; // not one of us
    link->add(other.rank, std::move(*socket));
    --missing;
  }
  return std::unique_ptr<Link>(std::move(link));
}

} // namespace distc
