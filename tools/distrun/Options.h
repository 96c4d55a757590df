// The command line of distrun: a contract, documented by its own --help.
#pragma once

#include "distc/Runner.h"
#include "runtime/comm/Processes.h"

#include <optional>
#include <string>
#include <vector>

namespace distc {

enum class Command { Help, Version, Generate, Logits, Bench, BenchMachine, Diff };

struct Options {
  Command command = Command::Help;
  std::string helpText;  // what --help prints, for Command::Help
  std::string directory; // of diff: A
  RunnerOptions runner;
  std::optional<Launcher> launcher; // each rank is a process, and this is one of them
  // generate
  std::vector<std::string> prompts; // one; empty if tokens or promptsFile is given
  std::string promptsFile, system;
  bool hasTokens = false, chat = false, hasSystem = false, ignoreEos = false, printIds = false;
  std::vector<int32_t> tokens;
  uint32_t maxNewTokens = 128;
  Sampling sampling;
  std::vector<std::string> stops;
  // logits, bench-machine
  std::string output;
  // bench; of bench-machine `repeat` and `json`
  uint32_t promptTokens = 0, newTokens = 0 /* of diff, too */, batch = 0, repeat = 3;
  bool json = false;
  // diff
  std::string other;               // the folder that is compared with, B
  std::optional<double> tolerance; // of relative differences; none: by the plans' types
  bool verbose = false;
};

/// `arguments`: without the program's name. Every failure is a usage error.
Result<Options> parseOptions(const std::vector<std::string> &arguments);

} // namespace distc
