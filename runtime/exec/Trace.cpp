#include "runtime/exec/Trace.h"

#include "runtime/base/File.h"

#include <cstdio>

namespace distc {

namespace {

// A JSON string; labels come from plan files, so anything may be in them.
std::string jsonString(std::string_view text) {
  std::string result = "\"";
  for (unsigned char c : text) {
    if (c == '"' || c == '\\') {
      result += '\\';
      result += static_cast<char>(c);
    } else if (c < 0x20 || c >= 0x7f) { // bytes, not characters: any input gives valid JSON
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", c);
      result += escape;
    } else {
      result += static_cast<char>(c);
    }
  }
  return result + "\"";
}

std::string trackName(uint32_t track) {
  const std::string queue = track % 2 == 0 ? "compute" : "communication";
  return track < 2 ? queue : queue + ", micro-batch " + std::to_string(track / 2);
}

std::string metadata(const char *what, uint32_t rank, uint32_t track, const std::string &name) {
  return std::string("{\"ph\":\"M\",\"name\":\"") + what + "\",\"pid\":" + std::to_string(rank) +
         ",\"tid\":" + std::to_string(track) + ",\"args\":{\"name\":" + jsonString(name) + "}},\n";
}

} // namespace

void RankTrace::add(uint64_t step, const Instruction &instruction, Clock::time_point begin, Clock::time_point end,
                    uint64_t bytes) {
  if (events_.size() == kMaxEvents) {
    ++dropped_;
    return;
  }
  events_.push_back({&instruction, step, (begin - origin_).count(), (end - origin_).count(), bytes});
}

RankTrace &Trace::track(uint32_t rank, uint32_t track) {
  auto &trace = tracks_[{rank, track}];
  if (!trace)
    trace = std::make_unique<RankTrace>(origin_);
  return *trace;
}

Status Trace::write() const {
  std::string json = "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n";
  uint64_t dropped = 0;
  for (const auto &[place, trace] : tracks_) {
    const auto [rank, track] = place;
    if (track == 0)
      json += metadata("process_name", rank, 0, "rank " + std::to_string(rank));
    json += metadata("thread_name", rank, track, trackName(track));
    dropped += trace->dropped_;
    for (const RankTrace::Event &event : trace->events_) {
      const Instruction &i = *event.instruction;
      char numbers[192];
      std::snprintf(numbers, sizeof numbers,
                    "{\"ph\":\"X\",\"name\":\"%s\",\"pid\":%u,\"tid\":%u,\"ts\":%.3f,\"dur\":%.3f,\"args\":{\"step\":%"
                    "llu,\"id\":%u,",
                    EnumNameOp(i.op), rank, track, static_cast<double>(event.begin) / 1e3,
                    static_cast<double>(event.end - event.begin) / 1e3, static_cast<unsigned long long>(event.step),
                    i.id);
      json += numbers;
      json += "\"label\":" + jsonString(i.label) + ",\"bytes\":" + std::to_string(event.bytes) + "}},\n";
    }
  }
  json += "{\"ph\":\"M\",\"name\":\"trace\",\"pid\":0,\"args\":{\"dropped\":" + std::to_string(dropped) + "}}\n]}\n";
  return writeFileAtomically(path_, std::as_bytes(std::span(json)));
}

} // namespace distc
