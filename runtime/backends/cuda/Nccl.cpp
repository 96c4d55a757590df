#include "runtime/backends/cuda/Nccl.h"

#include "distc/kernels/Cuda.h"
#include "runtime/backends/cuda/CudaBackend.h"
#include "runtime/backends/cuda/NcclChannels.h"
#include "runtime/backends/cuda/NcclLibrary.h"
#include "runtime/backends/cuda/PeerExchange.h"
#include "runtime/base/Log.h"
#include "runtime/comm/Membership.h"
#include "runtime/comm/Socket.h"
#include "runtime/schema/PlanFile.h"

#include <atomic>
#include <cstring>
#include <map>
#include <thread>

namespace distc {

namespace {

std::string nameOf(const Channel &channel) {
  if (channel.group.empty())
    return "messages from rank " + std::to_string(channel.ranks[0]) + " to rank " + std::to_string(channel.ranks[1]);
  std::string ranks;
  for (uint32_t rank : channel.ranks)
    ranks += (ranks.empty() ? "" : ", ") + std::to_string(rank);
  return "group " + channel.group + " (ranks " + ranks + ")";
}

class Nccl : public Communicator {
  using Made = cuda::PeerExchange::Made;

public:
  Nccl(std::span<const plan::Plan *const> plans, uint32_t rank, uint32_t device, std::vector<std::byte> ids,
       std::shared_ptr<World> world)
      : groups_(rank, groupsOf(*plans[rank])), device_(device), ids_(std::move(ids)), world_(std::move(world)),
        memory_(channelMemory(*plans[rank])), channels_(channelsOf(plans)) {
    for (const CommGroup &group : groups_.all())
      ofGroup_.push_back(find({group.name, group.ranks}));
  }

  Status connect() override {
    return ended([&]() -> Status {
      DISTC_TRY(cuda::useDevice(device_));
      DISTC_ASSIGN(nccl_, nccl::library());
      if (ids_.size() != channels_.size() * sizeof(nccl::UniqueId))
        return internal(name() + ": there are ids for " + std::to_string(ids_.size() / sizeof(nccl::UniqueId)) +
                        " NCCL communicators, expected " + std::to_string(channels_.size()));
      comms_.assign(channels_.size(), nullptr);
      for (size_t c = 0; c < channels_.size(); ++c) {
        const std::vector<uint32_t> &ranks = channels_[c].ranks;
        const auto self = std::find(ranks.begin(), ranks.end(), groups_.rank());
        if (self == ranks.end())
          continue;
        nccl::UniqueId id;
        std::memcpy(&id, ids_.data() + c * sizeof(id), sizeof(id));
        nccl::Config config;
        const nccl::Code code = nccl_->commInitRankConfig(&comms_[c], static_cast<int>(ranks.size()), id,
                                                          static_cast<int>(self - ranks.begin()), &config);
        DISTC_TRY(settled(code, comms_[c], [&] { return name() + ": NCCL communicator for " + nameOf(channels_[c]); }));
      }
      using Kind = cuda::Memory::Kind;
      DISTC_ASSIGN(parts_, cuda::Memory::allocate(Kind::Device, memory_.parts, name() + ": reductions"));
      DISTC_ASSIGN(comesTo_, cuda::Memory::allocate(Kind::Pinned, sizeof(uint32_t), name() + ": collectives"));
      *comesTo() = 0;
      for (const auto &[peer, bytes] : memory_.copies) {
        Outbox &outbox = outboxes_[peer];
        DISTC_ASSIGN(outbox.copies, cuda::Memory::allocate(Kind::Device, bytes, name() + ": messages"));
        outbox.bytes = bytes;
        DISTC_TRY(outbox.stream.create());
      }
      exchanges_.resize(groups_.all().size());
      for (const Channel &channel : channels_) // in an order that is everyone's
        for (uint32_t g = 0; g < exchanges_.size(); ++g)
          if (!channel.group.empty() && channel == Channel{groups_.all()[g].name, groups_.all()[g].ranks})
            DISTC_TRY(connectPeers(g));
      // Whoever learns of a failure ends the waits on the device: this rank's thread may be stuck behind one.
      world_->whenFailed(this, [this] {
        for (cuda::PeerExchange &exchange : exchanges_)
          exchange.abort();
      });
      return {};
    });
  }

  // Also when all went well: what is left to do is to free, and that asks nothing of the peers.
  void disconnect() override {
    abandon();
    world_->forget(this);
    (void)cudaDeviceSynchronize(); // what has been abandoned ends
    for (cuda::PeerExchange &exchange : exchanges_)
      exchange.close(world_->failure().ok());
    exchanges_.clear();
    for (cudaEvent_t event : events_)
      (void)cudaEventDestroy(event);
    events_.clear();
    outboxes_.clear();
    parts_ = {};
    comesTo_ = {};
  }

  Status allReduce(const CommCall &call, const void *in, void *out, size_t count, plan::DType dtype,
                   plan::ReduceOp op) override {
    if (goesByPeers(plan::Op::AllReduce, call, count, dtype))
      return onDevice([&] { return exchanges_[call.group].allReduce(call, in, out, count, dtype, op); });
    return queued(call, "all_reduce", call.stream, [&]() -> Status {
      DISTC_TRY(groups_.check(call, "all_reduce"));
      const size_t size = dtypeBytes(dtype), members = groups_.group(call).ranks.size();
      const uint32_t self = groups_.member(call);
      const auto *from = static_cast<const std::byte *>(in);
      auto *to = static_cast<std::byte *>(out);
      if (members == 1 || count == 0)
        return copy(call, to, from, count * size);
      if (members * count * size <= kShortBytes) {
        DISTC_TRY(fits(call, members * count * size));
        DISTC_TRY(made(call, "all_reduce",
                       nccl_->allGather(in, parts_.data(), count * size, nccl::Type::Bytes, comm(call), stream(call))));
        return reduce(call, [&](size_t m) { return parts_.data() + m * count * size; }, to, count, dtype, op);
      }
      const size_t part = shareOf(count, members);
      auto begin = [&](size_t m) { return std::min(count, m * part); };
      auto bytes = [&](size_t m) { return (begin(m + 1) - begin(m)) * size; };
      auto place = [&](size_t m) { return parts_.data() + m * part * size; };
      DISTC_TRY(fits(call, members * part * size));
      DISTC_TRY(exchange(
          call, "all_reduce", [&](size_t m) { return Piece{from + begin(m) * size, bytes(m)}; },
          [&](size_t m) { return Target{place(m), bytes(self)}; }));
      std::byte *mine = to + begin(self) * size;
      DISTC_TRY(reduce(
          call, [&](size_t m) { return m == self ? from + begin(self) * size : place(m); }, mine, bytes(self) / size,
          dtype, op));
      return exchange(
          call, "all_reduce", [&](size_t) { return Piece{mine, bytes(self)}; },
          [&](size_t m) { return Target{to + begin(m) * size, bytes(m)}; });
    });
  }

  Status allGather(const CommCall &call, const void *in, size_t inCount, void *out, size_t outCount,
                   plan::DType dtype) override {
    if (goesByPeers(plan::Op::AllGather, call, inCount, dtype))
      return onDevice([&]() -> Status {
        DISTC_TRY(groups_.checkCounts(call, "all_gather", inCount, outCount));
        return exchanges_[call.group].allGather(call, in, inCount, out, outCount);
      });
    return queued(call, "all_gather", call.stream, [&]() -> Status {
      DISTC_TRY(groups_.checkCounts(call, "all_gather", inCount, outCount));
      const size_t size = dtypeBytes(dtype), members = groups_.group(call).ranks.size();
      const auto *from = static_cast<const std::byte *>(in);
      auto *to = static_cast<std::byte *>(out);
      if (members > 1 && inCount != 0 && inCount * members == outCount)
        return made(call, "all_gather",
                    nccl_->allGather(in, out, inCount * size, nccl::Type::Bytes, comm(call), stream(call)));
      // The last members' tails are padding.
      const uint32_t self = groups_.member(call);
      auto begin = [&](size_t m) { return std::min(outCount, m * inCount); };
      auto bytes = [&](size_t m) { return (begin(m + 1) - begin(m)) * size; };
      DISTC_TRY(copy(call, to + begin(self) * size, from, bytes(self)));
      return exchange(
          call, "all_gather", [&](size_t) { return Piece{from, bytes(self)}; },
          [&](size_t m) { return Target{to + begin(m) * size, bytes(m)}; });
    });
  }

  Status reduceScatter(const CommCall &call, const void *in, size_t inCount, void *out, size_t outCount,
                       plan::DType dtype, plan::ReduceOp op) override {
    return queued(call, "reduce_scatter", call.stream, [&]() -> Status {
      DISTC_TRY(groups_.checkCounts(call, "reduce_scatter", outCount, inCount));
      const size_t size = dtypeBytes(dtype), members = groups_.group(call).ranks.size();
      const uint32_t self = groups_.member(call);
      const auto *from = static_cast<const std::byte *>(in);
      auto begin = [&](size_t m) { return std::min(inCount, m * outCount); };
      auto bytes = [&](size_t m) { return (begin(m + 1) - begin(m)) * size; };
      auto place = [&](size_t m) { return parts_.data() + m * bytes(self); };
      DISTC_TRY(fits(call, members * bytes(self)));
      DISTC_TRY(exchange(
          call, "reduce_scatter", [&](size_t m) { return Piece{from + begin(m) * size, bytes(m)}; },
          [&](size_t m) { return Target{place(m), bytes(self)}; }));
      DISTC_TRY(reduce(
          call, [&](size_t m) { return m == self ? from + begin(self) * size : place(m); },
          static_cast<std::byte *>(out), bytes(self) / size, dtype, op));
      const size_t rest = outCount * size - bytes(self);
      return rest == 0
                 ? Status()
                 : cuda::check(cudaMemsetAsync(static_cast<std::byte *>(out) + bytes(self), 0, rest, stream(call)),
                               "clear the rest");
    });
  }

  Status send(const CommCall &call, uint32_t peer, const void *in, size_t count, plan::DType dtype) override {
    DISTC_ASSIGN(const uint32_t other, peerRank(call, "send", peer));
    Outbox &outbox = outboxes_[other];
    return queued(call, "send", outbox.stream, [&]() -> Status {
      const size_t bytes = count * dtypeBytes(dtype);
      if (outbox.used + bytes > outbox.bytes)
        return internal(describe(call, "send") +
                        ": more is sent in one step than the plan says; compile the model again");
      std::byte *copied = outbox.copies.data() + outbox.used;
      outbox.used += cuda::alignedBytes(bytes);
      DISTC_TRY(copy(call, copied, static_cast<const std::byte *>(in), bytes));
      DISTC_ASSIGN(const cudaEvent_t ready, nextEvent());
      DISTC_TRY(cuda::check(cudaEventRecord(ready, stream(call)), "record an event"));
      DISTC_TRY(cuda::check(cudaStreamWaitEvent(outbox.stream, ready, 0), "order streams"));
      const size_t channel = find({"", {groups_.rank(), other}});
      return made(call, "send", nccl_->send(copied, bytes, nccl::Type::Bytes, 1, comms_[channel], outbox.stream),
                  channel);
    });
  }

  Status recv(const CommCall &call, uint32_t peer, void *out, size_t count, plan::DType dtype) override {
    DISTC_ASSIGN(const uint32_t other, peerRank(call, "recv", peer));
    return queued(call, "recv", call.stream, [&]() -> Status {
      const size_t channel = find({"", {other, groups_.rank()}});
      if (channel == channels_.size())
        return internal(describe(call, "recv") + ": rank " + std::to_string(other) +
                        " sends nothing; compile the model again");
      return made(call, "recv",
                  nccl_->recv(out, count * dtypeBytes(dtype), nccl::Type::Bytes, 0, comms_[channel], stream(call)),
                  channel);
    });
  }

  // NCCL's collectives may be captured, and so is what they are watched by.
  bool isReplayable(plan::Op op, uint32_t group, size_t, plan::DType) const override {
    return group < groups_.all().size() && op != plan::Op::Send && op != plan::Op::Recv;
  }

  void whenEnding(std::function<void()> release) override { release_ = std::move(release); }

  Status settle(void *stream) override {
    return ended([&]() -> Status {
      DISTC_TRY(follow(stream, true));
      *comesTo() = 0;
      watched_.clear();
      usedEvents_ = 0;
      for (auto &[peer, outbox] : outboxes_)
        outbox.used = 0;
      return {};
    });
  }

  Status wait(void *stream) override {
    return ended([&] { return follow(stream, false); });
  }

  void abort(const Status &failure) override { world_->record(failure); }
  Status failure() const override { return world_->failure(); }

private:
  struct Piece {
    const std::byte *data;
    size_t bytes;
  };
  struct Target {
    std::byte *data;
    size_t bytes;
  };
  struct Outbox {
    cuda::Memory copies; // of what is sent in one step
    size_t bytes = 0, used = 0;
    cuda::Stream stream;
  };
  struct Watched {
    CommCall call;
    const char *op;
    cudaEvent_t event; // the device has come so far
    bool isAside;      // on a stream that no other waits for
  };

  std::string name() const { return "rank " + std::to_string(groups_.rank()); }
  std::string describe(const CommCall &call, std::string_view op) const {
    return describeCall(groups_.rank(), call, op, groups_.group(call).name);
  }
  static cudaStream_t stream(const CommCall &call) { return static_cast<cudaStream_t>(call.stream); }
  nccl::Comm comm(const CommCall &call) const { return comms_[ofGroup_[call.group]]; }

  size_t find(const Channel &channel) const {
    const auto at = std::lower_bound(channels_.begin(), channels_.end(), channel);
    return at != channels_.end() && *at == channel ? static_cast<size_t>(at - channels_.begin()) : channels_.size();
  }

  Result<uint32_t> peerRank(const CommCall &call, std::string_view op, uint32_t peer) {
    Result<uint32_t> other = groups_.peer(call, op, peer);
    if (!other.ok())
      return ended([&] { return other.status(); });
    return other;
  }

  Result<cudaEvent_t> nextEvent() {
    if (usedEvents_ == events_.size()) {
      cudaEvent_t event = nullptr;
      DISTC_TRY(cuda::check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "create an event"));
      events_.push_back(event);
    }
    return events_[usedEvents_++];
  }

  // The host runs ahead of the device; here it learns how far the device has come. The time limit is that of one call:
  // it begins anew whenever one is done. `isEnd`: everything is waited for. Otherwise the stream alone: what is sent
  // holds nothing up, and a peer may take it only after what this rank does next; and a fault of the device is left to
  // whoever asks it next, who knows the instruction.
  Status follow(void *stream, bool isEnd) {
    DISTC_TRY(world_->failure());
    size_t done = 0;
    const Made *waiting = nullptr; // on the device
    auto where = [&] {
      return waiting                  ? describe(waiting->call, waiting->op)
             : done < watched_.size() ? describe(watched_[done].call, watched_[done].op)
                                      : name();
    };
    auto finished = [&](cudaError_t error) -> Result<bool> {
      if (error == cudaErrorNotReady) {
        (void)cudaGetLastError();
        return false;
      }
      if (error == cudaSuccess || !isEnd)
        return true;
      return cuda::check(error, "run the step").context(where());
    };
    auto fresh = [&] { return Patience(world_->timeoutSeconds(), world_->interruptedFlag()); };
    Patience patience = fresh();
    for (uint32_t round = 0;; ++round) {
      if (done < watched_.size()) {
        const Watched &next = watched_[done];
        DISTC_ASSIGN(const bool reached, next.isAside && !isEnd ? true : finished(cudaEventQuery(next.event)));
        if (reached) {
          ++done;
          patience = fresh();
          continue;
        }
      }
      if (done == watched_.size() || !isEnd) {
        DISTC_ASSIGN(const bool all, finished(cudaStreamQuery(static_cast<cudaStream_t>(stream))));
        if (all)
          break;
      }
      DISTC_TRY(world_->failure());
      if (patience.stopped())
        return cancelled("interrupted");
      if (const auto *now = waitingOnDevice(); now != waiting) {
        waiting = now;
        patience = fresh();
      }
      if (patience.over())
        return deadlineExceeded(where() + world_->waited() + "its peers");
      constexpr uint32_t kRoundsToCheck = 256;
      if (round % kRoundsToCheck == 0)
        DISTC_TRY(asyncErrors().context(where()));
      std::this_thread::yield();
    }
    return world_->failure(); // which may have ended a wait on the device
  }

  // A call that has been queued is watched from then on.
  template <typename Work> Status queued(const CommCall &call, const char *op, void *stream, Work work) {
    return ended([&]() -> Status {
      DISTC_TRY(world_->failure());
      if (cuda::isCaptured(
              static_cast<cudaStream_t>(stream))) { // whenever it runs, the device says that it has come here
        captured_.insert_or_assign(call.instruction + 1, Made{call, op});
        DISTC_TRY(cuda::check(cuda::store(comesTo(), call.instruction + 1, static_cast<cudaStream_t>(stream)),
                              "tell of a collective"));
        return work();
      }
      DISTC_TRY(work());
      DISTC_ASSIGN(const cudaEvent_t event, nextEvent());
      watched_.push_back({call, op, event, stream != call.stream});
      return cuda::check(cudaEventRecord(event, static_cast<cudaStream_t>(stream)), "record an event");
    });
  }

  bool goesByPeers(plan::Op op, const CommCall &call, size_t count, plan::DType dtype) const {
    return call.group < exchanges_.size() && exchanges_[call.group].takes(op, count, dtype) &&
           exchanges_[call.group].mayQueue(call.stream);
  }

  // A call that waits on the device, if it must: nothing of it is watched, so that kernels overlap across it.
  template <typename Work> Status onDevice(Work work) {
    return ended([&]() -> Status {
      DISTC_TRY(world_->failure());
      return work();
    });
  }

  const Made *waitingOnDevice() const {
    for (const cuda::PeerExchange &exchange : exchanges_)
      if (const Made *made = exchange.waiting())
        return made;
    const auto found = captured_.find(std::atomic_ref(*comesTo()).load(std::memory_order_relaxed));
    return found == captured_.end() ? nullptr : &found->second;
  }
  uint32_t *comesTo() const { return reinterpret_cast<uint32_t *>(comesTo_.data()); }

  Status connectPeers(uint32_t group) {
    const CommGroup &all = groups_.all()[group];
    cuda::Stream stream;
    DISTC_TRY(stream.create());
    const CommCall call{group, 0, 0, 0, "memory of peers", static_cast<cudaStream_t>(stream)};
    auto tell = [&](std::span<const std::byte> mine) -> Result<std::vector<std::byte>> {
      std::vector<std::byte> result(mine.size() * all.ranks.size());
      DISTC_ASSIGN(
          const cuda::Memory memory,
          cuda::Memory::allocate(cuda::Memory::Kind::Device, mine.size() + result.size(), name() + ": messages"));
      DISTC_TRY(cuda::check(cudaMemcpy(memory.data(), mine.data(), mine.size(), cudaMemcpyHostToDevice), "copy"));
      DISTC_TRY(allGather(call, memory.data(), mine.size() / sizeof(float), memory.data() + mine.size(),
                          result.size() / sizeof(float), plan::DType::F32));
      DISTC_TRY(settle(stream));
      DISTC_TRY(cuda::check(
          cudaMemcpy(result.data(), memory.data() + mine.size(), result.size(), cudaMemcpyDeviceToHost), "copy"));
      return result;
    };
    const auto size = static_cast<uint32_t>(all.ranks.size());
    DISTC_ASSIGN(exchanges_[group], cuda::PeerExchange::connect(size, groups_.member(call), device_, tell, name()));
    log(LogLevel::Info, name() + ": group " + all.name + ": short messages go " +
                            (exchanges_[group].isUsable() ? "through the memory of peers" : "through NCCL"));
    return {};
  }

  // Every other member's piece to it, and its own here, as one operation of NCCL.
  template <typename Pieces, typename Targets>
  Status exchange(const CommCall &call, const char *op, Pieces piece, Targets target) {
    nccl::Code code = nccl_->groupStart();
    for (size_t m = 0; m < groups_.group(call).ranks.size() && code == nccl::Code::Success; ++m) {
      if (m == groups_.member(call))
        continue;
      const Piece out = piece(m);
      const Target in = target(m);
      if (out.bytes != 0)
        code = nccl_->send(out.data, out.bytes, nccl::Type::Bytes, static_cast<int>(m), comm(call), stream(call));
      if (in.bytes != 0 && accepted(code))
        code = nccl_->recv(in.data, in.bytes, nccl::Type::Bytes, static_cast<int>(m), comm(call), stream(call));
      if (accepted(code))
        code = nccl::Code::Success;
    }
    const nccl::Code end = nccl_->groupEnd();
    return made(call, op, accepted(code) ? end : code);
  }
  static bool accepted(nccl::Code code) { return code == nccl::Code::Success || code == nccl::Code::InProgress; }

  template <typename Part>
  Status reduce(const CommCall &call, Part part, std::byte *out, size_t count, plan::DType dtype, plan::ReduceOp op) {
    const size_t members = groups_.group(call).ranks.size();
    if (members > cuda::maxPeers || dtype > plan::DType::BF16)
      return internal(describe(call, "reduction") + ": cannot reduce " + EnumNameDType(dtype) + " of " +
                      std::to_string(members) + " ranks");
    if (count == 0)
      return {};
    cuda::Peers peers{{}, static_cast<int>(members)};
    for (size_t m = 0; m < members; ++m)
      peers.data[m] = part(m);
    return cuda::check(cuda::reduce(peers, op == plan::ReduceOp::Sum ? cuda::ReduceOp::Sum : cuda::ReduceOp::Max,
                                    static_cast<int64_t>(count), {out, typeOf(dtype)}, stream(call)),
                       "reduce");
  }

  Status copy(const CommCall &call, std::byte *out, const std::byte *in, size_t bytes) {
    if (bytes == 0 || out == in)
      return {};
    return cuda::check(cudaMemcpyAsync(out, in, bytes, cudaMemcpyDeviceToDevice, stream(call)), "copy");
  }

  Status fits(const CommCall &call, size_t bytes) const {
    if (bytes <= memory_.parts)
      return {};
    return internal(describe(call, "reduction") + ": " + std::to_string(bytes) + " bytes, and the plan's largest has " +
                    std::to_string(memory_.parts) + "; compile the model again");
  }

  // What NCCL answered to a call. It may still be at work on the host, connecting for the first use; until that is done
  // the communicator takes no other call.
  Status made(const CommCall &call, const char *op, nccl::Code code) {
    return made(call, op, code, ofGroup_[call.group]);
  }
  Status made(const CommCall &call, const char *op, nccl::Code code, size_t channel) {
    if (code == nccl::Code::Success)
      return {};
    return settled(code, comms_[channel], [&] { return describe(call, op); });
  }

  template <typename What> Status settled(nccl::Code code, nccl::Comm comm, What what) {
    const Patience patience(world_->timeoutSeconds(), world_->interruptedFlag());
    while (code == nccl::Code::InProgress) {
      if (const nccl::Code asked = nccl_->commGetAsyncError(comm, &code); asked != nccl::Code::Success)
        code = asked;
      if (code != nccl::Code::InProgress)
        break;
      DISTC_TRY(world_->failure());
      if (patience.stopped())
        return cancelled("interrupted");
      if (patience.over())
        return deadlineExceeded(what() + world_->waited() + "its peers");
      std::this_thread::yield();
    }
    return code == nccl::Code::Success ? Status() : internal(what() + ": " + errorText(code, comm));
  }

  Status asyncErrors() const {
    for (nccl::Comm comm : comms_) {
      nccl::Code code = nccl::Code::Success;
      if (comm && nccl_->commGetAsyncError(comm, &code) == nccl::Code::Success && !accepted(code))
        return internal(errorText(code, comm));
    }
    return {};
  }

  std::string errorText(nccl::Code code, nccl::Comm comm) const {
    const char *detail = nccl_->getLastError(comm);
    return std::string("NCCL: ") + nccl_->getErrorString(code) + (detail && *detail ? std::string(": ") + detail : "");
  }

  // Ends what is on the device too, which else would wait for peers that do not come. On the rank's thread.
  void abandon() {
    if (release_ && std::ranges::count(comms_, nullptr) != std::ssize(comms_))
      release_(); // NCCL waits for the graphs that it is in
    for (nccl::Comm &comm : comms_)
      if (nccl::Comm open = std::exchange(comm, nullptr))
        (void)nccl_->commAbort(open);
  }

  // A failure of this rank ends all: the first one of all ranks is what everyone returns.
  template <typename Work> Status ended(Work work) {
    Status status = work();
    if (status.ok())
      return status;
    world_->record(status);
    abandon();
    return world_->failure();
  }

  const Memberships groups_;
  const uint32_t device_;
  const std::vector<std::byte> ids_;
  const std::shared_ptr<World> world_;
  const ChannelMemory memory_;
  const std::vector<Channel> channels_; // of the whole plan set
  std::vector<size_t> ofGroup_;         // channel of each group; none: channels_.size()
  const nccl::Library *nccl_ = nullptr;
  std::vector<nccl::Comm> comms_; // by channel; null: not of this rank
  std::function<void()> release_;
  cuda::Memory parts_;
  cuda::Memory comesTo_;              // in the host's memory: the instruction, and 1, of a captured call that has begun
  std::map<uint32_t, Made> captured_; // by that number
  std::vector<cuda::PeerExchange> exchanges_; // by group
  std::map<uint32_t, Outbox> outboxes_;       // by receiver

  // Of the step under way.
  std::vector<Watched> watched_;
  std::vector<cudaEvent_t> events_;
  size_t usedEvents_ = 0;
};

} // namespace

Result<std::vector<std::byte>> openNccl(std::span<const plan::Plan *const> plans) {
  DISTC_ASSIGN(const nccl::Library *nccl, nccl::library());
  std::vector<std::byte> ids(channelsOf(plans).size() * sizeof(nccl::UniqueId));
  for (size_t at = 0; at < ids.size(); at += sizeof(nccl::UniqueId)) {
    nccl::UniqueId id;
    if (const nccl::Code code = nccl->getUniqueId(&id); code != nccl::Code::Success)
      return internal(std::string("NCCL cannot make an id: ") + nccl->getErrorString(code));
    std::memcpy(ids.data() + at, &id, sizeof(id));
  }
  return ids;
}

std::unique_ptr<Communicator> joinNccl(std::span<const plan::Plan *const> plans, uint32_t rank, uint32_t device,
                                       std::vector<std::byte> ids, std::shared_ptr<World> world) {
  return std::make_unique<Nccl>(plans, rank, device, std::move(ids), std::move(world));
}

} // namespace distc
