#include "tools/distc/Simulate.h"

#include "compiler/Analysis/Advise.h"
#include "runtime/base/File.h"
#include "runtime/base/Log.h"
#include "runtime/schema/PlanFile.h"
#include "runtime/verify/Verify.h"

#include <cstdio>

namespace distc {

namespace {

double perSecond(const Phase &phase) { return phase.seconds > 0 ? phase.tokens / phase.seconds : 0; }
double stepMs(const Phase &phase) { return phase.steps > 0 ? 1e3 * phase.seconds / phase.steps : 0; }

std::string phaseJson(const char *name, const Phase &phase) {
  char text[320];
  std::snprintf(
      text, sizeof text,
      "\"%s\":{\"steps\":%.0f,\"tokens\":%.0f,\"ms\":%.6g,\"tok_s\":%.6g,\"idle\":%.6g,\"exposed_communication\":"
      "%.6g}",
      name, phase.steps, phase.tokens, 1e3 * phase.seconds, perSecond(phase), phase.idle(), phase.exposedShare());
  return text;
}

std::string ranksJson(const Simulation &s) {
  std::string json;
  for (size_t n = 0; n < s.nodes.size(); ++n)
    for (uint32_t rank : s.nodes[n].ranks) {
      const NodeTimes none, prefill = s.prefill.nodes.empty() ? none : s.prefill.nodes[n],
                            decode = s.decode.nodes.empty() ? none : s.decode.nodes[n];
      char text[256];
      std::snprintf(text, sizeof text,
                    "%s{\"rank\":%u,\"prefill_busy_ms\":%.6g,\"prefill_exposed_ms\":%.6g,\"decode_busy_ms\":%.6g,"
                    "\"decode_exposed_ms\":%.6g}",
                    json.empty() ? "" : ",", rank, 1e3 * prefill.compute, 1e3 * prefill.exposed, 1e3 * decode.compute,
                    1e3 * decode.exposed);
      json += text;
    }
  return json;
}

// The names of `distrun bench --json` mean the same here.
void printJson(const Simulation &s, const Machine &machine, double need) {
  std::string text = "{\"machine\":\"";
  for (char c : machine.name) // a file's text
    text += c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  char numbers[256];
  std::snprintf(numbers, sizeof numbers, "\",\"memory_bytes\":%.0f,\"fits\":%s", need,
                need <= double(machine.memoryBytes) ? "true" : "false");
  text += numbers;
  std::snprintf(numbers, sizeof numbers, ",\"first_token_ms\":%.6g,\"last_first_token_ms\":%.6g,\"prefill_tok_s\":%.6g",
                1e3 * s.firstToken, 1e3 * s.lastFirstToken, perSecond(s.prefill));
  text += numbers;
  if (s.decode.steps > 0) {
    std::snprintf(numbers, sizeof numbers, ",\"decode_ms_per_step\":%.6g,\"decode_tok_s\":%.6g", stepMs(s.decode),
                  perSecond(s.decode));
    text += numbers;
  }
  std::snprintf(numbers, sizeof numbers, ",\"bubble\":%.6g,", s.prefill.idle());
  text += numbers + phaseJson("prefill", s.prefill) + "," + phaseJson("decode", s.decode) + ",\"ranks\":[" +
          ranksJson(s) + "]}";
  std::printf("%s\n", text.c_str());
}

void printText(const Simulation &s, const plan::Plan &first, const Machine &machine, const SimulateCommand &command) {
  std::printf("%s: %s, tp %u x pp %u, on %s\n", command.directory.c_str(), first.model()->name()->c_str(),
              first.mesh()->tp(), first.mesh()->pp(), machine.name.c_str());
  std::printf("batch %lld, %lld prompt tokens, %lld new tokens each\n", static_cast<long long>(command.batch),
              static_cast<long long>(command.promptTokens), static_cast<long long>(command.newTokens));
  std::printf("prefill                  %10.1f tok/s, %.3f ms in %.0f steps\n", perSecond(s.prefill),
              1e3 * s.prefill.seconds, s.prefill.steps);
  std::printf("time to first token      %10.3f ms, the latest sequence's %.3f ms\n", 1e3 * s.firstToken,
              1e3 * s.lastFirstToken);
  if (s.decode.steps > 0)
    std::printf("decode                   %10.3f ms/step, %.1f tok/s\n", stepMs(s.decode), perSecond(s.decode));
  std::printf("bubble in prefill        %10.1f %%\n", 100 * s.prefill.idle());
  std::printf("exposed communication    %10.1f %% of prefill", 100 * s.prefill.exposedShare());
  std::printf(s.decode.steps > 0 ? ", %.1f %% of decode\n" : "\n", 100 * s.decode.exposedShare());
  std::printf("%9s %15s %15s %15s %15s\n", "ranks", "prefill busy ms", "exposed ms", "decode busy ms", "exposed ms");
  for (size_t n = 0; n < s.nodes.size(); ++n) {
    const std::vector<uint32_t> &ranks = s.nodes[n].ranks;
    const std::string name =
        std::to_string(ranks.front()) + (ranks.size() > 1 ? "-" + std::to_string(ranks.back()) : "");
    const NodeTimes decode = s.decode.nodes.empty() ? NodeTimes() : s.decode.nodes[n];
    std::printf("%9s %15.3f %15.3f %15.3f %15.3f\n", name.c_str(), 1e3 * s.prefill.nodes[n].compute,
                1e3 * s.prefill.nodes[n].exposed, 1e3 * decode.compute, 1e3 * decode.exposed);
  }
}

} // namespace

Status checkOptions(const SimulateCommand &command) {
  for (auto [flag, value] : {std::pair{"--batch", command.batch}, std::pair{"--prompt-tokens", command.promptTokens},
                             std::pair{"--new-tokens", command.newTokens}})
    if (value < 1 || value > (1 << 24))
      return invalidArgument(std::string(flag) + " is " + std::to_string(value) + ", expected 1 to " +
                             std::to_string(1 << 24));
  return {};
}

Status simulateCommand(const SimulateCommand &command) {
  DISTC_ASSIGN(const Machine machine, Machine::open(command.machine));
  DISTC_ASSIGN(const std::vector<PlanFile> set, openPlanSet(command.directory));
  std::vector<const plan::Plan *> plans;
  for (const PlanFile &file : set)
    plans.push_back(&file.plan());
  DISTC_TRY(provePlanSet(plans, command.directory));
  const SimulateOptions options{uint64_t(command.batch), uint64_t(command.promptTokens), uint64_t(command.newTokens),
                                !command.trace.empty()};
  const double need = fullest(machine, plans);
  if (need > double(machine.memoryBytes))
    log(LogLevel::Warn, command.directory + ": the plans do not fit: the fullest device is to hold " +
                            formatBytes(uint64_t(need)) + ", " + machine.name + " has " +
                            formatBytes(machine.memoryBytes) +
                            " (a higher --tp or --pp, a smaller --max-batch or --max-seq)");
  DISTC_ASSIGN(const Simulation simulation, simulate(machine, plans, command.directory, options));
  if (options.trace) {
    const std::string json = traceJson(simulation);
    DISTC_TRY(writeFileAtomically(command.trace, std::as_bytes(std::span(json))));
  }
  if (command.json)
    printJson(simulation, machine, need);
  else
    printText(simulation, *plans[0], machine, command);
  return {};
}

} // namespace distc
