#include "runtime/comm/Messages.h"

#include "runtime/base/File.h"
#include "runtime/base/Spin.h"
#include "runtime/comm/Membership.h"
#include "runtime/comm/Reduce.h"
#include "runtime/comm/Socket.h"
#include "runtime/schema/PlanFile.h"

#include <cstring>
#include <thread>

namespace distc {

namespace {

// Up to here one exchange of whole vectors is faster than two of shares.
constexpr size_t kShortBytes = 64 << 10;

enum class Kind : uint32_t { AllReduce, AllReduceShare, AllGather, ReduceScatter, Send };

const char *nameOf(Kind kind) {
  switch (kind) {
  case Kind::AllReduce:
  case Kind::AllReduceShare:
    return "all_reduce";
  case Kind::AllGather:
    return "all_gather";
  case Kind::ReduceScatter:
    return "reduce_scatter";
  case Kind::Send:
    return "send";
  }
  return "";
}

// What a message is part of. Its sender and receiver must agree on all of it but the instruction.
struct Head {
  uint64_t channel; // the group of a collective; 0 for send and recv, which are ordered apart from them
  uint64_t step, inCount, outCount;
  uint32_t sequence, instruction;
  Kind kind;
  plan::DType dtype;
  plan::ReduceOp op;
  uint16_t unused;
};
static_assert(std::has_unique_object_representations_v<Head>);

uint64_t channelOf(const CommGroup &group) {
  std::string text = group.name;
  for (uint32_t rank : group.ranks)
    text += ":" + std::to_string(rank);
  const uint64_t hash = hashBytes(std::as_bytes(std::span(text)));
  return hash == 0 ? 1 : hash;
}

class Messages : public Communicator {
public:
  Messages(uint32_t rank, std::vector<CommGroup> groups, std::shared_ptr<Link> link, std::shared_ptr<World> world,
           bool spin)
      : groups_(rank, std::move(groups)), link_(std::move(link)), world_(std::move(world)), spin_(spin) {
    for (const CommGroup &group : groups_.all())
      channels_.push_back(channelOf(group));
  }

  Status allReduce(const CommCall &call, const void *in, void *out, size_t count, plan::DType dtype,
                   plan::ReduceOp op) override {
    return ended([&]() -> Status {
      DISTC_TRY(groups_.check(call, "all_reduce"));
      DISTC_TRY(checkType(call, "all_reduce", dtype));
      const size_t size = dtypeBytes(dtype), members = groups_.group(call).ranks.size();
      const uint32_t self = groups_.member(call);
      if (count * size <= kShortBytes) {
        const Head head = headOf(call, Kind::AllReduce, dtype, op, count, count);
        DISTC_TRY(sendEach(call, head, [&](uint32_t) { return bytes(in, count * size); }));
        DISTC_TRY(receiveEach(call, head, [&](uint32_t) { return count * size; }));
        reduceParts(in, std::span(&out, 1), count, dtype, op, self);
        return done();
      }
      const size_t part = (count + members - 1) / members;
      auto begin = [&](size_t m) { return std::min(count, m * part); };
      auto slice = [&](uint32_t m) {
        return bytes(static_cast<const std::byte *>(in) + begin(m) * size, (begin(m + 1) - begin(m)) * size);
      };
      const Head head = headOf(call, Kind::AllReduce, dtype, op, count, count);
      DISTC_TRY(sendEach(call, head, slice));
      const size_t mine = begin(self + 1) - begin(self);
      DISTC_TRY(receiveEach(call, head, [&](uint32_t) { return mine * size; }));
      void *reduced = static_cast<std::byte *>(out) + begin(self) * size;
      reduceParts(slice(self).data(), std::span(&reduced, 1), mine, dtype, op, self);
      DISTC_TRY(done());
      const Head share = headOf(call, Kind::AllReduceShare, dtype, op, count, count);
      DISTC_TRY(sendEach(call, share, [&](uint32_t) { return bytes(reduced, mine * size); }));
      DISTC_TRY(receiveEach(call, share, [&](uint32_t m) { return slice(m).size(); }));
      for (uint32_t m = 0; m < members; ++m)
        if (m != self)
          copy(static_cast<std::byte *>(out) + begin(m) * size, part_(m), slice(m).size());
      return done();
    });
  }

  Status allGather(const CommCall &call, const void *in, size_t inCount, void *out, size_t outCount,
                   plan::DType dtype) override {
    return ended([&]() -> Status {
      DISTC_TRY(groups_.checkCounts(call, "all_gather", inCount, outCount));
      const size_t size = dtypeBytes(dtype);
      const uint32_t self = groups_.member(call);
      const Head head = headOf(call, Kind::AllGather, dtype, plan::ReduceOp::Sum, inCount, outCount);
      DISTC_TRY(sendEach(call, head, [&](uint32_t) { return bytes(in, inCount * size); }));
      DISTC_TRY(receiveEach(call, head, [&](uint32_t) { return inCount * size; }));
      for (uint32_t m = 0; m < parts_.size(); ++m) {
        const size_t begin = std::min(outCount, m * inCount), end = std::min(outCount, begin + inCount);
        copy(static_cast<std::byte *>(out) + begin * size, m == self ? in : part_(m), (end - begin) * size);
      }
      return done();
    });
  }

  Status reduceScatter(const CommCall &call, const void *in, size_t inCount, void *out, size_t outCount,
                       plan::DType dtype, plan::ReduceOp op) override {
    return ended([&]() -> Status {
      DISTC_TRY(groups_.checkCounts(call, "reduce_scatter", outCount, inCount));
      DISTC_TRY(checkType(call, "reduce_scatter", dtype));
      const size_t size = dtypeBytes(dtype);
      const uint32_t self = groups_.member(call);
      auto slice = [&](uint32_t m) {
        const size_t begin = std::min(inCount, m * outCount), end = std::min(inCount, begin + outCount);
        return bytes(static_cast<const std::byte *>(in) + begin * size, (end - begin) * size);
      };
      const Head head = headOf(call, Kind::ReduceScatter, dtype, op, inCount, outCount);
      DISTC_TRY(sendEach(call, head, slice));
      const auto mine = slice(self);
      DISTC_TRY(receiveEach(call, head, [&](uint32_t) { return mine.size(); }));
      reduceParts(mine.data(), std::span(&out, 1), mine.size() / size, dtype, op, self);
      if (const size_t rest = outCount * size - mine.size())
        std::memset(static_cast<std::byte *>(out) + mine.size(), 0, rest);
      return done();
    });
  }

  Status send(const CommCall &call, uint32_t peer, const void *in, size_t count, plan::DType dtype) override {
    return ended([&]() -> Status {
      DISTC_ASSIGN(const uint32_t other, groups_.peer(call, "send", peer));
      DISTC_TRY(world_->failure());
      const Head head = headOf(call, Kind::Send, dtype, plan::ReduceOp::Sum, count, count);
      return link_->send(other, bytes(&head, sizeof(head)), bytes(in, count * dtypeBytes(dtype)))
          .context(describeCall(groups_.rank(), call, "send", groups_.group(call).name));
    });
  }

  Status recv(const CommCall &call, uint32_t peer, void *out, size_t count, plan::DType dtype) override {
    return ended([&]() -> Status {
      DISTC_ASSIGN(const uint32_t other, groups_.peer(call, "recv", peer));
      const Head head = headOf(call, Kind::Send, dtype, plan::ReduceOp::Sum, count, count);
      Link::Message message;
      const size_t bytes = count * dtypeBytes(dtype);
      DISTC_TRY(receive(call, "recv", other, head, bytes, message));
      copy(out, message.data() + sizeof(Head), bytes);
      link_->recycle(std::move(message));
      return {};
    });
  }

  // A message that has not left may need this process to move it on.
  Status settle(void *) override {
    return ended([&]() -> Status {
      return poll(
          [&] { return link_->drained(); },
          [&] { return "rank " + std::to_string(groups_.rank()) + world_->waited() + "its messages to leave"; });
    });
  }

  void abort(const Status &failure) override { world_->record(failure); }
  Status failure() const override { return world_->failure(); }

private:
  static std::span<const std::byte> bytes(const void *data, size_t size) {
    return {static_cast<const std::byte *>(data), size};
  }
  static void copy(void *out, const void *in, size_t bytes) {
    if (bytes != 0)
      std::memmove(out, in, bytes);
  }

  Head headOf(const CommCall &call, Kind kind, plan::DType dtype, plan::ReduceOp op, size_t in, size_t out) const {
    return {kind == Kind::Send ? 0 : channels_[call.group],
            call.step,
            in,
            out,
            call.sequence,
            call.instruction,
            kind,
            dtype,
            op,
            0};
  }

  Status checkType(const CommCall &call, std::string_view op, plan::DType dtype) const {
    if (canReduce(dtype))
      return {};
    return internal(describeCall(groups_.rank(), call, op, groups_.group(call).name) + ": cannot reduce " +
                    EnumNameDType(dtype));
  }

  template <typename Part> Status sendEach(const CommCall &call, const Head &head, Part part) {
    DISTC_TRY(world_->failure());
    const std::vector<uint32_t> &ranks = groups_.group(call).ranks;
    for (uint32_t m = 0; m < ranks.size(); ++m)
      if (ranks[m] != groups_.rank())
        DISTC_TRY(link_->send(ranks[m], bytes(&head, sizeof(head)), part(m))
                      .context(describeCall(groups_.rank(), call, nameOf(head.kind), groups_.group(call).name)));
    return {};
  }

  // Every other member's message into parts_.
  template <typename Size> Status receiveEach(const CommCall &call, const Head &head, Size size) {
    const std::vector<uint32_t> &ranks = groups_.group(call).ranks;
    parts_.resize(ranks.size());
    for (uint32_t m = 0; m < ranks.size(); ++m)
      if (ranks[m] != groups_.rank())
        DISTC_TRY(receive(call, nameOf(head.kind), ranks[m], head, size(m), parts_[m]));
    return {};
  }
  const std::byte *part_(uint32_t member) const { return parts_[member].data() + sizeof(Head); }

  void reduceParts(const void *own, std::span<void *const> outs, size_t count, plan::DType dtype, plan::ReduceOp op,
                   uint32_t self) {
    ins_.clear();
    for (uint32_t m = 0; m < parts_.size(); ++m)
      ins_.push_back(m == self ? own : part_(m));
    if (count != 0)
      reduce(ins_, outs, 0, count, 0, dtype, op);
  }

  Status done() {
    for (Link::Message &part : parts_)
      if (!part.empty())
        link_->recycle(std::exchange(part, {}));
    return {};
  }

  Status receive(const CommCall &call, std::string_view op, uint32_t from, const Head &expected, size_t bytes,
                 Link::Message &message) {
    std::deque<Link::Message> &inbox = link_->inbox(from);
    Head head;
    auto found = inbox.end();
    auto come = [&] {
      for (found = inbox.begin(); found != inbox.end(); ++found) {
        if (found->size() < sizeof(Head))
          return true;
        std::memcpy(&head, found->data(), sizeof(head));
        if (head.channel == expected.channel)
          return true;
      }
      return false;
    };
    DISTC_TRY(poll(come, [&] {
      return describeCall(groups_.rank(), call, op, groups_.group(call).name) + world_->waited() + "rank " +
             std::to_string(from) + (expected.kind == Kind::Send ? " to send" : "");
    }));
    message = std::move(*found);
    inbox.erase(found);
    auto same = [&](const Head &a, const Head &b) {
      return a.step == b.step && a.inCount == b.inCount && a.outCount == b.outCount && a.sequence == b.sequence &&
             a.kind == b.kind && a.dtype == b.dtype && a.op == b.op;
    };
    if (message.size() == sizeof(Head) + bytes && same(head, expected))
      return {};
    auto detail = [](const Head &h) {
      return " (step " + std::to_string(h.step) + ", " + EnumNameReduceOp(h.op) + ", " + EnumNameDType(h.dtype) + ", " +
             std::to_string(h.inCount) + " elements in, " + std::to_string(h.outCount) + " out)";
    };
    const CommCall theirs{call.group, head.step, head.sequence, head.instruction, {}, nullptr};
    return internal(describeCall(groups_.rank(), call, op, groups_.group(call).name) + detail(expected) + " meets " +
                    describeCall(from, theirs, nameOf(head.kind), groups_.group(call).name) + detail(head) +
                    "; both must agree: compile the model again");
  }

  // The one way to wait: until `ready()`, moving messages on; else the failure that ended it.
  template <typename Ready, typename What> Status poll(Ready ready, What what) {
    const Patience patience(world_->timeoutSeconds(), world_->interruptedFlag());
    for (uint32_t round = 0;; ++round) {
      if (Status lost = link_->progress(); !lost.ok())
        return reasonOf(lost.context("rank " + std::to_string(groups_.rank())));
      if (ready())
        return {};
      DISTC_TRY(world_->failure());
      if (patience.stopped())
        return cancelled("interrupted");
      if (patience.over())
        return deadlineExceeded(what());
      constexpr uint32_t kSpins = 2000;
      if (spin_ && round < kSpins)
        cpuRelax();
      else
        link_->pause(spin_ ? round - kSpins : round);
    }
  }

  // A rank that ends because of a failure is lost to the link too, perhaps before word of the failure has come.
  Status reasonOf(const Status &lost) {
    constexpr double kSeconds = .5;
    for (const Patience patience(kSeconds, nullptr); !patience.over() && !world_->failed();)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return lost;
  }

  // A failure of this rank ends all: the first one of all ranks is what everyone returns.
  template <typename Work> Status ended(Work work) {
    Status status = work();
    if (status.ok())
      return status;
    (void)done();
    world_->record(status);
    return world_->failure();
  }

  const Memberships groups_;
  const std::shared_ptr<Link> link_;
  const std::shared_ptr<World> world_;
  const bool spin_;
  std::vector<uint64_t> channels_;   // by group
  std::vector<Link::Message> parts_; // kept between calls, as ins_: no allocation in a step
  std::vector<const void *> ins_;
};

} // namespace

std::unique_ptr<Communicator> connectMessages(uint32_t rank, std::vector<CommGroup> groups, std::shared_ptr<Link> link,
                                              std::shared_ptr<World> world, bool spin) {
  return std::make_unique<Messages>(rank, std::move(groups), std::move(link), std::move(world), spin);
}

} // namespace distc
