#include "compiler/Report/TimelineData.h"

#include "compiler/Explain/Instructions.h"
#include "compiler/Explain/Names.h"
#include "compiler/Report/Html.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

namespace distc::report {

namespace {

constexpr size_t kMaxEvents = 40'000; // of a step: more would make a page that opens slowly

// The kinds that page.js has colours for.
int kindOf(const plan::Instruction &instruction) {
  const Operands operands = operandsOf(instruction);
  if (operands.group >= 0)
    return operands.peer < 0 ? 3 : instruction.op_type() == plan::Op::Recv ? 5 : 4;
  return instruction.op_type() == plan::Op::Linear ? 0 : instruction.op_type() == plan::Op::Attention ? 1 : 2;
}

// The layer that a label names; -1: none.
int64_t layerOf(std::string_view label) {
  const explain::NumberedName name = explain::numbered(label);
  return name.numbers.empty() ? -1 : int64_t(name.numbers[0]);
}

std::string micros(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", seconds * 1e6);
  return text;
}

int64_t nanos(double seconds) { return std::llround(std::min(seconds, 1e9) * 1e9); }

explain::Json trackJson(const Track &track, bool whole, std::map<std::string, size_t> &ops) {
  const explain::Flow flow(*track.plan, *track.program);
  explain::Json instructions = explain::Json::array();
  std::vector<int64_t> layers;
  for (size_t i = 0; i < flow.size(); ++i) {
    layers.push_back(layerOf(flow.label(i)));
    const size_t op = ops.emplace(plan::EnumNameOp(flow.at(i).op_type()), ops.size()).first->second;
    instructions.push_back({flow.at(i).id(), op, explain::printable(flow.label(i)), layers.back(), kindOf(flow.at(i))});
  }
  explain::Json queues = explain::Json::array();
  for (uint32_t queue : {0u, 1u}) {
    std::vector<Event> events;
    std::map<uint32_t, std::pair<size_t, int64_t>> open; // by micro-batch: the place and layer of the last event
    std::map<size_t, uint64_t> merged;                   // how many events are one
    for (const Event &event : track.events) {
      if (event.queue != queue)
        continue;
      const int64_t layer = layers[event.instruction];
      const auto last = open.find(event.microBatch);
      if (!whole && last != open.end() && last->second.second == layer) {
        events[last->second.first].end = std::max(events[last->second.first].end, event.end);
        ++merged[last->second.first];
        continue;
      }
      open[event.microBatch] = {events.size(), layer};
      events.push_back(event);
    }
    explain::Json flat = explain::Json::array();
    for (size_t e = 0; e < events.size(); ++e) {
      size_t shown = events[e].instruction;
      if (const auto more = merged.find(e); more != merged.end()) {
        const int64_t layer = layers[shown];
        const std::string text = (layer < 0 ? std::string("beside the layers") : "layer " + std::to_string(layer)) +
                                 ", " + std::to_string(more->second + 1) + " instructions from id " +
                                 std::to_string(flow.at(shown).id());
        instructions.push_back({nullptr, 0, text, layer, kindOf(flow.at(shown))});
        shown = instructions.size() - 1;
      }
      for (int64_t value : {nanos(events[e].begin), nanos(events[e].end - events[e].begin), int64_t(shown),
                            int64_t(events[e].microBatch)})
        flat.push_back(value);
    }
    queues.push_back(std::move(flat));
  }
  return {{"name", track.name},
          {"rank", track.plan->mesh()->rank()},
          {"instructions", std::move(instructions)},
          {"queues", std::move(queues)}};
}

} // namespace

std::string stepName(const Step &step) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3f ms", 1e3 * step.length);
  return (step.regime == plan::Regime::Decode ? "Decode step, " : "Prefill step, ") + std::string(text);
}

explain::Json timelineJson(const std::vector<Step> &steps) {
  explain::Json all = explain::Json::array();
  std::map<std::string, size_t> ops;
  for (const Step &step : steps) {
    size_t events = 0;
    for (const Track &track : step.tracks)
      events += track.events.size();
    const bool whole = events <= kMaxEvents;
    explain::Json tracks = explain::Json::array();
    for (const Track &track : step.tracks)
      tracks.push_back(trackJson(track, whole, ops));
    all.push_back(
        {{"name", stepName(step)},
         {"about", step.about + (whole ? "" : " Instructions of a layer that follow each other are one block.")},
         {"length", std::max<int64_t>(1, nanos(step.length))},
         {"microBatches", step.microBatches},
         {"tracks", std::move(tracks)}});
  }
  std::vector<std::string> names(ops.size());
  for (const auto &[name, index] : ops)
    names[index] = name;
  return {{"ops", names}, {"steps", std::move(all)}};
}

std::string layersHtml(const Step &step) {
  std::vector<std::vector<std::string>> rows;
  for (const Track &track : step.tracks) {
    const explain::Flow flow(*track.plan, *track.program);
    struct Sum {
      double begin = 0, end = 0, busy[2] = {0, 0};
      std::vector<uint32_t> ids;
    };
    std::map<int64_t, Sum> layers;
    for (const Event &event : track.events) {
      Sum &sum = layers[layerOf(flow.label(event.instruction))];
      sum.begin = sum.ids.empty() ? event.begin : std::min(sum.begin, event.begin);
      sum.end = std::max(sum.end, event.end);
      sum.busy[event.queue ? 1 : 0] += event.end - event.begin;
      sum.ids.push_back(flow.at(event.instruction).id());
    }
    for (const auto &[layer, sum] : layers)
      rows.push_back({escaped(track.name), layer < 0 ? "others" : std::to_string(layer), explain::rangesText(sum.ids),
                      micros(sum.begin), micros(sum.end), micros(sum.busy[0]), micros(sum.busy[1])});
  }
  return tableHtml("Layers of the step", "tnwnnnn",
                   {"rank", "layer", "instruction ids", "from µs", "to µs", "computes µs", "communicates µs"}, rows);
}

} // namespace distc::report
