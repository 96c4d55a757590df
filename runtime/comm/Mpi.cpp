#include "runtime/comm/Mpi.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <climits>
#include <cstring>
#include <mpi.h>
#include <mutex>
#include <thread>

namespace distc {

namespace {

constexpr int kFirstTag = 1; // each link has one
// Links may be used by a thread each, MPI by one at a time. Nothing that is called under this waits.
std::mutex callsMutex;
constexpr size_t kTextBytes = 4096;

Status check(int code, const char *what) {
  if (code == MPI_SUCCESS)
    return {};
  char text[MPI_MAX_ERROR_STRING];
  int size = 0;
  (void)MPI_Error_string(code, text, &size);
  return internal(std::string("MPI cannot ") + what + ": " + std::string(text, static_cast<size_t>(size)));
}

class MpiLink : public Link {
public:
  MpiLink(uint32_t world, int tag) : Link(world), tag_(tag), incoming_(world) {}

  Status send(uint32_t to, std::span<const std::byte> head, std::span<const std::byte> body) override {
    const size_t size = head.size() + body.size();
    if (size > INT_MAX)
      return resourceExhausted("a message of " + std::to_string(size) +
                               " bytes is more than MPI takes; compile for fewer tokens of one step (--max-tokens)");
    Message message = spare(size);
    std::memcpy(message.data(), head.data(), head.size());
    if (!body.empty())
      std::memcpy(message.data() + head.size(), body.data(), body.size());
    outgoing_.push_back({std::move(message), MPI_REQUEST_NULL});
    Transfer &transfer = outgoing_.back();
    std::lock_guard lock(callsMutex);
    return check(MPI_Isend(transfer.message.data(), static_cast<int>(size), MPI_BYTE, static_cast<int>(to), tag_,
                           MPI_COMM_WORLD, &transfer.request),
                 "send");
  }

  Status progress() override {
    std::lock_guard lock(callsMutex);
    while (!outgoing_.empty()) {
      int done = 0;
      DISTC_TRY(check(MPI_Test(&outgoing_.front().request, &done, MPI_STATUS_IGNORE), "send"));
      if (!done)
        break;
      recycle(std::move(outgoing_.front().message));
      outgoing_.pop_front();
    }
    DISTC_TRY(beginReceives());
    // A long message comes when its sender moves it on; what was sent after it waits for its turn.
    for (uint32_t from = 0; receiving_ != 0 && from < incoming_.size(); ++from)
      while (!incoming_[from].empty()) {
        int done = 0;
        DISTC_TRY(check(MPI_Test(&incoming_[from].front().request, &done, MPI_STATUS_IGNORE), "receive"));
        if (!done)
          break;
        inbox(from).push_back(std::move(incoming_[from].front().message));
        incoming_[from].pop_front();
        --receiving_;
      }
    return {};
  }

  bool drained() const override { return outgoing_.empty(); }

  void pause(uint32_t idle) override {
    // There is nothing to sleep on; MPI must be called to move anything.
    if (idle < 1000)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(50));
  }

private:
  struct Transfer {
    Message message;
    MPI_Request request;
  };

  Status beginReceives() {
    while (true) {
      int found = 0, size = 0;
      MPI_Message handle;
      MPI_Status status;
      DISTC_TRY(check(MPI_Improbe(MPI_ANY_SOURCE, tag_, MPI_COMM_WORLD, &found, &handle, &status), "receive"));
      if (!found)
        return {};
      DISTC_TRY(check(MPI_Get_count(&status, MPI_BYTE, &size), "receive"));
      auto &queue = incoming_[static_cast<size_t>(status.MPI_SOURCE)];
      queue.push_back({spare(static_cast<size_t>(size)), MPI_REQUEST_NULL});
      ++receiving_;
      DISTC_TRY(
          check(MPI_Imrecv(queue.back().message.data(), size, MPI_BYTE, &handle, &queue.back().request), "receive"));
    }
  }

  const int tag_;
  std::deque<Transfer> outgoing_;
  std::vector<std::deque<Transfer>> incoming_; // by sender
  size_t receiving_ = 0;
};

} // namespace

Result<std::unique_ptr<Mpi>> Mpi::start() {
  int provided = 0, rank = 0, world = 0;
  // Threads of this process's rank make the calls, not the one that starts and ends MPI.
  DISTC_TRY(check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "start"));
  if (provided < MPI_THREAD_SERIALIZED)
    return failedPrecondition("this MPI cannot be used by a thread other than the first (MPI_THREAD_SERIALIZED)");
  (void)MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  DISTC_TRY(check(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "tell the rank"));
  DISTC_TRY(check(MPI_Comm_size(MPI_COMM_WORLD, &world), "tell the number of ranks"));
  return std::unique_ptr<Mpi>(new Mpi(static_cast<uint32_t>(rank), static_cast<uint32_t>(world)));
}

Status Mpi::broadcast(std::string &text, const Patience &patience) {
  static std::array<char, kTextBytes> buffer; // MPI may write to it even after this has given up
  std::copy_n(text.data(), std::min(text.size(), buffer.size() - 1), buffer.data());
  MPI_Request request;
  DISTC_TRY(check(MPI_Ibcast(buffer.data(), static_cast<int>(buffer.size()), MPI_BYTE, 0, MPI_COMM_WORLD, &request),
                  "broadcast"));
  for (int done = 0; !done;) {
    DISTC_TRY(check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "broadcast"));
    if (patience.stopped())
      return cancelled("interrupted");
    if (patience.over())
      return deadlineExceeded("rank " + std::to_string(rank_) + ": no word of rank 0 over MPI within the time limit");
    std::this_thread::yield();
  }
  text.assign(buffer.data());
  return {};
}

std::unique_ptr<Link> Mpi::link() { return std::make_unique<MpiLink>(world_, kFirstTag + links_++); }

void Mpi::finish() { (void)MPI_Finalize(); }

} // namespace distc
