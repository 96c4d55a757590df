#include "runtime/comm/InProcess.h"

#include "runtime/comm/Mailbox.h"
#include "runtime/comm/Rendezvous.h"
#include "runtime/schema/PlanFile.h"

#include <algorithm>
#include <map>

namespace distc {

namespace {

struct Process {
  explicit Process(const InProcessOptions &options)
      : world(options), memory(options.memory ? options.memory : createHostMemory()) {}

  World world;
  std::shared_ptr<CommMemory> memory;
  std::map<std::tuple<std::string, std::vector<uint32_t>, uint32_t>, std::unique_ptr<Rendezvous>> groups; // and slot
  std::map<std::tuple<uint32_t, uint32_t, uint32_t>, std::unique_ptr<Mailbox>> mailboxes; // by sender, receiver, slot

  void fail(const Status &status) {
    world.record(status);
    for (auto &[key, group] : groups)
      group->wake();
    for (auto &[key, mailbox] : mailboxes)
      mailbox->wake();
  }
};

class InProcess : public Communicator {
public:
  InProcess(std::shared_ptr<Process> process, uint32_t rank, uint32_t slot)
      : process_(std::move(process)), memory_(*process_->memory), rank_(rank), slot_(slot) {}
  ~InProcess() override {
    for (Membership &membership : groups_) {
      memory_.destroyEvent(membership.ready);
      memory_.destroyEvent(membership.done);
    }
  }

  void join(Rendezvous &group) {
    const std::vector<uint32_t> &ranks = group.group().ranks;
    size_t member = std::find(ranks.begin(), ranks.end(), rank_) - ranks.begin();
    groups_.push_back({&group, static_cast<uint32_t>(member), memory_.createEvent(), memory_.createEvent()});
  }

  Status allReduce(const CommCall &call, const void *in, void *out, size_t count, plan::DType dtype,
                   plan::ReduceOp op) override {
    if (!memory_.canReduce(dtype))
      return cannotReduce(call, "all_reduce", dtype);
    return collective(call, {Collective::AllReduce, op, dtype, in, count, out, count, call, {}, {}},
                      [&](std::span<const Contribution> all, size_t member) {
                        // Each member reduces its share, and writes it to all. In place is safe: nobody else reads the
                        // elements of this share.
                        gather(all);
                        auto [begin, end] = share(count, member, all.size());
                        memory_.reduce(ins_, outs_, begin, end, 0, dtype, op, call.stream);
                      });
  }

  Status allGather(const CommCall &call, const void *in, size_t inCount, void *out, size_t outCount,
                   plan::DType dtype) override {
    return collective(
        call, {Collective::AllGather, plan::ReduceOp::Sum, dtype, in, inCount, out, outCount, call, {}, {}},
        [&](std::span<const Contribution> all, size_t) {
          const size_t size = dtypeBytes(dtype);
          for (size_t m = 0; m < all.size() && m * inCount < outCount; ++m)
            if (size_t n = std::min(inCount, outCount - m * inCount))
              memory_.copy(static_cast<std::byte *>(out) + m * inCount * size, all[m].in, n * size, call.stream);
        });
  }

  Status reduceScatter(const CommCall &call, const void *in, size_t inCount, void *out, size_t outCount,
                       plan::DType dtype, plan::ReduceOp op) override {
    if (!memory_.canReduce(dtype))
      return cannotReduce(call, "reduce_scatter", dtype);
    return collective(call, {Collective::ReduceScatter, op, dtype, in, inCount, out, outCount, call, {}, {}},
                      [&](std::span<const Contribution> all, size_t member) {
                        gather(all);
                        const size_t begin = std::min(inCount, member * outCount);
                        const size_t end = std::min(inCount, begin + outCount);
                        memory_.reduce(ins_, std::span(&out, 1), begin, end, begin, dtype, op, call.stream);
                        const size_t size = dtypeBytes(dtype);
                        if (size_t rest = outCount - (end - begin))
                          memory_.zero(static_cast<std::byte *>(out) + (end - begin) * size, rest * size, call.stream);
                      });
  }

  Status send(const CommCall &call, uint32_t peer, const void *in, size_t count, plan::DType dtype) override {
    DISTC_ASSIGN(const uint32_t other, peerRank(call, "send", peer));
    DISTC_TRY(ended(process_->mailboxes.at({rank_, other, slot_})->put(call, in, count, dtype)));
    return process_->world.failure();
  }

  Status recv(const CommCall &call, uint32_t peer, void *out, size_t count, plan::DType dtype) override {
    DISTC_ASSIGN(const uint32_t other, peerRank(call, "recv", peer));
    return ended(process_->mailboxes.at({other, rank_, slot_})
                     ->take(call, rank_, other, groups_[call.group].rendezvous->group().name, out, count, dtype));
  }

  void abort(const Status &failure) override { process_->fail(failure); }
  Status failure() const override { return process_->world.failure(); }

private:
  struct Membership {
    Rendezvous *rendezvous;
    uint32_t member;
    CommMemory::Event ready, done;
  };

  static std::pair<size_t, size_t> share(size_t count, size_t member, size_t members) {
    // Whole cache lines, so that two members never write to one line of a third.
    constexpr size_t kLine = 16;
    const size_t lines = (count + kLine - 1) / kLine;
    return {std::min(count, lines * member / members * kLine), std::min(count, lines * (member + 1) / members * kLine)};
  }

  void gather(std::span<const Contribution> all) {
    ins_.clear();
    outs_.clear();
    for (const Contribution &c : all) {
      ins_.push_back(c.in);
      outs_.push_back(c.out);
    }
  }

  template <typename Work> Status collective(const CommCall &call, Contribution mine, Work work) {
    DISTC_TRY(checkGroup(call, "collective"));
    auto [rendezvous, member, ready, done] = groups_[call.group];
    const size_t members = rendezvous->group().ranks.size();
    if ((mine.kind == Collective::AllGather && (mine.outCount + members - 1) / members > mine.inCount) ||
        (mine.kind == Collective::ReduceScatter && (mine.inCount + members - 1) / members > mine.outCount))
      return ended(internal(describeCall(rank_, call, "collective", rendezvous->group().name) + ": " +
                            std::to_string(mine.inCount) + " elements in and " + std::to_string(mine.outCount) +
                            " out do not fit " + std::to_string(members) + " members; compile the model again"));
    mine.ready = ready;
    mine.done = done;
    memory_.record(ready, call.stream);
    DISTC_TRY(ended(rendezvous->meet(member, mine)));
    const std::span<const Contribution> all(rendezvous->contributions());
    dones_.clear();
    for (const Contribution &other : all) {
      memory_.wait(other.ready, call.stream);
      dones_.push_back(other.done);
    }
    work(all, member);
    memory_.record(done, call.stream);
    rendezvous->part();
    for (CommMemory::Event other : dones_)
      memory_.wait(other, call.stream);
    return ended(memory_.status());
  }

  Status checkGroup(const CommCall &call, std::string_view op) {
    if (call.group < groups_.size() &&
        groups_[call.group].member < groups_[call.group].rendezvous->group().ranks.size())
      return {};
    return ended(internal(describeCall(rank_, call, op, std::to_string(call.group)) + ": this rank is not in it"));
  }

  Result<uint32_t> peerRank(const CommCall &call, std::string_view op, uint32_t peer) {
    DISTC_TRY(checkGroup(call, op));
    const CommGroup &group = groups_[call.group].rendezvous->group();
    if (peer < group.ranks.size() && group.ranks[peer] != rank_)
      return group.ranks[peer];
    return ended(internal(describeCall(rank_, call, op, group.name) + ": member " + std::to_string(peer) +
                          " is not another rank of it"));
  }

  Status cannotReduce(const CommCall &call, std::string_view op, plan::DType dtype) {
    return ended(internal(describeCall(rank_, call, op, std::to_string(call.group)) + ": cannot reduce " +
                          EnumNameDType(dtype)));
  }

  // A failure of this rank ends all: the first one of all ranks is what everyone returns.
  Status ended(const Status &status) {
    if (status.ok())
      return status;
    process_->fail(status);
    return process_->world.failure();
  }

  std::shared_ptr<Process> process_;
  CommMemory &memory_;
  const uint32_t rank_, slot_;
  std::vector<Membership> groups_;
  std::vector<const void *> ins_; // kept between calls: no allocation in a step
  std::vector<void *> outs_;
  std::vector<CommMemory::Event> dones_;
};

} // namespace

std::vector<std::unique_ptr<Communicator>> connectInProcess(std::span<const std::vector<CommGroup>> groupsOfRank,
                                                            const InProcessOptions &options) {
  auto process = std::make_shared<Process>(options);
  std::vector<std::unique_ptr<Communicator>> result;
  for (uint32_t place = 0; place < groupsOfRank.size() * options.slots; ++place) {
    const uint32_t rank = place / options.slots, slot = place % options.slots;
    auto communicator = std::make_unique<InProcess>(process, rank, slot);
    for (const CommGroup &group : groupsOfRank[rank]) {
      auto &rendezvous = process->groups[{group.name, group.ranks, slot}];
      if (!rendezvous)
        rendezvous = std::make_unique<Rendezvous>(process->world, group);
      communicator->join(*rendezvous);
      for (uint32_t peer : group.ranks)
        for (auto ends : {std::tuple(rank, peer, slot), std::tuple(peer, rank, slot)})
          if (auto &mailbox = process->mailboxes[ends]; !mailbox)
            mailbox = std::make_unique<Mailbox>(process->world, *process->memory);
    }
    result.push_back(std::move(communicator));
  }
  return result;
}

} // namespace distc
