// The control plane: what the processes of a run tell each other beside tensors. A connection joins rank 0 to every
// other rank, over which go the batch of each step, results, and failures. A thread listens on it, so that a process
// learns at once of a rank that has failed or is gone, whatever it is doing; and it gives a sign of life every second,
// so that one that is stopped is found out after the time limit.
#pragma once

#include "runtime/comm/Socket.h"
#include "runtime/comm/World.h"

#include <cstddef>
#include <deque>
#include <memory>
#include <thread>

namespace distc {

struct ControlOptions {
  uint32_t rank = 0, world = 1;                   // a rank for each process
  double timeoutSeconds = 60;                     // to find each other; and what World takes
  const std::atomic<bool> *interrupted = nullptr; // ends every wait with Code::Cancelled
};

class ControlPlane : public World {
public:
  using Bytes = std::vector<std::byte>;

  /// Rank 0: waits for all others. A failure tells those that have come.
  static Result<std::unique_ptr<ControlPlane>> host(const Socket &listener, const ControlOptions &options);
  /// The others: `hosts` are names or addresses of rank 0, any of which may answer.
  static Result<std::unique_ptr<ControlPlane>> join(const std::vector<std::string> &hosts, uint16_t port,
                                                    const ControlOptions &options);
  ~ControlPlane() override;

  uint32_t rank() const { return rank_; }
  uint32_t world() const { return world_; }

  // Calls of one thread at a time, the same ones in the same order on every rank. They wait as long as it takes: the
  // first failure of all ranks ends them.

  /// Rank 0's message to all: an input there, elsewhere an output. False: rank 0 has finished, and there is no message.
  Result<bool> broadcast(Bytes &message);
  /// Everyone's message to rank 0: there all of them, by rank; elsewhere nothing.
  Result<std::vector<Bytes>> gather(Bytes message);
  /// gather, then broadcast: everyone's messages, everywhere.
  Result<std::vector<Bytes>> exchange(Bytes message);

  /// Keeps the first failure, and tells every rank of it.
  void record(const Status &status) override;

  /// The last call: this process has ended with `status`. True if it is this process that must report the failure,
  /// which is rank 0's task as long as it can be reached: then this waits a moment until rank 0 has ended, since a
  /// launcher may end all processes as soon as one has failed.
  bool finish(const Status &status);

  /// The address of a rank's end, as this process sees it: on rank 0 of every other, elsewhere of rank 0.
  std::string addressOf(uint32_t rank) const { return peerAddress(peers_[rank].socket); }

private:
  enum class Kind : uint32_t { Hello, Message, Failure, Bye, Alive };
  struct Head {
    uint32_t magic;
    Kind kind;
    uint64_t bytes;
  };
  struct Hello {
    uint32_t version, rank, world;
  };
  struct Peer {
    Socket socket;
    std::unique_ptr<std::mutex> writing = std::make_unique<std::mutex>(); // a frame at a time
    // Of the listening thread: the frame that is being read.
    Head head{};
    size_t have = 0; // bytes of head and body
    Bytes body;
    std::chrono::steady_clock::time_point heard = std::chrono::steady_clock::now();
    // Under mutex_.
    std::deque<Bytes> messages;
    bool finished = false; // said that it ends
    bool closed = false;
  };

  explicit ControlPlane(const ControlOptions &options);
  Status admit(Socket socket, const Patience &patience);
  Status judge(const Hello &hello, const std::string &address) const;
  void listen();
  void showLife();
  bool readFrames(uint32_t rank);
  void handle(uint32_t rank, Kind kind, Bytes body);
  void lost(uint32_t rank, const std::string &why);
  Status send(uint32_t rank, Kind kind, std::span<const std::byte> body);
  void tellAll(Kind kind, std::span<const std::byte> body);
  Result<bool> receive(uint32_t rank, Bytes &message);

  const uint32_t rank_, world_;
  std::vector<Socket> late_; // refused, and told why
  std::vector<Peer> peers_;  // by rank; those without a socket are not spoken to
  std::mutex mutex_;
  std::condition_variable changed_;
  bool told_ = false; // rank 0 knows of the failure
  std::atomic<bool> finishing_{false}, stop_{false};
  std::thread listener_;
};

} // namespace distc
