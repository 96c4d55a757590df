// distc: compiles models to plan sets, and shows, explains, compares, verifies and simulates plan sets; advises on
// meshes.
#include "runtime/text/Tokenizer.h"
#include "runtime/verify/Inspect.h"
#include "runtime/verify/Verify.h"
#include "tools/distc/Advise.h"
#include "tools/distc/Diff.h"
#include "tools/distc/Explain.h"
#include "tools/distc/Report.h"
#include "tools/distc/Simulate.h"

#include <CLI/CLI.hpp>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>

using namespace distc;

namespace {

constexpr int kUsage = 2;
constexpr std::string_view kCommands = "compile, verify, inspect, explain, diff, report, simulate or advise";

int report(const Status &status) {
  if (status.ok())
    return 0;
  std::fprintf(stderr, "distc: error: %s\n", status.message().c_str());
  return 1;
}

// Whatever was printed, and by whom: it arrived, or the run has failed.
int checkOutput(int code, int failed) {
  if (std::fflush(stdout) == 0 && !std::ferror(stdout))
    return code;
  if (errno != EPIPE) // whoever closed the pipe wants to hear no more
    std::fprintf(stderr, "distc: error: cannot write to stdout: %s\n", std::strerror(errno));
  return failed;
}

int usage(const std::string &message, const std::string &command = "") {
  std::fprintf(stderr, "distc: error: %s\n", message.c_str());
  if (command.empty())
    std::fprintf(stderr, "Run 'distc --help' for the commands, 'distc COMMAND --help' for its options.\n");
  else
    std::fprintf(stderr, "Run 'distc %s --help' for its options.\n", command.c_str());
  return kUsage;
}

void addCompile(CLI::App &app, CompileOptions &options) {
  CLI::App *command = app.add_subcommand("compile", "Compile MODEL into one plan for each rank of a TP x PP mesh");
  command
      ->add_option("MODEL", options.model,
                   "A Hugging Face folder, a .gguf file, or a name from models/shapes (with --weights none)")
      ->required();
  const auto degree = [command](const char *flag, int64_t &value, bool &automatic, const char *about) {
    command->add_option(flag, value, about)
        ->capture_default_str()
        ->transform(
            [&automatic](const std::string &text) -> std::string {
              automatic = text == "auto";
              return automatic ? std::string("1") : text;
            },
            "");
  };
  degree("--tp", options.tp, options.autoTp, "Tensor-parallel degree, or auto");
  degree("--pp", options.pp, options.autoPp, "Pipeline-parallel degree, or auto");
  command->add_option("--machine", options.machine, "With auto: what the plans will run on, as for advise");
  command->add_option("--gpus", options.gpus, "With auto: how many devices there are");
  command->add_option("--pp-split", options.ppSplit, "Layers of each stage, e.g. 10,12; balanced if not given")
      ->delimiter(',')
      ->allow_extra_args(false);
  command
      ->add_option("--micro-batches", options.microBatches,
                   "Parts of a prefill step that the stages of a pipeline work on at a time")
      ->capture_default_str();
  command
      ->add_option("--decode-micro-batches", options.decodeMicroBatches,
                   "The same of a decode step; each reads the weights again")
      ->capture_default_str();
  degree("--overlap-chunks", options.overlapChunks, options.autoOverlap,
         "Chunks of rows of a prefill step: one is reduced while the next is computed; or auto");
  command->add_flag("--sequence-parallel", options.sequenceParallel,
                    "Prefill: residuals and norms on each tensor-parallel rank's share of the rows");
  command->add_option("-o,--output", options.output, "Folder of the plan set, replaced whole (MODEL.tpNppM)");
  command->add_option("--target", options.target, "What the plans run on: cpu, or sm_90 (NVIDIA H100, H200)")
      ->capture_default_str()
      ->each([&options](const std::string &) { options.targetGiven = true; });
  command->add_option("--sms", options.sms, "Multiprocessors of the GPU that the tile schedule is made for (132)");
  command->add_option("--weights", options.weights, "none: compile the shape alone, without a checkpoint");
  command->add_option("--max-batch", options.maxBatch, "Sequences at a time")->capture_default_str();
  command->add_option("--max-tokens", options.maxTokens, "Tokens of one step")->capture_default_str();
  command->add_option("--max-seq", options.maxSequence,
                      "Tokens of one sequence, prompt and answer (the model's, at least 512, at most 4096)");
  command->add_option("--kv-block", options.kvBlock, "Tokens of a KV block")->capture_default_str();
  command->add_option("--emit", options.emit, "Print the program in this form instead of writing plans")
      ->check(CLI::IsMember({"llm", "shard", "dist", "plan"}));
  command->add_option("--dump-ir", options.dumpIr, "Write the IR after each pass into this folder");
  command->add_flag("--timing", options.timing, "Print the time of each phase to stderr");
  command->footer("Example: distc compile SmolLM2-135M-Instruct.Q4_1.gguf --tp 2 --pp 2 -o smollm2.tp2pp2");
}

CLI::App *addSimulate(CLI::App &app, SimulateCommand &command) {
  CLI::App *simulate = app.add_subcommand("simulate", "Predict how fast a plan set runs on a machine");
  simulate->add_option("DIR", command.directory, "Folder of the plan set")->required();
  simulate->add_option("--machine", command.machine, "A name from models/machines, or a file of that form")->required();
  simulate->add_option("--batch", command.batch, "Prompts at once")->capture_default_str();
  simulate->add_option("--prompt-tokens", command.promptTokens, "Tokens of each prompt")->capture_default_str();
  simulate->add_option("--new-tokens", command.newTokens, "Tokens to generate after each prompt")
      ->capture_default_str();
  simulate->add_flag("--json", command.json, "As one JSON object");
  simulate->add_option("--trace", command.trace, "Write a Chrome trace of prefill and the first decode step");
  return simulate;
}

CLI::App *addExplain(CLI::App &app, ExplainCommand &command) {
  CLI::App *explain =
      app.add_subcommand("explain", "Say how a plan set splits a model: weights, exchanges, memory, and why");
  explain->add_option("DIR", command.directory, "Folder of the plan set")->required();
  explain->add_option("NAME", command.name,
                      "All about this alone: a weight, a tensor of the checkpoint, a label or id of instructions; * is "
                      "any text");
  explain->add_option("--memory", command.memory,
                      "Tell the longest context that fits a device of this memory, e.g. 80GiB");
  explain->add_option("--batch", command.batch, "With --memory: sequences at once (the plans' --max-batch)");
  explain->add_flag("--json", command.json, "As one JSON object");
  explain->footer("Example: distc explain llama-3-70b.tp8pp1 'layers.0.*'");
  return explain;
}

CLI::App *addReport(CLI::App &app, ReportCommand &command) {
  CLI::App *page = app.add_subcommand("report", "Write a plan set as one page of HTML: mesh, memory, timeline, tables");
  page->add_option("DIR", command.directory, "Folder of the plan set")->required();
  page->add_option("-o,--output", command.output, "The page")->required();
  page->add_option("--machine", command.machine,
                   "Simulate a step on this: a name from models/machines, or a file of that form");
  page->add_option("--trace", command.trace, "The steps of a run instead: a file that distrun --trace has written");
  page->add_option("--memory", command.memory, "Memory of a device, e.g. 80GiB (the machine's)");
  page->add_option("--batch", command.batch, "With --machine: prompts at once")->capture_default_str();
  page->add_option("--prompt-tokens", command.promptTokens, "With --machine: tokens of each prompt (512 at most)");
  page->footer("Example: distc report llama-3-70b.tp8pp1 --machine h100-sxm -o 70b.html");
  return page;
}

CLI::App *addAdvise(CLI::App &app, AdviseCommand &command) {
  CLI::App *advise = app.add_subcommand("advise", "Find the mesh on which a model runs best on a machine");
  advise->add_option("MODEL", command.model, "A Hugging Face folder, a .gguf file, or a name from models/shapes")
      ->required();
  advise->add_option("--machine", command.machine, "A name from models/machines, or a file of that form")->required();
  advise->add_option("--gpus", command.gpus, "Devices that there are, or ranks of a CPU")->required();
  advise->add_flag("--latency", command.latency, "The least time of a token (the default)");
  advise->add_flag("--throughput", command.throughput, "The most tokens per second, of all replicas together");
  advise->add_option("--context", command.context, "Tokens of each sequence (4096, or what the model allows)");
  advise->add_option("--batch", command.batch, "Sequences at once, of all replicas together")->capture_default_str();
  advise->add_flag("--json", command.json, "As one JSON object");
  return advise;
}

Status verifyCommand(const std::string &directory) {
  DISTC_ASSIGN(std::vector<PlanFile> set, openPlanSet(directory));
  std::vector<const plan::Plan *> plans;
  plans.reserve(set.size());
  for (const PlanFile &file : set)
    plans.push_back(&file.plan());
  DISTC_TRY(provePlanSet(plans, directory));
  if (const flatbuffers::String *tokenizer = set[0].plan().model()->tokenizer(); tokenizer && tokenizer->size() != 0) {
    const std::filesystem::path file = std::filesystem::path(directory) / tokenizer->str();
    if (std::error_code ignored; !std::filesystem::exists(file, ignored))
      return failedPrecondition(directory + ": holds no " + tokenizer->str() +
                                ", the tokenizer that its plans name; compile the model again");
    DISTC_TRY(Tokenizer::open(file.string()).status());
  }
  std::printf("%s: %zu plans verified\n", directory.c_str(), set.size());
  return {};
}

Status inspectCommand(const std::string &path, const InspectOptions &options, bool json) {
  DISTC_ASSIGN(PlanFile file, PlanFile::open(path));
  if (std::vector<Violation> violations = verifyPlan(file.plan()); !violations.empty())
    return dataLoss(path + ": " + violations[0].kind + ": " + violations[0].message);
  std::string text = json ? inspectJson(file.plan(), options) : inspectText(file.plan(), options);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return {};
}

int run(int argc, char **argv) {
  CLI::App app("distc: an ahead-of-time model compiler that emits sharded execution plans");
  app.set_version_flag("--version", std::string("distc ") + DISTC_VERSION);
  app.require_subcommand(1);
  CompileOptions options;
  addCompile(app, options);
  std::string path;
  CLI::App *verify =
      app.add_subcommand("verify", "Prove a plan set: coverage, communication, memory, over all its ranks");
  verify->add_option("DIR", path, "Folder of the plan set")->required();
  InspectOptions inspectOptions;
  bool json = false;
  std::string program;
  CLI::App *inspect = app.add_subcommand("inspect", "Print a plan");
  inspect->add_option("PLAN", path, "A .plan file")->required();
  inspect->add_flag("--json", json, "As JSON");
  inspect->add_flag("--weights", inspectOptions.weights, "The weights alone");
  inspect->add_option("--program", program, "One program alone: decode or prefill")
      ->check(CLI::IsMember({"decode", "prefill"}));
  inspect->add_option("--grep", inspectOptions.grep, "Lines that contain this text alone");
  ExplainCommand explainOptions;
  const CLI::App *explain = addExplain(app, explainOptions);
  DiffCommand diffOptions;
  CLI::App *diff = app.add_subcommand("diff", "Tell what differs between two plan sets, or two plans");
  diff->add_option("A", diffOptions.a, "Folder of a plan set, or a .plan file")->required();
  diff->add_option("B", diffOptions.b, "The other")->required();
  diff->add_flag("--json", diffOptions.json, "As one JSON object");
  diff->footer("Exit code: 0 they are the same, 1 they differ, 2 an error.");
  ReportCommand reportOptions;
  const CLI::App *page = addReport(app, reportOptions);
  SimulateCommand simulateOptions;
  const CLI::App *simulate = addSimulate(app, simulateOptions);
  AdviseCommand adviseOptions;
  const CLI::App *advise = addAdvise(app, adviseOptions);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    if (error.get_exit_code() == 0)
      return app.exit(error);
    if (argc > 1 && argv[1][0] != '-' &&
        app.get_subcommands([&](CLI::App *c) { return c->get_name() == argv[1]; }).empty())
      return usage("unknown command '" + std::string(argv[1]) + "', expected " + std::string(kCommands));
    if (app.get_subcommands().empty())
      return usage("expected a command: " + std::string(kCommands));
    const std::string text = error.what(); // of a flag without a value the text is the same, but for the value
    const bool isNumber = dynamic_cast<const CLI::ConversionError *>(&error) && text.find("--json") == text.npos;
    return usage(text + (isNumber ? "; expected a whole number" : ""), app.get_subcommands()[0]->get_name());
  }
  if (app.got_subcommand("compile")) {
    if (Status status = checkOptions(options); !status.ok())
      return usage(status.message(), argv[1]);
    if (Status status = chooseAutomatic(options); !status.ok())
      return report(status);
    return report(compile(options));
  }
  if (app.got_subcommand(advise)) {
    if (Status status = checkOptions(adviseOptions); !status.ok())
      return usage(status.message(), argv[1]);
    return report(adviseCommand(adviseOptions));
  }
  if (app.got_subcommand(explain)) {
    if (Status status = checkOptions(explainOptions); !status.ok())
      return usage(status.message(), argv[1]);
    return report(explainCommand(explainOptions));
  }
  if (app.got_subcommand(diff))
    return diffCommand(diffOptions);
  if (app.got_subcommand(page)) {
    if (Status status = checkOptions(reportOptions); !status.ok())
      return usage(status.message(), argv[1]);
    return report(reportCommand(reportOptions));
  }
  if (app.got_subcommand(simulate)) {
    if (Status status = checkOptions(simulateOptions); !status.ok())
      return usage(status.message(), argv[1]);
    return report(simulateCommand(simulateOptions));
  }
  if (!program.empty())
    inspectOptions.program = program == "decode" ? plan::Regime::Decode : plan::Regime::Prefill;
  if (app.got_subcommand(inspect))
    return report(inspectCommand(path, inspectOptions, json));
  return report(verifyCommand(path));
}

} // namespace

int main(int argc, char **argv) {
  std::signal(SIGPIPE, SIG_IGN); // a closed pipe is an error of writing like others
  try {
    const bool diff = argc > 1 && std::strcmp(argv[1], "diff") == 0; // where 1 says that something differs
    return checkOutput(run(argc, argv), diff ? 2 : 1);
  } catch (const std::exception &error) { // of the libraries: above all, no memory
    return report(internal(error.what()));
  }
}
