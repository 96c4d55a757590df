#include "tools/distrun/Options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <limits>

namespace distc {

namespace {

struct Flag {
  const char *name, *value, *help;              // value: null for a switch
  std::function<bool(const std::string &)> set; // false: not what `value` and `expected` say
  const char *expected = "";
  bool required = false;
  bool seen = false;
};

template <typename T> bool parseNumber(const std::string &text, T &out, T low, T high) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && out >= low && out <= high;
}

template <typename T> auto number(T &out, T low, T high = std::numeric_limits<T>::max()) {
  return [&out, low, high](const std::string &text) { return parseNumber(text, out, low, high); };
}

auto text(std::string &out) {
  return [&out](const std::string &value) { return out = value, !value.empty(); };
}

auto flag(bool &out) {
  return [&out](const std::string &) { return out = true; };
}

bool parseIds(const std::string &list, std::vector<int32_t> &out) {
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    int32_t id;
    if (!parseNumber(list.substr(begin, end - begin), id, 0, std::numeric_limits<int32_t>::max()))
      return false;
    out.push_back(id);
    begin = end + 1;
  }
  return true;
}

bool parseRanks(const std::string &text, Options &o) {
  if (text == "mpi" || text == "env")
    o.launcher = text == "mpi" ? Launcher::Mpi : Launcher::Environment;
  else if (text == "threads" || text == "device" || text == "gpus")
    o.runner.ranks = text == "threads" ? RankKind::Threads : text == "device" ? RankKind::Device : RankKind::Gpus;
  else
    return false;
  return true;
}

LinkSpeed &linkOf(Options &o) { return o.runner.link ? *o.runner.link : o.runner.link.emplace(); }

std::vector<Flag> commonFlags(Options &options) {
  RunnerOptions &o = options.runner;
  return {
      {"--weights", "DIR", "where the checkpoint lies now (default: as the plan says)", text(o.weights),
       "a folder or file"},
      {"--random-weights", "SEED", "random weights instead of the checkpoint's",
       [&o](const std::string &v) { return parseNumber<uint64_t>(v, o.randomSeed.emplace(), 0, UINT64_MAX); },
       "a number of at least 0"},
      {"--ranks", "KIND",
       "how ranks run: threads of this process, on the CPU; device: all on one GPU; gpus: a GPU for\n"
       "each; mpi: a process each, started by mpirun; env: likewise, started by torchrun, Slurm or a\n"
       "script (default: threads, or on sm_90 gpus where there are enough, else device)",
       [&options](const std::string &v) { return parseRanks(v, options); }, "threads, device, gpus, mpi or env"},
      {"--threads-per-rank", "N", "threads of each rank (default: cores / ranks)",
       number<uint32_t>(o.threadsPerRank, 1, 4096), "a number from 1 to 4096"},
      {"--trace", "FILE", "write a Chrome trace of every step", text(o.traceFile), "a file name"},
      {"--timeout", "SECONDS", "how long a rank waits for its peers (default 60)",
       number<double>(o.timeoutSeconds, 1e-3, 1e9), "seconds, more than 0"},
  };
}

std::vector<Flag> commandFlags(Command command, Options &o) {
  const auto setTokens = [&o](const std::string &v) { return o.hasTokens = true, parseIds(v, o.tokens); };
  const char *ids = "token ids separated by commas";
  const uint32_t many = std::numeric_limits<int32_t>::max();
  if (command == Command::Logits)
    return {{"--tokens", "IDS", "token ids separated by commas", setTokens, ids, true},
            {"-o", "FILE", "safetensors file to write: one F32 tensor `logits` [tokens, vocabulary]", text(o.output),
             "a file name", true}};
  if (command == Command::BenchMachine)
    return {{"-o", "FILE", "machine file to write", text(o.output), "a file name"},
            {"--repeat", "R", "rounds, of which each figure is the median (default 3)",
             number<uint32_t>(o.repeat, 1, 1000), "a number from 1 to 1000"},
            {"--json", nullptr, "print the machine file instead of a table", flag(o.json)}};
  if (command == Command::Bench)
    return {{"--prompt-tokens", "N", "tokens of each prompt", number<uint32_t>(o.promptTokens, 1, many),
             "a number of at least 1", true},
            {"--new-tokens", "M", "tokens to generate after each prompt", number<uint32_t>(o.newTokens, 1, many),
             "a number of at least 1", true},
            {"--batch", "B", "prompts at once", number<uint32_t>(o.batch, 1, 1 << 20), "a number of at least 1", true},
            {"--repeat", "R", "measured runs, after one that warms up (default 3)",
             number<uint32_t>(o.repeat, 1, 1 << 20), "a number of at least 1"},
            {"--link-latency", "US",
             "ranks that are threads: each collective takes this many microseconds more, as over a\n"
             "slower link (default 0)",
             [&o](const std::string &v) {
               double us = 0;
               const bool good = parseNumber<double>(v, us, 0, 1e6);
               linkOf(o).latencySeconds = us / 1e6;
               return good;
             },
             "microseconds, 0 to 1000000"},
            {"--link-bandwidth", "GB/S", "likewise as long as over a link of so many 10^9 bytes per second",
             [&o](const std::string &v) {
               double gbs = 0;
               const bool good = parseNumber<double>(v, gbs, 1e-6, 1e6);
               linkOf(o).bytesPerSecond = gbs * 1e9;
               return good;
             },
             "a number of at least 1e-6"},
            {"--json", nullptr, "print one JSON object", flag(o.json)}};
  if (command == Command::Diff)
    return {{"--prompt", "TEXT", "the prompt", [&o](const std::string &v) { return o.prompts.assign(1, v), true; }},
            {"--tokens", "IDS", "the prompt as token ids separated by commas", setTokens, ids},
            {"--new-tokens", "N", "decode steps to compare after the prompt's, with the ids that A samples (default 0)",
             number<uint32_t>(o.newTokens, 0, many), "a number of at least 0"},
            {"--tolerance", "R",
             "relative difference of a value that is none (default 1e-4, or 2e-2 where\n"
             "activations of A or B are BF16 or F16)",
             [&o](const std::string &v) { return parseNumber<double>(v, o.tolerance.emplace(), 0, 1e9); },
             "a number of at least 0"},
            {"-v", nullptr, "print the largest differences, and what was not compared", flag(o.verbose)}};
  return {
      {"--prompt", "TEXT", "the prompt", [&o](const std::string &v) { return o.prompts.assign(1, v), true; }},
      {"--tokens", "IDS", "the prompt as token ids separated by commas", setTokens, ids},
      {"--prompts", "FILE",
       "one prompt per line, blank lines skipped, run as one ragged batch; the\n"
       "answers follow in order, separated by a line ---, or with --print-ids one per line",
       text(o.promptsFile), "a file name"},
      {"--chat", nullptr, "put the prompt through the model's chat template as the user's message", flag(o.chat)},
      {"--system", "TEXT", "system message, with --chat",
       [&o](const std::string &v) { return o.system = v, o.hasSystem = true; }},
      {"--max-new-tokens", "N", "tokens to generate at most (default 128)", number<uint32_t>(o.maxNewTokens, 1, many),
       "a number of at least 1"},
      {"--temperature", "F", "0: greedy (default 0)", number<float>(o.sampling.temperature, 0, 1e6f),
       "a number of at least 0"},
      {"--top-p", "F", "sample from the most probable tokens of this probability together (default 1)",
       number<float>(o.sampling.topP, std::numeric_limits<float>::denorm_min(), 1), "a number in (0, 1]"},
      {"--top-k", "N", "sample from the N most probable tokens; 0: no limit (default 0)",
       number<int32_t>(o.sampling.topK, 0), "a number of at least 0"},
      {"--seed", "N", "seed of sampling (default 0)", number<uint64_t>(o.sampling.seed, 0), "a number of at least 0"},
      {"--stop", "TEXT", "end before this text; repeatable, the one that is complete first counts",
       [&o](const std::string &v) { return o.stops.push_back(v), !v.empty(); }, "a text that is not empty"},
      {"--ignore-eos", nullptr, "do not end at the model's end of generation", flag(o.ignoreEos)},
      {"--print-ids", nullptr,
       "print the new ids, separated by spaces, instead of text (the id that ended\n"
       "generation is among them)",
       flag(o.printIds)}};
}

std::string describe(const std::vector<Flag> &flags) {
  std::string out;
  for (const Flag &f : flags) {
    std::string left = std::string("  ") + f.name + (f.value ? std::string(" ") + f.value : "");
    left.resize(std::max<size_t>(left.size() + 2, 28), ' ');
    for (const char *c = f.help; *c; ++c)
      left += *c == '\n' ? "\n" + std::string(28, ' ') : std::string(1, *c);
    out += left + (f.required ? " (required)\n" : "\n");
  }
  return out;
}

struct CommandInfo {
  Command command;
  const char *name, *folders, *summary, *about; // folders: of plan sets, by name
};

constexpr CommandInfo kCommands[] = {
    {Command::Generate, "generate", "DIR", "generate text from prompts",
     "Streams the new text of a prompt to stdout, greedily unless --temperature is more than 0.\n"
     "Exactly one of --prompt, --tokens and --prompts is needed."},
    {Command::Logits, "logits", "DIR", "write the logits after each of some tokens",
     "Writes the logits after each token."},
    {Command::Bench, "bench", "DIR", "measure speed",
     "Measures prefill and decode with random tokens, ignoring the end of generation:\n"
     "median (min to max) of the runs, and the machine's read bandwidth."},
    {Command::BenchMachine, "bench-machine", "", "measure this machine, for distc simulate",
     "Measures the cores, the memory and the threads of this machine with the kernels that plans run on,\n"
     "as a machine file for distc simulate."},
    {Command::Diff, "diff", "DIR_A DIR_B", "compare two plan sets of one model, value by value",
     "Runs both plan sets over the same tokens, compares every value of the unsharded model, put together\n"
     "from the ranks that hold it, and names the first that differs. Exit code: 0 none does, 1 one does.\n"
     "Exactly one of --prompt and --tokens is needed."},
};

std::string mainHelp() {
  std::string text =
      "usage: distrun COMMAND DIR [options]\n\nRuns a plan set that distc compiled. DIR is its folder; diff takes "
      "two, bench-machine none.\n\ncommands:\n";
  for (const CommandInfo &info : kCommands)
    text += "  " + std::string(info.name) + std::string(16 - std::strlen(info.name), ' ') + info.summary + "\n";
  return text + "\n  distrun COMMAND --help    the options of a command\n"
                "  distrun --version         the version\n\n"
                "Exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted.\n";
}

// "generate, logits or bench"
std::string commandNames() {
  std::string names;
  for (const CommandInfo &info : kCommands)
    names += (names.empty() ? "" : &info == std::end(kCommands) - 1 ? " or " : ", ") + std::string(info.name);
  return names;
}

std::string commandHelp(const CommandInfo &info, const std::vector<Flag> &own, const std::vector<Flag> &common) {
  return "usage: distrun " + std::string(info.name) + (*info.folders ? " " : "") + info.folders + " [options]\n\n" +
         info.about + "\n\noptions:\n" + describe(own) + (common.empty() ? "" : "\ncommon options:\n") +
         describe(common);
}

Status usage(const std::string &what, const std::string &command = "") {
  return invalidArgument(what + "; see distrun " + (command.empty() ? "" : command + " ") + "--help");
}

Status checkTogether(const Options &o) {
  if (o.command == Command::Diff) {
    if (int(!o.prompts.empty()) + int(o.hasTokens) != 1)
      return usage("expected exactly one of --prompt and --tokens", "diff");
    if (o.launcher)
      return usage("--ranks: diff runs all ranks in one process; expected threads, device or gpus", "diff");
    if (!o.runner.traceFile.empty())
      return usage("--trace: diff writes no trace", "diff");
  }
  if (o.command != Command::Generate)
    return {};
  if (int(!o.prompts.empty()) + int(o.hasTokens) + int(!o.promptsFile.empty()) != 1)
    return usage("expected exactly one of --prompt, --tokens and --prompts", "generate");
  if (o.chat && o.hasTokens)
    return usage("--chat needs text and --tokens gives ids; use --prompt", "generate");
  if (o.hasSystem && !o.chat)
    return usage("--system needs --chat", "generate");
  return {};
}

} // namespace

Result<Options> parseOptions(const std::vector<std::string> &arguments) {
  Options o;
  if (arguments.empty())
    return usage("no command, expected " + commandNames());
  const std::string &name = arguments[0];
  if (name == "--help" || name == "-h") {
    o.helpText = mainHelp();
    return o;
  }
  if (name == "--version") {
    o.command = Command::Version;
    return o;
  }
  const CommandInfo *info = std::find_if(std::begin(kCommands), std::end(kCommands),
                                         [&](const CommandInfo &one) { return name == one.name; });
  if (info == std::end(kCommands))
    return usage("unknown command '" + name + "', expected " + commandNames());
  o.command = info->command;
  std::vector<Flag> own = commandFlags(o.command, o), common;
  if (*info->folders)
    common = commonFlags(o);
  auto find = [&](const std::string &flagName) -> Flag * {
    for (auto *list : {&own, &common})
      for (Flag &f : *list)
        if (flagName == f.name)
          return &f;
    return nullptr;
  };
  for (size_t i = 1; i < arguments.size(); ++i) {
    const std::string &argument = arguments[i];
    if (argument == "--help" || argument == "-h") {
      Options help;
      help.helpText = commandHelp(*info, own, common);
      return help;
    }
    if (argument.size() < 2 || argument[0] != '-') {
      std::string &place = o.command == Command::Diff && !o.directory.empty() ? o.other : o.directory;
      if (!place.empty() || argument.empty() || !*info->folders)
        return usage("unexpected argument '" + argument + "', expected " +
                         (o.command == Command::Diff ? "two folders"
                          : *info->folders           ? "one folder"
                                                     : "options"),
                     name);
      place = argument;
      continue;
    }
    const size_t equals = argument.starts_with("--") ? argument.find('=') : std::string::npos;
    const std::string flagName = argument.substr(0, equals);
    Flag *f = find(flagName);
    if (!f)
      return usage("unknown option '" + flagName + "'", name);
    std::string value;
    if (!f->value && equals != std::string::npos)
      return usage(flagName + " takes no value, got '" + argument.substr(equals + 1) + "'", name);
    if (f->value) {
      if (equals == std::string::npos && ++i == arguments.size())
        return usage(flagName + " needs a value: " + (*f->expected ? f->expected : f->value), name);
      value = equals == std::string::npos ? arguments[i] : argument.substr(equals + 1);
    }
    if (f->seen && f->value && flagName != "--stop")
      return usage(flagName + " is given twice, the second time as '" + value + "', expected once", name);
    f->seen = true;
    if (!f->set(value))
      return usage(flagName + " is '" + value + "', expected " + f->expected, name);
  }
  if (*info->folders && o.directory.empty())
    return usage("no folder of a plan set", name);
  if (o.command == Command::Diff && o.other.empty())
    return usage("no second folder of a plan set to compare with", name);
  for (const Flag &f : own)
    if (f.required && !f.seen)
      return usage(std::string(f.name) + " is missing", name);
  DISTC_TRY(checkTogether(o));
  return o;
}

} // namespace distc
