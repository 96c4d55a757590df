#include "compiler/Report/Timeline.h"

#include "compiler/Explain/Instructions.h"
#include "compiler/Explain/Names.h"
#include "compiler/Import/Json.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

namespace distc::report {

double Track::busy() const {
  double sum = 0;
  for (const Event &event : events)
    sum += event.queue == 0 ? event.end - event.begin : 0;
  return sum;
}

namespace {

std::string rankText(const std::vector<uint32_t> &ranks) {
  return std::string(ranks.size() > 1 ? "ranks " : "rank ") + explain::rangesText(ranks);
}

// Of the tracks of each stage the busiest; times from the first begin.
void finish(Step &step, std::vector<Track> all) {
  for (Track &track : all) {
    if (track.events.empty())
      continue;
    std::sort(track.events.begin(), track.events.end(), [](const Event &a, const Event &b) {
      return std::tie(a.begin, a.end, a.instruction) < std::tie(b.begin, b.end, b.instruction);
    });
    const uint32_t stage = track.plan->mesh()->stage();
    const auto same = std::find_if(step.tracks.begin(), step.tracks.end(),
                                   [&](const Track &other) { return other.plan->mesh()->stage() == stage; });
    if (same == step.tracks.end())
      step.tracks.push_back(std::move(track));
    else if (track.busy() > same->busy())
      *same = std::move(track);
  }
  std::sort(step.tracks.begin(), step.tracks.end(),
            [](const Track &a, const Track &b) { return a.plan->mesh()->stage() < b.plan->mesh()->stage(); });
  double first = step.tracks.empty() ? 0 : step.tracks[0].events[0].begin;
  for (const Track &track : step.tracks)
    first = std::min(first, track.events[0].begin);
  for (Track &track : step.tracks)
    for (Event &event : track.events) {
      event.begin -= first;
      event.end -= first;
      step.length = std::max(step.length, event.end);
      step.microBatches = std::max(step.microBatches, event.microBatch + 1);
    }
}

} // namespace

std::vector<Step> simulatedSteps(const explain::PlanSet &set, const Simulation &simulation, const Machine &machine) {
  std::vector<Step> steps;
  for (plan::Regime regime : {plan::Regime::Decode, plan::Regime::Prefill}) {
    Step step;
    step.regime = regime;
    step.about = "Predicted for " + machine.name + ".";
    std::vector<Track> tracks;
    for (const Node &node : simulation.nodes) {
      Track track;
      track.plan = node.plan;
      track.name = "stage " + std::to_string(node.plan->mesh()->stage()) + ", " + rankText(node.ranks);
      tracks.push_back(std::move(track));
    }
    // Several prefill steps follow each other, and one is enough: until an instruction comes again.
    std::set<std::tuple<uint32_t, uint32_t, uint32_t>> seen;
    for (const TraceEvent &event : simulation.trace) {
      if (event.program->regime() != regime)
        continue;
      if (!seen.emplace(event.node, event.microBatch, event.instruction).second)
        break;
      Track &track = tracks[event.node];
      track.program = event.program;
      const uint32_t queue = event.program->instructions()->Get(event.instruction)->queue();
      track.events.push_back({event.begin, event.end, queue, event.microBatch, event.instruction});
    }
    finish(step, std::move(tracks));
    if (!step.tracks.empty())
      steps.push_back(std::move(step));
  }
  return steps;
}

namespace {

struct Place {
  const plan::Program *program;
  uint32_t instruction;
};

// The steps that one rank has done, by the program.
struct RankSteps {
  const plan::Plan *plan = nullptr;
  std::unordered_map<uint32_t, Place> places; // by id
  struct Raw {
    double begin, end;
    uint32_t microBatch;
    Place place;
  };
  std::vector<Raw> raw;
  std::map<const plan::Program *, std::vector<std::vector<Event>>> steps;

  // A step ends where another program begins, or an instruction comes again in its micro-batch.
  void split() {
    std::stable_sort(raw.begin(), raw.end(), [](const Raw &a, const Raw &b) { return a.begin < b.begin; });
    const plan::Program *current = nullptr;
    std::set<std::pair<uint32_t, uint32_t>> seen;
    for (const Raw &r : raw) {
      if (r.place.program != current || !seen.emplace(r.microBatch, r.place.instruction).second) {
        current = r.place.program;
        steps[current].emplace_back();
        seen = {{r.microBatch, r.place.instruction}};
      }
      const uint32_t queue = current->instructions()->Get(r.place.instruction)->queue();
      steps[current].back().push_back({r.begin, r.end, queue, r.microBatch, r.place.instruction});
    }
  }
};

// A number that a trace may hold; -1: there is none.
double numberAt(const import::Json &object, const char *key) {
  const auto at = object.find(key);
  if (at == object.end() || !at->is_number())
    return -1;
  const double value = at->get<double>();
  return value >= 0 && value < 1e15 ? value : -1;
}

Status readEvents(const import::Json &json, const std::string &path, std::map<uint32_t, RankSteps> &ranks) {
  const auto list = json.is_object() ? json.find("traceEvents") : json.end();
  if (list == json.end() || !list->is_array())
    return dataLoss(path + ": no Chrome trace: expected an object with the array traceEvents");
  for (const import::Json &event : *list) {
    if (!event.is_object() || event.value("ph", import::Json()) != "X")
      continue;
    const auto args = event.find("args");
    const double rank = numberAt(event, "pid"), track = numberAt(event, "tid"), begin = numberAt(event, "ts"),
                 length = numberAt(event, "dur"),
                 id = args != event.end() && args->is_object() ? numberAt(*args, "id") : -1;
    if (std::min({rank, track, begin, length, id}) < 0)
      return dataLoss(path + ": an event without one of pid, tid, ts, dur and args.id; expected a trace that distrun "
                             "--trace or distc simulate --trace has written");
    const auto at = rank < 1e9 ? ranks.find(static_cast<uint32_t>(rank)) : ranks.end();
    if (at == ranks.end())
      return invalidArgument(path + ": has events of rank " + std::to_string(static_cast<uint64_t>(rank)) +
                             ", and the plan set has " + std::to_string(ranks.size()) +
                             " ranks; give the trace of a run of this plan set");
    const auto place = id < 4e9 ? at->second.places.find(static_cast<uint32_t>(id)) : at->second.places.end();
    if (place == at->second.places.end())
      return invalidArgument(path + ": has an event of instruction " + std::to_string(static_cast<uint64_t>(id)) +
                             " of rank " + std::to_string(at->first) +
                             ", which its plan does not have; give the trace of a run of this plan set");
    const double seconds = begin * 1e-6;
    at->second.raw.push_back(
        {seconds, seconds + length * 1e-6, static_cast<uint32_t>(std::min(track, 2e4)) / 2, place->second});
  }
  return {};
}

} // namespace

Result<std::vector<Step>> tracedSteps(const explain::PlanSet &set, const std::string &path) {
  DISTC_ASSIGN(const import::Json json, import::parseJsonFile(path));
  std::map<uint32_t, RankSteps> ranks;
  for (const plan::Plan *plan : set.plans) {
    RankSteps &mine = ranks[plan->mesh()->rank()];
    mine.plan = plan;
    for (const plan::Program *program : *plan->programs())
      for (uint32_t i = 0; i < program->instructions()->size(); ++i)
        mine.places.emplace(program->instructions()->Get(i)->id(), Place{program, i});
  }
  DISTC_TRY(readEvents(json, path, ranks));
  for (auto &[rank, mine] : ranks)
    mine.split();
  std::vector<Step> steps;
  for (uint32_t p = 0; p < set.first().programs()->size(); ++p) {
    size_t count = SIZE_MAX; // of the ranks that are in the file: one of several processes writes its own alone
    for (auto &[rank, mine] : ranks)
      if (!mine.raw.empty())
        count = std::min(count, mine.steps[mine.plan->programs()->Get(p)].size());
    if (count == 0 || count == SIZE_MAX)
      continue;
    Step step;
    step.regime = set.first().programs()->Get(p)->regime();
    step.about = "Step " + std::to_string(count) + " of its kind in the trace.";
    std::vector<Track> tracks;
    for (auto &[rank, mine] : ranks) {
      if (mine.raw.empty())
        continue;
      Track track;
      track.plan = mine.plan;
      track.program = mine.plan->programs()->Get(p);
      track.name = "stage " + std::to_string(mine.plan->mesh()->stage()) + ", rank " + std::to_string(rank);
      track.events = std::move(mine.steps[track.program][count - 1]);
      tracks.push_back(std::move(track));
    }
    finish(step, std::move(tracks));
    steps.push_back(std::move(step));
  }
  if (steps.empty())
    return invalidArgument(path + ": holds no step that all its ranks have done");
  return steps;
}

} // namespace distc::report
