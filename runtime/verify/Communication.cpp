// Between ranks: one set, one mesh; and in each program the same collectives on all members, sends that meet their
// receives, and no deadlock.
#include "runtime/verify/Report.h"
#include "runtime/verify/Rows.h"

#include <algorithm>
#include <map>
#include <unordered_map>

namespace distc::verify {

namespace {

/// One communication of one rank.
struct Comm {
  uint32_t instruction; // index in the program
  plan::Op op;
  uint32_t sequence;
  uint32_t group; // index into the groups of the set
  uint32_t peer;  // rank
  Rows rows;      // of the input, or what is received
  uint32_t width;
  plan::DType dtype;
  unsigned reduce;
  uint8_t queue;
};

struct Group {
  std::string name;
  std::vector<uint32_t> ranks;

  bool operator<(const Group &other) const { return std::tie(name, ranks) < std::tie(other.name, other.ranks); }
};

/// The same program on all ranks.
class ProgramComms {
public:
  ProgramComms(std::span<const plan::Plan *const> plans, uint32_t program, Reporter &reporter)
      : plans_(plans), program_(program), reporter_(reporter) {}

  void run() {
    collect();
    size_t before = reporter_.count();
    for (uint32_t g = 0; g < groups_.size() && !reporter_.full(); ++g)
      checkGroup(g);
    checkPairs();
    if (reporter_.count() == before) // else it would only show the same again
      simulate();
  }

private:
  ProgramRef ref(uint32_t rank) const { return {*plans_[rank], *plans_[rank]->programs()->Get(program_), program_}; }
  std::string text(uint32_t rank, const Comm &comm) const {
    return cat(ref(rank).text(comm.instruction), " #", comm.sequence);
  }
  uint32_t id(uint32_t rank, const Comm &comm) const { return ref(rank).instruction(comm.instruction).id(); }

  void collect() {
    comms_.resize(plans_.size());
    for (uint32_t rank = 0; rank < plans_.size(); ++rank) {
      std::vector<uint32_t> groupOf;
      for (const plan::Group *group : *plans_[rank]->groups()) {
        Group g{group->name()->str(), {group->ranks()->begin(), group->ranks()->end()}};
        auto [it, fresh] = known_.try_emplace(std::move(g), static_cast<uint32_t>(groups_.size()));
        if (fresh)
          groups_.push_back(&it->first);
        groupOf.push_back(it->second);
      }
      ProgramRef p = ref(rank);
      for (uint32_t i = 0; i < p.program.instructions()->size(); ++i) {
        const plan::Instruction &it = p.instruction(i);
        Operands operands = operandsOf(it);
        if (operands.group < 0)
          continue;
        const plan::Buffer &buffer = p.buffer(operands.list[0].buffer);
        uint32_t group = groupOf[static_cast<size_t>(operands.group)];
        unsigned reduce = it.op_type() == plan::Op::AllReduce       ? unsigned(it.op_as_AllReduce()->op())
                          : it.op_type() == plan::Op::ReduceScatter ? unsigned(it.op_as_ReduceScatter()->op())
                                                                    : 0;
        comms_[rank].push_back({i, it.op_type(), static_cast<uint32_t>(operands.sequence), group,
                                operands.peer < 0 ? 0 : groups_[group]->ranks[static_cast<size_t>(operands.peer)],
                                rowsOf(p.program, buffer), buffer.row_elements(), buffer.dtype(), reduce, it.queue()});
      }
    }
  }

  std::vector<const Comm *> collectivesOf(uint32_t rank, uint32_t group) const {
    std::vector<const Comm *> list;
    for (const Comm &comm : comms_[rank])
      if (comm.group == group && isCollective(comm.op))
        list.push_back(&comm);
    return list;
  }

  static std::string what(const Comm &c) {
    return cat(plan::EnumNameOp(c.op),
               c.op == plan::Op::AllGather ? ""
               : c.reduce == 0             ? " (sum)"
                                           : " (max)",
               " of ", plan::EnumNameRowUnit(c.rows.unit), " x ", c.rows.times, " / ", c.rows.shards, " chunk ",
               c.rows.chunk, " of ", c.rows.chunks, " rows of ", c.width, " ", plan::EnumNameDType(c.dtype));
  }

  void checkGroup(uint32_t g) {
    const std::vector<uint32_t> &ranks = groups_[g]->ranks;
    std::vector<const Comm *> first = collectivesOf(ranks[0], g);
    for (size_t m = 0; m < ranks.size(); ++m) {
      std::vector<const Comm *> mine = m == 0 ? first : collectivesOf(ranks[m], g);
      for (size_t i = 0; i < std::min(mine.size(), first.size()); ++i) {
        const Comm &a = *first[i], &b = *mine[i];
        if (b.sequence != i)
          return reporter_.add(
              "collective-mismatch",
              cat(text(ranks[m], b), ": is number ", b.sequence, " in group '", groups_[g]->name, "', expected ", i),
              {ranks[m]}, {id(ranks[m], b)});
        if (b.queue != mine[0]->queue)
          return reporter_.add("collective-mismatch",
                               cat(text(ranks[m], b), ": is on queue ", b.queue, ", others of group '",
                                   groups_[g]->name, "' on queue ", mine[0]->queue, ", expected one queue"),
                               {ranks[m]}, {id(ranks[m], b)});
        if (a.op != b.op || !(a.rows == b.rows) || a.width != b.width || a.dtype != b.dtype || a.reduce != b.reduce)
          return reporter_.add("collective-mismatch",
                               cat("collective ", i, " of group '", groups_[g]->name, "': ", text(ranks[0], a), " is ",
                                   what(a), ", but ", text(ranks[m], b), " is ", what(b)),
                               {ranks[0], ranks[m]}, {id(ranks[0], a), id(ranks[m], b)});
      }
      if (mine.size() != first.size()) {
        bool extra = mine.size() > first.size();
        uint32_t rank = extra ? ranks[m] : ranks[0];
        const Comm &comm = extra ? *mine[first.size()] : *first[mine.size()];
        return reporter_.add("collective-mismatch",
                             cat("rank ", ranks[0], " has ", first.size(), " collectives in group '", groups_[g]->name,
                                 "', rank ", ranks[m], " has ", mine.size(), ", expected as many: ", text(rank, comm),
                                 " has no counterpart"),
                             {ranks[0], ranks[m]}, {id(rank, comm)});
      }
    }
  }

  /// Sends and receives from one rank to another, in order, are one list told twice.
  void checkPairs() {
    struct Pair {
      std::vector<const Comm *> sends, receives;
    };
    std::map<std::pair<uint32_t, uint32_t>, Pair> pairs;
    for (uint32_t rank = 0; rank < comms_.size(); ++rank)
      for (const Comm &comm : comms_[rank]) {
        if (comm.op == plan::Op::Send)
          pairs[{rank, comm.peer}].sends.push_back(&comm);
        else if (comm.op == plan::Op::Recv)
          pairs[{comm.peer, rank}].receives.push_back(&comm);
      }
    for (const auto &[ends, pair] : pairs) {
      auto [from, to] = ends;
      bool failed = false;
      for (size_t i = 0; i < std::min(pair.sends.size(), pair.receives.size()) && !failed; ++i) {
        const Comm &s = *pair.sends[i], &r = *pair.receives[i];
        failed = s.sequence != i || r.sequence != i || !(s.rows == r.rows) || s.width != r.width || s.dtype != r.dtype;
        if (failed)
          reporter_.add("send-recv-mismatch",
                        cat("number ", i, " from rank ", from, " to rank ", to, ": ", text(from, s), " is ", what(s),
                            ", but ", text(to, r), " is ", what(r)),
                        {from, to}, {id(from, s), id(to, r)});
      }
      if (!failed && pair.sends.size() != pair.receives.size()) {
        bool sends = pair.sends.size() > pair.receives.size();
        const Comm &comm = sends ? *pair.sends[pair.receives.size()] : *pair.receives[pair.sends.size()];
        reporter_.add("send-recv-mismatch",
                      cat("rank ", from, " sends ", pair.sends.size(), " times to rank ", to, ", which receives ",
                          pair.receives.size(), " times: ", text(sends ? from : to, comm), " has no counterpart"),
                      {from, to}, {id(sends ? from : to, comm)});
      }
    }
  }

  /// Each rank goes through its communications in program order, the strictest of the orders that queues allow: what is
  /// done in this order can be done in every other. A collective waits for all members; a send does not wait.
  void simulate() {
    std::vector<size_t> at(comms_.size(), 0);
    std::vector<uint32_t> arrived(groups_.size(), 0);
    std::map<std::pair<uint32_t, uint32_t>, int64_t> inFlight;
    std::vector<uint32_t> ready(comms_.size());
    std::vector<bool> waiting(comms_.size(), false);
    for (uint32_t rank = 0; rank < ready.size(); ++rank)
      ready[rank] = rank;
    while (!ready.empty()) {
      uint32_t rank = ready.back();
      ready.pop_back();
      while (at[rank] < comms_[rank].size()) {
        const Comm &comm = comms_[rank][at[rank]];
        if (comm.op == plan::Op::Send) {
          ++inFlight[{rank, comm.peer}];
          if (waiting[comm.peer]) {
            const Comm &blocked = comms_[comm.peer][at[comm.peer]];
            if (blocked.op == plan::Op::Recv && blocked.peer == rank) {
              waiting[comm.peer] = false;
              ready.push_back(comm.peer);
            }
          }
        } else if (comm.op == plan::Op::Recv) {
          if (inFlight[{comm.peer, rank}] == 0) {
            waiting[rank] = true;
            break;
          }
          --inFlight[{comm.peer, rank}];
        } else if (++arrived[comm.group] < groups_[comm.group]->ranks.size()) {
          waiting[rank] = true;
          break;
        } else {
          arrived[comm.group] = 0;
          for (uint32_t member : groups_[comm.group]->ranks)
            if (member != rank) {
              waiting[member] = false;
              ++at[member];
              ready.push_back(member);
            }
        }
        ++at[rank];
      }
    }
    reportStuck(at);
  }

  void reportStuck(const std::vector<size_t> &at) {
    std::vector<uint32_t> ranks, ids;
    std::string message;
    for (uint32_t rank = 0; rank < at.size(); ++rank) {
      if (at[rank] == comms_[rank].size())
        continue;
      const Comm &comm = comms_[rank][at[rank]];
      ranks.push_back(rank);
      ids.push_back(id(rank, comm));
      if (ranks.size() <= 8)
        message += cat(message.empty() ? "" : "; ", text(rank, comm), " waits for ",
                       comm.op == plan::Op::Recv
                           ? cat("rank ", comm.peer)
                           : cat("group '", groups_[comm.group]->name, "' ", listText(groups_[comm.group]->ranks)));
    }
    if (!ranks.empty())
      reporter_.add(
          "deadlock",
          cat(ranks.size(), " of ", at.size(), " ranks wait for ever: ", message, ranks.size() > 8 ? "; …" : ""),
          std::move(ranks), std::move(ids));
  }

  std::span<const plan::Plan *const> plans_;
  uint32_t program_;
  Reporter &reporter_;
  std::vector<std::vector<Comm>> comms_; // by rank, in program order
  std::vector<const Group *> groups_;
  std::map<Group, uint32_t> known_; // owns the groups
};

} // namespace

void checkCommunication(std::span<const plan::Plan *const> plans, Reporter &reporter) {
  for (uint32_t program = 0; program < plans[0]->programs()->size() && !reporter.full(); ++program)
    ProgramComms(plans, program, reporter).run();
}

} // namespace distc::verify
