// Faults in programs: instructions, events, communication, tile schedules.
#include "test/mutate/Faults.h"

#include <algorithm>

namespace distc::mutate {

namespace {

std::string text(size_t rank, size_t program, size_t instruction, const plan::ProgramT &p) {
  std::string out = "rank " + std::to_string(rank) + ", program " + std::to_string(program) + ", instruction " +
                    std::to_string(instruction);
  if (instruction < p.labels.size())
    out +=
        std::string(" (") + plan::EnumNameOp(p.instructions[instruction]->op.type) + ", " + p.labels[instruction] + ")";
  return out;
}

struct Site {
  size_t rank, program, instruction;
};

/// A random instruction that `wanted` holds for; where `all`, also those with its label on the other ranks of the
/// stage.
std::vector<Site> find(const Plans &plans, Random &random, bool all,
                       const std::function<bool(const plan::InstructionT &)> &wanted) {
  std::vector<Site> sites;
  for (int attempt = 0; attempt < 50 && sites.empty(); ++attempt) {
    const size_t rank = random.below(plans.size()), program = random.below(plans[rank]->programs.size());
    const auto &instructions = plans[rank]->programs[program]->instructions;
    const size_t i = random.below(instructions.size());
    if (!instructions.empty() && wanted(*instructions[i]))
      sites.push_back({rank, program, i});
  }
  if (sites.empty() || !all)
    return sites;
  const Site first = sites[0];
  for (size_t r = 0; r < plans.size(); ++r) {
    const plan::ProgramT &p = *plans[r]->programs[first.program];
    if (r != first.rank && plans[r]->mesh->stage == plans[first.rank]->mesh->stage &&
        first.instruction < p.instructions.size())
      sites.push_back({r, first.program, first.instruction});
  }
  return sites;
}

bool any(const plan::InstructionT &) { return true; }
bool communicates(const plan::InstructionT &it) { return it.queue == 1; }
bool isPair(const plan::InstructionT &it) { return it.op.type == plan::Op::Send || it.op.type == plan::Op::Recv; }

void removeEvent(plan::ProgramT &p, uint32_t event) {
  for (auto &it : p.instructions) {
    std::erase(it->waits, event);
    for (uint32_t &wait : it->waits)
      wait -= wait > event;
    if (it->signal == static_cast<int32_t>(event))
      it->signal = -1;
    else if (it->signal > static_cast<int32_t>(event))
      --it->signal;
  }
  --p.events;
}

void shiftStages(plan::ProgramT &p, size_t at, int by) {
  if (!p.schedule)
    return;
  for (auto &stage : p.schedule->stages) {
    if (stage->instruction > at || (by > 0 && stage->instruction == at))
      stage->instruction += static_cast<uint32_t>(by);
    else if (stage->instruction + stage->count > at)
      stage->count += static_cast<uint32_t>(by);
  }
}

/// Takes the instruction out; whoever waited for it waits for the one before it on its queue, and the next one on the
/// queue for what it waited for: only what it did is gone.
void drop(plan::ProgramT &p, size_t at) {
  plan::InstructionT &it = *p.instructions[at];
  size_t before = at, after = at;
  for (size_t i = 0; i < p.instructions.size(); ++i)
    if (p.instructions[i]->queue == it.queue) {
      if (i < at)
        before = i;
      if (i > at && after == at)
        after = i;
    }
  if (after != at)
    for (uint32_t wait : it.waits)
      p.instructions[after]->waits.push_back(wait);
  if (it.signal >= 0) {
    const auto event = static_cast<uint32_t>(it.signal);
    if (before != at && p.instructions[before]->signal < 0) {
      p.instructions[before]->signal = it.signal;
      it.signal = -1;
    } else {
      if (before != at)
        for (auto &other : p.instructions)
          for (uint32_t &wait : other->waits)
            if (wait == event)
              wait = static_cast<uint32_t>(p.instructions[before]->signal);
      removeEvent(p, event);
    }
  }
  p.instructions.erase(p.instructions.begin() + static_cast<std::ptrdiff_t>(at));
  if (at < p.labels.size())
    p.labels.erase(p.labels.begin() + static_cast<std::ptrdiff_t>(at));
  shiftStages(p, at, -1);
}

void insert(plan::ProgramT &p, size_t at, std::unique_ptr<plan::InstructionT> it, std::string label) {
  p.instructions.insert(p.instructions.begin() + static_cast<std::ptrdiff_t>(at), std::move(it));
  if (!p.labels.empty())
    p.labels.insert(p.labels.begin() + static_cast<std::ptrdiff_t>(at), std::move(label));
  shiftStages(p, at, 1);
}

std::string text(const Plans &plans, const Site &site) {
  return text(site.rank, site.program, site.instruction, *plans[site.rank]->programs[site.program]);
}

std::string dropWhere(Plans &plans, Random &random, bool (*wanted)(const plan::InstructionT &)) {
  const auto sites = find(plans, random, random.chance(60), wanted);
  if (sites.empty())
    return {};
  const std::string where = text(plans, sites[0]);
  for (const Site &site : sites)
    drop(*plans[site.rank]->programs[site.program], site.instruction);
  return where + (sites.size() > 1 ? " and its stage" : "");
}

std::string duplicateWhere(Plans &plans, Random &random, bool (*wanted)(const plan::InstructionT &)) {
  const auto sites = find(plans, random, random.chance(60), wanted);
  if (sites.empty())
    return {};
  const std::string where = text(plans, sites[0]);
  for (const Site &site : sites) {
    plan::ProgramT &p = *plans[site.rank]->programs[site.program];
    auto again = std::make_unique<plan::InstructionT>(*p.instructions[site.instruction]);
    again->id = 1'000'000;
    // The event comes from the second; the first is done when it is.
    p.instructions[site.instruction]->signal = -1;
    insert(p, site.instruction + 1, std::move(again), p.labels.empty() ? "" : p.labels[site.instruction]);
  }
  return where + (sites.size() > 1 ? " and its stage" : "");
}

/// The operations change places, queues and events stay; or the instructions do, events and all.
std::string swapTwo(Plans &plans, Random &random, bool (*wanted)(const plan::InstructionT &)) {
  const auto sites = find(plans, random, random.chance(50), wanted);
  if (sites.empty())
    return {};
  const plan::ProgramT &first = *plans[sites[0].rank]->programs[sites[0].program];
  size_t other = sites[0].instruction;
  const size_t reach = random.chance(70) ? 1 : 1 + random.below(8);
  for (size_t i = sites[0].instruction + 1, seen = 0; i < first.instructions.size() && seen < reach; ++i)
    if (first.instructions[i]->queue == first.instructions[sites[0].instruction]->queue &&
        wanted(*first.instructions[i]))
      other = i, ++seen;
  if (other == sites[0].instruction)
    return {};
  const bool whole = random.chance(50);
  const std::string where = text(sites[0].rank, sites[0].program, sites[0].instruction, first) + " with " +
                            std::to_string(other) + (whole ? ", whole" : "") + (sites.size() > 1 ? ", stage" : "");
  for (const Site &site : sites) {
    plan::ProgramT &p = *plans[site.rank]->programs[site.program];
    if (other >= p.instructions.size())
      continue;
    if (whole)
      std::swap(p.instructions[site.instruction], p.instructions[other]);
    else
      std::swap(p.instructions[site.instruction]->op, p.instructions[other]->op);
    if (!p.labels.empty())
      std::swap(p.labels[site.instruction], p.labels[other]);
  }
  return where;
}

std::string moveOne(Plans &plans, Random &random) {
  const auto sites = find(plans, random, random.chance(50), any);
  if (sites.empty())
    return {};
  const size_t from = sites[0].instruction,
               count = plans[sites[0].rank]->programs[sites[0].program]->instructions.size();
  const size_t to =
      random.chance(50) ? std::min(count - 1, from + 1 + random.below(6)) : from - std::min(from, random.below(7));
  const std::string where =
      text(sites[0].rank, sites[0].program, from, *plans[sites[0].rank]->programs[sites[0].program]);
  for (const Site &site : sites) {
    plan::ProgramT &p = *plans[site.rank]->programs[site.program];
    if (p.instructions.size() != count)
      continue;
    auto it = std::move(p.instructions[from]);
    p.instructions.erase(p.instructions.begin() + static_cast<std::ptrdiff_t>(from));
    p.instructions.insert(p.instructions.begin() + static_cast<std::ptrdiff_t>(to), std::move(it));
    if (!p.labels.empty()) {
      std::string label = p.labels[from];
      p.labels.erase(p.labels.begin() + static_cast<std::ptrdiff_t>(from));
      p.labels.insert(p.labels.begin() + static_cast<std::ptrdiff_t>(to), std::move(label));
    }
  }
  return where + " to " + std::to_string(to) + (sites.size() > 1 ? ", stage" : "");
}

/// A receive before the send that its peer waits for.
std::string cyclicWait(Plans &plans, Random &random) {
  const auto sites = find(plans, random, true, isPair);
  if (sites.empty())
    return {};
  const std::string where = text(plans, sites[0]);
  for (const Site &site : sites) {
    plan::ProgramT &p = *plans[site.rank]->programs[site.program];
    size_t other = site.instruction;
    for (size_t i = 0; i < p.instructions.size() && other == site.instruction; ++i)
      if (isPair(*p.instructions[i]) && p.instructions[i]->op.type != p.instructions[site.instruction]->op.type)
        other = i;
    if (other == site.instruction)
      return {};
    std::swap(p.instructions[site.instruction]->op, p.instructions[other]->op);
  }
  return where;
}

std::string dropWait(Plans &plans, Random &random) {
  const auto sites =
      find(plans, random, random.chance(50), [](const plan::InstructionT &it) { return !it.waits.empty(); });
  if (sites.empty())
    return {};
  for (const Site &site : sites) {
    auto &waits = plans[site.rank]->programs[site.program]->instructions[site.instruction]->waits;
    if (!waits.empty())
      waits.erase(waits.begin());
  }
  return text(sites[0].rank, sites[0].program, sites[0].instruction, *plans[sites[0].rank]->programs[sites[0].program]);
}

std::string dropEvent(Plans &plans, Random &random) {
  const auto sites =
      find(plans, random, random.chance(50), [](const plan::InstructionT &it) { return it.signal >= 0; });
  if (sites.empty())
    return {};
  const std::string where = text(plans, sites[0]);
  for (const Site &site : sites) {
    plan::ProgramT &p = *plans[site.rank]->programs[site.program];
    if (const int32_t event = p.instructions[site.instruction]->signal; event >= 0)
      removeEvent(p, static_cast<uint32_t>(event));
  }
  return where;
}

std::string otherEvent(Plans &plans, Random &random) {
  const auto sites = find(plans, random, random.chance(50),
                          [](const plan::InstructionT &it) { return !it.waits.empty() || it.signal >= 0; });
  if (sites.empty())
    return {};
  plan::ProgramT &first = *plans[sites[0].rank]->programs[sites[0].program];
  const auto event = static_cast<uint32_t>(random.below(first.events));
  for (const Site &site : sites) {
    plan::ProgramT &p = *plans[site.rank]->programs[site.program];
    plan::InstructionT &it = *p.instructions[site.instruction];
    if (!it.waits.empty()) {
      it.waits[0] = event;
      continue;
    }
    for (auto &other : p.instructions) // the two that signal change places
      if (other->signal == static_cast<int32_t>(event)) {
        std::swap(other->signal, it.signal);
        break;
      }
  }
  return text(sites[0].rank, sites[0].program, sites[0].instruction, first);
}

std::string otherQueue(Plans &plans, Random &random) {
  const auto sites = find(plans, random, random.chance(50), any);
  if (sites.empty())
    return {};
  for (const Site &site : sites)
    plans[site.rank]->programs[site.program]->instructions[site.instruction]->queue ^= 1;
  return text(sites[0].rank, sites[0].program, sites[0].instruction, *plans[sites[0].rank]->programs[sites[0].program]);
}

/// A schedule on all ranks alike or on one.
std::string inSchedule(Plans &plans, Random &random, const std::function<void(plan::ProgramT &, uint64_t)> &seed) {
  const bool all = random.chance(50);
  const size_t rank = random.below(plans.size());
  const uint64_t draw = random.below(~uint64_t(0) >> 1);
  std::string where;
  for (size_t r = 0; r < plans.size(); ++r)
    for (auto &program : plans[r]->programs)
      if ((all || r == rank) && program->schedule && !program->schedule->stages.empty()) {
        seed(*program, draw);
        where = "rank " + std::to_string(r) + (all ? " and all others" : "");
      }
  return where;
}

std::string tileUnits(Plans &plans, Random &random) {
  const unsigned what = static_cast<unsigned>(random.below(4));
  return inSchedule(plans, random, [&](plan::ProgramT &p, uint64_t draw) {
    auto &stages = p.schedule->stages;
    auto &bounds = stages[draw % stages.size()]->bounds;
    if (bounds.size() < 3)
      return;
    const size_t s = 1 + draw / 977 % (bounds.size() - 2);
    if (what == 0)
      bounds.back() -= 1; // a unit is missing
    else if (what == 1)
      bounds.back() += 1; // out of range
    else if (what == 2)
      std::swap(bounds[s], bounds[s + 1]); // streamed twice
    else
      bounds.erase(bounds.begin() + static_cast<std::ptrdiff_t>(s));
  });
}

std::string tileWaits(Plans &plans, Random &random) {
  return inSchedule(plans, random, [](plan::ProgramT &p, uint64_t draw) {
    auto &waits = p.schedule->stages[draw % p.schedule->stages.size()]->waits;
    if (waits.empty())
      return;
    if (draw / 977 % 2)
      waits.erase(waits.begin());
    else
      waits[0] -= 1;
  });
}

std::string tileStages(Plans &plans, Random &random) {
  const unsigned what = static_cast<unsigned>(random.below(5));
  return inSchedule(plans, random, [&](plan::ProgramT &p, uint64_t draw) {
    auto &stages = p.schedule->stages;
    const size_t s = draw % stages.size();
    if (what == 0)
      stages.erase(stages.begin() + static_cast<std::ptrdiff_t>(s));
    else if (what == 1)
      stages[s]->count += 1;
    else if (what == 2 && stages[s]->count > 1)
      stages[s]->count -= 1;
    else if (what == 3)
      stages[s]->instruction += 1;
    else
      stages[s]->kind = static_cast<plan::StageKind>((static_cast<unsigned>(stages[s]->kind) + 1) %
                                                     (static_cast<unsigned>(plan::StageKind::MAX) + 1));
  });
}

} // namespace

std::vector<FaultKind> programFaults() {
  const auto of = [](auto function, bool (*wanted)(const plan::InstructionT &)) {
    return [=](Plans &plans, Random &random) { return function(plans, random, wanted); };
  };
  return {
      {"instruction dropped", of(dropWhere, any), {}},
      {"instruction doubled", of(duplicateWhere, any), {}},
      {"order of instructions swapped", of(swapTwo, any), {}},
      {"instruction moved", moveOne, {}},
      {"collectives swapped", of(swapTwo, communicates), {}},
      {"collective missing", of(dropWhere, communicates), {}},
      {"collective doubled", of(duplicateWhere, communicates), {}},
      {"send without receive, or the reverse", of(dropWhere, isPair), {}},
      {"cyclic wait", cyclicWait, {}},
      {"wait missing", dropWait, {}},
      {"event missing", dropEvent, {}},
      {"another event", otherEvent, {}},
      {"queue changed", otherQueue, {}},
      {"tile schedule: units", tileUnits, {}},
      {"tile schedule: waits", tileWaits, {}},
      {"tile schedule: stages", tileStages, {}},
  };
}

} // namespace distc::mutate
