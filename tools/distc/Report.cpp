#include "tools/distc/Report.h"

#include "compiler/Explain/Memory.h"
#include "compiler/Report/Report.h"
#include "runtime/base/File.h"

#include <algorithm>
#include <cstdio>

namespace distc {

Status checkOptions(const ReportCommand &command) {
  for (auto [flag, value, least] : {std::tuple{"--batch", command.batch, int64_t(1)},
                                    std::tuple{"--prompt-tokens", command.promptTokens, int64_t(0)}})
    if (value < least || value > (1 << 24))
      return invalidArgument(std::string(flag) + " is " + std::to_string(value) + ", expected 1 to " +
                             std::to_string(1 << 24));
  if (command.machine.empty() && (command.batch != 1 || command.promptTokens != 0))
    return invalidArgument("--batch and --prompt-tokens are of the simulated step, and need --machine");
  return command.memory.empty() ? Status() : explain::parseMemory(command.memory, "--memory").status();
}

Status reportCommand(const ReportCommand &command) {
  DISTC_ASSIGN(const explain::PlanSet set, explain::openFolder(command.directory));
  report::ReportInput input;
  Machine machine;
  Simulation simulation;
  if (!command.machine.empty()) {
    DISTC_ASSIGN(machine, Machine::open(command.machine));
    input.machine = &machine;
    input.memory = machine.memoryBytes;
    input.memoryOf = machine.name;
    SimulateOptions options;
    const plan::Limits &limits = *set.first().limits();
    options.batch = input.batch = static_cast<uint64_t>(command.batch);
    options.newTokens = std::clamp<uint64_t>(limits.max_sequence() / 2, 1, 16);
    options.promptTokens = static_cast<uint64_t>(command.promptTokens);
    if (options.promptTokens == 0) // one step, where it fits
      options.promptTokens = std::min<uint64_t>(
          {512, std::max<uint64_t>(1, limits.max_tokens() / options.batch), limits.max_sequence() - options.newTokens});
    options.promptTokens = std::max<uint64_t>(1, options.promptTokens);
    input.promptTokens = options.promptTokens;
    options.trace = true;
    DISTC_ASSIGN(simulation, simulate(machine, set.plans, command.directory, options));
    input.simulation = &simulation;
    input.steps = report::simulatedSteps(set, simulation, machine);
  }
  if (!command.trace.empty()) {
    DISTC_ASSIGN(input.steps, report::tracedSteps(set, command.trace));
  }
  if (!command.memory.empty()) {
    DISTC_ASSIGN(input.memory, explain::parseMemory(command.memory, "--memory"));
    input.memoryOf = "--memory";
  }
  const std::string page = report::reportPage(set, input);
  DISTC_TRY(writeFileAtomically(command.output, std::as_bytes(std::span(page))));
  // A page written to standard output stands alone there.
  std::fprintf(command.output == "/dev/stdout" ? stderr : stdout, "%s: %s\n", command.output.c_str(),
               formatBytes(page.size()).c_str());
  return {};
}

} // namespace distc
