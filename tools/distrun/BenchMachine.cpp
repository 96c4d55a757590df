// `distrun bench-machine`: measures, and writes a machine file (docs/machines.md).
#include "distc/kernels/Cpu.h"
#include "runtime/base/File.h"
#include "tools/distrun/Commands.h"
#include "tools/distrun/MachineBench.h"

#include <algorithm>
#include <cstdio>
#include <fstream>

namespace distc {

namespace {

std::string processorName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name"))
      if (const size_t colon = line.find(": "); colon != std::string::npos) {
        std::string name = line.substr(colon + 2);
        std::erase_if(name, [](unsigned char c) { return c < 0x20 || c >= 0x7f || c == '"' || c == '\\'; });
        return name;
      }
  return "processor";
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

std::string points(const MachineFigures::Points &all, const char *key, double of) {
  std::string text;
  for (auto [tokens, value] : all)
    text += (text.empty() ? "" : ",") + std::string("\n      {\"tokens\": ") + std::to_string(tokens) + ", \"" + key +
            "\": " + number(value / of) + "}";
  return "[" + text + "\n    ]";
}

std::string machineFile(const MachineFigures &f) {
  std::string text = "{\n  \"name\": \"" + processorName() + ", " + std::to_string(f.cores) + " cores, " +
                     cpu::simdTarget() +
                     "\",\n  \"source\": \"Measured by distrun bench-machine.\",\n  \"kind\": \"cpu\"";
  const auto add = [&](const char *key, const std::string &value) {
    text += std::string(",\n  \"") + key + "\": " + value;
  };
  add("cores", std::to_string(f.cores));
  add("memory_bytes", std::to_string(f.memoryBytes));
  std::string memory;
  for (size_t i = 0; i < f.stream.size(); ++i)
    memory += (i == 0 ? "" : ",") + std::string("\n    {\"megabytes\": ") + std::to_string(f.stream[i].first) +
              ", \"gb_per_s\": " + number(f.streamAll[i].second) +
              ", \"core_gb_per_s\": " + number(f.stream[i].second) + "}";
  add("memory", "[" + memory + "\n  ]");
  std::string matrix;
  for (const auto &[type, all] : f.matrix) {
    double best = 0;
    for (auto [tokens, rate] : all)
      best = std::max(best, rate * 1.0001); // no rounded share is above 1
    matrix += (matrix.empty() ? "" : ",") + std::string("\n    \"") + type +
              "\": {\"peak_gflop_per_s\": " + number(best) + ", \"reached\": " + points(all, "share", best) + "}";
  }
  add("matrix", "{" + matrix + "\n  }");
  add("attention", "{\"memory_share\": " + number(std::clamp(f.cacheRead / f.stream.back().second, .01, 1.)) +
                       ", \"reached\": " + points(f.attention, "gflop_per_s", 1) + "}");
  add("elementwise_gb_per_s", number(f.elementwise));
  add("activation_gelement_per_s", number(f.activation));
  add("instruction_us", number(f.instruction));
  add("fork_us", number(f.fork));
  add("step_us", number(f.step));
  add("links", "[\n    {\"name\": \"threads of one process\", \"devices\": 1024, \"latency_us\": " + number(f.message) +
                   ", \"collective_us\": " + number(f.collective) + ", \"gb_per_s\": " + number(f.collectiveBytes) +
                   ", \"share\": 1, \"short_bytes\": 0}\n  ]");
  return text + "\n}\n";
}

std::string table(const MachineFigures &f) {
  std::string text = processorName() + ", " + std::to_string(f.cores) + " cores, " + cpu::simdTarget() + "\n";
  const auto add = [&](const char *name, const std::string &value) {
    std::string line = name;
    line.resize(36, ' ');
    text += line + value + "\n";
  };
  add("reads, all cores", number(f.readAll) + " GB/s");
  const auto row = [](const MachineFigures::Points &all) {
    std::string values;
    for (auto [place, value] : all)
      values += (values.empty() ? "" : ", ") + std::to_string(place) + ": " + number(value);
    return values;
  };
  add("weights by MB, all cores", row(f.streamAll) + " GB/s");
  add("weights by MB, one core", row(f.stream) + " GB/s");
  add("KV cache, one core", number(f.cacheRead) + " GB/s");
  for (const auto &[type, all] : f.matrix)
    add((type + " products by tokens, one core").c_str(), row(all) + " GFLOP/s");
  add("elementwise, one core", number(f.elementwise) + " GB/s");
  add("gated activation, one core", number(f.activation) + " elements/ns");
  add("instruction, fork, step", number(f.instruction) + ", " + number(f.fork) + ", " + number(f.step) + " us");
  add("message, all-reduce between ranks",
      number(f.message) + ", " + number(f.collective) + " us, " + number(f.collectiveBytes) + " GB/s");
  return text;
}

} // namespace

Status runBenchMachine(const Options &options) {
  DISTC_ASSIGN(const MachineFigures figures, measureMachine(options.repeat, interruptedFlag()));
  const std::string file = machineFile(figures);
  if (!options.output.empty())
    DISTC_TRY(writeFileAtomically(options.output, std::as_bytes(std::span(file))));
  return print(options.json ? file : table(figures));
}

} // namespace distc
