#include "compiler/Analysis/Simulate.h"

#include "runtime/verify/Operands.h"

#include <cstdio>

namespace distc {

namespace {

// As many as make a file that a viewer still opens.
constexpr size_t kMaxEvents = 1'000'000;

std::string metadata(const char *what, uint32_t rank, uint32_t track, const std::string &name) {
  return std::string("{\"ph\":\"M\",\"name\":\"") + what + "\",\"pid\":" + std::to_string(rank) +
         ",\"tid\":" + std::to_string(track) + ",\"args\":{\"name\":\"" + name + "\"}},\n";
}

// Labels come from plan files, so anything may be in them.
std::string escaped(std::string_view text) {
  std::string result;
  for (unsigned char c : text) {
    if (c == '"' || c == '\\' || c < 0x20 || c >= 0x7f) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", c);
      result += escape;
    } else {
      result += static_cast<char>(c);
    }
  }
  return result;
}

} // namespace

std::string traceJson(const Simulation &simulation) {
  std::string json = "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n";
  uint32_t microBatches = 1;
  for (const TraceEvent &event : simulation.trace)
    microBatches = std::max(microBatches, event.microBatch + 1);
  for (const Node &node : simulation.nodes)
    for (uint32_t rank : node.ranks) {
      json += metadata("process_name", rank, 0, "rank " + std::to_string(rank)) +
              metadata("thread_name", rank, 0, "compute");
      for (uint32_t track = 1; track < 2 * microBatches; ++track)
        json += metadata("thread_name", rank, track,
                         std::string(track % 2 == 0 ? "compute" : "communication") +
                             (track < 2 ? "" : ", micro-batch " + std::to_string(track / 2)));
    }
  size_t written = 0, dropped = 0;
  for (const TraceEvent &event : simulation.trace)
    for (uint32_t rank : simulation.nodes[event.node].ranks) {
      if (written == kMaxEvents) {
        ++dropped;
        continue;
      }
      ++written;
      const plan::Instruction &i = *event.program->instructions()->Get(event.instruction);
      const auto *labels = event.program->labels();
      const uint32_t track = 2 * event.microBatch + i.queue();
      char numbers[192];
      std::snprintf(numbers, sizeof numbers,
                    "{\"ph\":\"X\",\"name\":\"%s\",\"pid\":%u,\"tid\":%u,\"ts\":%.3f,\"dur\":%.3f,\"args\":{\"id\":%u,",
                    EnumNameOp(i.op_type()), rank, track, event.begin * 1e6, (event.end - event.begin) * 1e6, i.id());
      json += numbers;
      json += "\"label\":\"" +
              escaped(labels && event.instruction < labels->size() ? labels->Get(event.instruction)->string_view()
                                                                   : std::string_view()) +
              "\",\"bytes\":" + std::to_string(static_cast<uint64_t>(event.bytes)) + "}},\n";
    }
  return json + "{\"ph\":\"M\",\"name\":\"trace\",\"pid\":0,\"args\":{\"dropped\":" + std::to_string(dropped) +
         "}}\n]}\n";
}

} // namespace distc
