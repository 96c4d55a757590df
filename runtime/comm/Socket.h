// TCP connections between the processes of a run.
#pragma once

#include "distc/Status.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace distc {

/// How long something may wait, and what ends it before.
struct Patience {
  Patience(double seconds, const std::atomic<bool> *interrupted);

  std::chrono::steady_clock::time_point deadline;
  const std::atomic<bool> *interrupted;

  bool over() const { return std::chrono::steady_clock::now() >= deadline; }
  bool stopped() const { return interrupted && interrupted->load(std::memory_order_relaxed); }
};

/// An open socket, closed with its owner. Never blocks, and is not inherited by other programs.
class Socket {
public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket &operator=(Socket &&other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket() { close(); }

  int fd() const { return fd_; }
  bool isOpen() const { return fd_ >= 0; }
  void close();

  /// What could be moved now: 0 if nothing. None: the connection is gone (of read: or ended), errno says why (0:
  /// ended).
  std::optional<size_t> read(std::span<std::byte> out) const;
  std::optional<size_t> write(std::span<const std::byte> head, std::span<const std::byte> body = {}) const;

  /// Waits up to `milliseconds` until it can be read (or written).
  bool waitReadable(int milliseconds) const;
  bool waitWritable(int milliseconds) const;

private:
  int fd_ = -1;
};

/// Listens on every address of this host; port 0: a free one.
Result<Socket> listenOn(uint16_t port);
uint16_t portOf(const Socket &listener);
/// A connection that has come, if one has.
std::optional<Socket> acceptNow(const Socket &listener);
/// Connects to the first of `hosts` (names or addresses) that answers; tries again until the time is over, since the
/// other side may not listen yet.
Result<Socket> connectTo(const std::vector<std::string> &hosts, uint16_t port, const Patience &patience);

/// Moves all of it. FailedPrecondition if the connection ends, DeadlineExceeded, Cancelled; none names the peer.
Status readAll(const Socket &socket, std::span<std::byte> out, const Patience &patience);
Status writeAll(const Socket &socket, std::span<const std::byte> bytes, const Patience &patience);

/// The other end's address as text; empty if it has none.
std::string peerAddress(const Socket &socket);
bool isLoopback(const std::string &address);
/// Name and addresses of this host, as others may reach it.
std::string hostName();
std::vector<std::string> hostAddresses();

/// The kernel gives a connection up after some seconds in which the other host does not answer; a process that is only
/// busy, or stopped, stays connected.
void detectLostHost(const Socket &socket);

} // namespace distc
