#include "runtime/comm/Socket.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <thread>
#include <unistd.h>

namespace distc {

namespace {

constexpr int kPollMilliseconds = 20; // how soon an interrupt is seen

void set(int fd, int level, int option, int value) { (void)::setsockopt(fd, level, option, &value, sizeof(value)); }

bool waitFor(int fd, short events, int milliseconds) {
  pollfd entry{fd, events, 0};
  return ::poll(&entry, 1, milliseconds) > 0;
}

std::string numeric(const sockaddr *address, socklen_t length) {
  char text[NI_MAXHOST];
  if (::getnameinfo(address, length, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) != 0)
    return "";
  return text;
}

// Null with errno: this address did not answer.
Socket connectOnce(const addrinfo &address, const Patience &patience) {
  Socket socket(::socket(address.ai_family, address.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.isOpen())
    return {};
  if (::connect(socket.fd(), address.ai_addr, address.ai_addrlen) != 0) {
    if (errno != EINPROGRESS)
      return {};
    // A host that is not there does not answer at all: another address may.
    constexpr int kTries = 2000 / kPollMilliseconds;
    for (int i = 0; !socket.waitWritable(kPollMilliseconds); ++i)
      if (i >= kTries || patience.over() || patience.stopped()) {
        errno = ETIMEDOUT;
        return {};
      }
    int error = 0;
    socklen_t size = sizeof(error);
    (void)::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
      errno = error;
      return {};
    }
  }
  set(socket.fd(), IPPROTO_TCP, TCP_NODELAY, 1);
  return socket;
}

template <typename Move, typename Wait> Status moveAll(size_t bytes, const Patience &patience, Move move, Wait wait) {
  for (size_t at = 0; at < bytes;) {
    const std::optional<size_t> moved = move(at);
    if (!moved)
      return failedPrecondition(errno == 0 ? "the connection has ended"
                                           : std::string("the connection is lost: ") + std::strerror(errno));
    at += *moved;
    if (*moved != 0)
      continue;
    if (patience.stopped())
      return cancelled("interrupted");
    if (patience.over())
      return deadlineExceeded("no answer in time");
    wait();
  }
  return {};
}

} // namespace

Patience::Patience(double seconds, const std::atomic<bool> *interrupted)
    : deadline(std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                                      std::chrono::duration<double>(std::clamp(seconds, 0.0, 1e8)))),
      interrupted(interrupted) {}

void Socket::close() {
  if (fd_ >= 0)
    ::close(std::exchange(fd_, -1));
}

std::optional<size_t> Socket::read(std::span<std::byte> out) const {
  if (out.empty())
    return 0;
  const ssize_t n = ::recv(fd_, out.data(), out.size(), MSG_DONTWAIT);
  if (n > 0)
    return static_cast<size_t>(n);
  if (n == 0) {
    errno = 0;
    return std::nullopt;
  }
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? std::optional<size_t>(0) : std::nullopt;
}

std::optional<size_t> Socket::write(std::span<const std::byte> head, std::span<const std::byte> body) const {
  iovec parts[2] = {{const_cast<std::byte *>(head.data()), head.size()},
                    {const_cast<std::byte *>(body.data()), body.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  const ssize_t n = ::sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n >= 0)
    return static_cast<size_t>(n);
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? std::optional<size_t>(0) : std::nullopt;
}

bool Socket::waitReadable(int milliseconds) const { return waitFor(fd_, POLLIN, milliseconds); }
bool Socket::waitWritable(int milliseconds) const { return waitFor(fd_, POLLOUT, milliseconds); }

Result<Socket> listenOn(uint16_t port) {
  for (int family : {AF_INET6, AF_INET}) { // the first takes both kinds of addresses, where the host has it
    Socket socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket.isOpen())
      continue;
    set(socket.fd(), SOL_SOCKET, SO_REUSEADDR, 1);
    sockaddr_storage any{};
    socklen_t size = sizeof(sockaddr_in);
    if (family == AF_INET6) {
      set(socket.fd(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
      auto *address = reinterpret_cast<sockaddr_in6 *>(&any);
      *address = {};
      address->sin6_family = AF_INET6;
      address->sin6_port = htons(port);
      size = sizeof(sockaddr_in6);
    } else {
      auto *address = reinterpret_cast<sockaddr_in *>(&any);
      address->sin_family = AF_INET;
      address->sin_port = htons(port);
    }
    if (::bind(socket.fd(), reinterpret_cast<sockaddr *>(&any), size) == 0 && ::listen(socket.fd(), SOMAXCONN) == 0)
      return socket;
    if (errno == EADDRINUSE || errno == EACCES)
      break;
  }
  return failedPrecondition("cannot listen on port " + std::to_string(port) + ": " + std::strerror(errno));
}

uint16_t portOf(const Socket &listener) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (::getsockname(listener.fd(), reinterpret_cast<sockaddr *>(&address), &size) != 0)
    return 0;
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6 *>(&address)->sin6_port
                                             : reinterpret_cast<sockaddr_in *>(&address)->sin_port);
}

std::optional<Socket> acceptNow(const Socket &listener) {
  Socket socket(::accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.isOpen())
    return std::nullopt;
  set(socket.fd(), IPPROTO_TCP, TCP_NODELAY, 1);
  return socket;
}

Result<Socket> connectTo(const std::vector<std::string> &hosts, uint16_t port, const Patience &patience) {
  std::string reason = "it has no address";
  do {
    for (const std::string &host : hosts) {
      addrinfo hints{}, *found = nullptr;
      hints.ai_socktype = SOCK_STREAM;
      if (const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found); error != 0) {
        reason = host + ": " + ::gai_strerror(error);
        continue;
      }
      Socket socket;
      for (const addrinfo *address = found; address && !socket.isOpen(); address = address->ai_next)
        if (socket = connectOnce(*address, patience); !socket.isOpen())
          reason = std::strerror(errno);
      ::freeaddrinfo(found);
      if (socket.isOpen())
        return socket;
    }
    if (patience.stopped())
      return cancelled("interrupted");
    std::this_thread::sleep_for(std::chrono::milliseconds(kPollMilliseconds));
  } while (!patience.over());
  return deadlineExceeded(reason);
}

Status readAll(const Socket &socket, std::span<std::byte> out, const Patience &patience) {
  return moveAll(
      out.size(), patience, [&](size_t at) { return socket.read(out.subspan(at)); },
      [&] { (void)socket.waitReadable(kPollMilliseconds); });
}

Status writeAll(const Socket &socket, std::span<const std::byte> bytes, const Patience &patience) {
  return moveAll(
      bytes.size(), patience, [&](size_t at) { return socket.write(bytes.subspan(at)); },
      [&] { (void)socket.waitWritable(kPollMilliseconds); });
}

std::string peerAddress(const Socket &socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (::getpeername(socket.fd(), reinterpret_cast<sockaddr *>(&address), &size) != 0)
    return "";
  return numeric(reinterpret_cast<sockaddr *>(&address), size);
}

bool isLoopback(const std::string &address) {
  return address == "::1" || address.starts_with("127.") || address.starts_with("::ffff:127.");
}

std::string hostName() {
  char name[256] = "";
  return ::gethostname(name, sizeof(name) - 1) == 0 ? name : "";
}

std::vector<std::string> hostAddresses() {
  std::vector<std::string> addresses;
  ifaddrs *list = nullptr;
  if (::getifaddrs(&list) == 0)
    for (const ifaddrs *i = list; i; i = i->ifa_next)
      if (i->ifa_addr && (i->ifa_flags & IFF_UP) && !(i->ifa_flags & IFF_LOOPBACK)) {
        const int family = i->ifa_addr->sa_family;
        if (family == AF_INET || family == AF_INET6)
          addresses.push_back(numeric(i->ifa_addr, family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6)));
      }
  if (list)
    ::freeifaddrs(list);
  addresses.push_back(hostName());
  return addresses;
}

void detectLostHost(const Socket &socket) {
  set(socket.fd(), SOL_SOCKET, SO_KEEPALIVE, 1);
  set(socket.fd(), IPPROTO_TCP, TCP_KEEPIDLE, 1);
  set(socket.fd(), IPPROTO_TCP, TCP_KEEPINTVL, 1);
  set(socket.fd(), IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(socket.fd(), IPPROTO_TCP, TCP_USER_TIMEOUT, 4000); // milliseconds, for data that is not acknowledged
}

} // namespace distc
