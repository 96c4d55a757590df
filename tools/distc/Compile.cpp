#include "tools/distc/Compile.h"

#include "compiler/Target/PlanSetFolder.h"
#include "compiler/Target/PlanTarget.h"
#include "dialects/LLM/LLMDialect.h"
#include "runtime/base/Log.h"
#include "runtime/text/Tokenizer.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "llvm/Support/raw_ostream.h"

#include <chrono>
#include <cstdio>
#include <filesystem>

namespace distc {

namespace fs = std::filesystem;
using namespace mlir;

namespace {

class Stopwatch {
public:
  explicit Stopwatch(bool print) : print_(print) {}
  void lap(const std::string &name) {
    auto now = std::chrono::steady_clock::now();
    if (print_)
      std::fprintf(stderr, "%9.1f ms  %s\n", std::chrono::duration<double, std::milli>(now - last_).count(),
                   name.c_str());
    last_ = std::chrono::steady_clock::now();
  }
  /// Ends a phase of several laps; the summary names it.
  void phase(const char *name) {
    const auto now = std::chrono::steady_clock::now();
    char text[64];
    std::snprintf(text, sizeof text, "%s%s %.0f ms", phases_.empty() ? "" : ", ", name,
                  std::chrono::duration<double, std::milli>(now - phase_).count());
    phases_ += text;
    phase_ = now;
  }
  const std::string &phases() const { return phases_; }
  double total() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

private:
  std::string phases_;
  bool print_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now(), last_ = start_, phase_ = start_;
};

// "file: tensor 'x': message" from a diagnostic's location.
std::string describe(Diagnostic &diagnostic) {
  std::string where;
  Location location = diagnostic.getLocation();
  if (auto name = dyn_cast<NameLoc>(location)) {
    where = "'" + name.getName().str() + "': ";
    location = name.getChildLoc();
  }
  if (auto file = dyn_cast<FileLineColLoc>(location))
    where = file.getFilename().str() + ": " + where;
  return where + diagnostic.str();
}

constexpr int64_t kDefaultSms = 132; // an H100 or H200 in a server

Result<Limits> chooseLimits(const CompileOptions &options, const import::ModelSource &source) {
  Limits limits;
  limits.maxBatch = options.maxBatch;
  limits.maxTokens = options.maxTokens;
  limits.kvBlock = options.kvBlock;
  limits.maxSequence = options.maxSequence.value_or(defaultSequence(source));
  const std::string asked = "--max-batch " + std::to_string(limits.maxBatch) + " sequences of --max-seq " +
                            std::to_string(limits.maxSequence) + " tokens are ";
  const int64_t blocks = (limits.maxSequence + limits.kvBlock - 1) / limits.kvBlock * limits.maxBatch;
  if (blocks > INT32_MAX)
    return invalidArgument(asked + std::to_string(blocks) + " blocks of the KV cache, expected at most " +
                           std::to_string(INT32_MAX));
  const auto &sizes = source.values.integers;
  const double bytes = double(blocks * limits.kvBlock) * 2 * sizeof(float) *
                       double(sizes.at("layers") * sizes.at("kv_heads") * sizes.at("head_dim"));
  if (bytes > 0x1p60)
    return invalidArgument(asked + "more than 2^60 bytes of KV cache");
  return limits;
}

void dump(ModuleOp module, const std::string &directory, int index, StringRef name) {
  std::error_code error;
  char prefix[16];
  std::snprintf(prefix, sizeof prefix, "%02d-", index);
  llvm::raw_fd_ostream out((fs::path(directory) / (prefix + name.str() + ".mlir")).string(), error);
  if (!error)
    module.print(out);
  else
    log(LogLevel::Warn, "--dump-ir " + directory + ": cannot write: " + error.message());
}

// A model on its way to plans.
class Compilation {
public:
  Compilation() : context_(dialects()) {
    context_.loadAllAvailableDialects();
    context_.getDiagEngine().registerHandler([this](Diagnostic &diagnostic) {
      if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
        problems_ += (problems_.empty() ? "" : "\n") + describe(diagnostic);
      return success();
    });
  }

  Status import(const CompileOptions &options, const import::ModelSource &source) {
    DISTC_ASSIGN(const Limits limits, chooseLimits(options, source));
    DISTC_ASSIGN(module_, buildModel(context_, source, limits, options.target));
    return failed(verify(*module_)) ? internal(problems_) : Status();
  }
  Status lower(const PipelineOptions &pipeline) {
    return failed(runPipeline(*module_, pipeline)) ? invalidArgument(problems_) : Status();
  }
  Result<std::vector<std::vector<uint8_t>>> files() {
    auto files = writePlanSet(*module_);
    if (failed(files))
      return internal(problems_);
    return *files;
  }
  ModuleOp module() { return *module_; }

private:
  static DialectRegistry dialects() {
    DialectRegistry registry;
    registerDialects(registry);
    return registry;
  }

  MLIRContext context_;
  std::string problems_;
  OwningOpRef<ModuleOp> module_;
};

PipelineOptions pipelineOf(const CompileOptions &options) {
  PipelineOptions pipeline;
  pipeline.tp = options.tp;
  pipeline.pp = options.pp;
  pipeline.stageLayers = options.ppSplit;
  pipeline.sequenceParallel = options.sequenceParallel;
  pipeline.overlapChunks = options.overlapChunks;
  pipeline.microBatches = options.microBatches;
  pipeline.decodeMicroBatches = options.decodeMicroBatches;
  if (options.target != "cpu")
    pipeline.sms = options.sms.value_or(kDefaultSms);
  pipeline.until = options.emit == "llm"     ? Stage::Llm
                   : options.emit == "shard" ? Stage::Shard
                   : options.emit == "dist"  ? Stage::Dist
                                             : Stage::Plan;
  return pipeline;
}

} // namespace

Result<std::vector<std::vector<uint8_t>>> compileInMemory(const CompileOptions &options,
                                                          const import::ModelSource &source, bool firstOnly) {
  Compilation compilation;
  DISTC_TRY(compilation.import(options, source));
  PipelineOptions pipeline = pipelineOf(options);
  pipeline.until = Stage::Plan; // whatever is to be printed
  pipeline.firstOnly = firstOnly;
  DISTC_TRY(compilation.lower(pipeline));
  return compilation.files();
}

int64_t defaultSequence(const import::ModelSource &source) {
  const int64_t context = source.values.integers.at("context");
  return std::clamp<int64_t>(context, import::hasLearnedPositions(source) ? 1 : 512, 4096);
}

void warnBeyond(const char *flag, int64_t tokens, const import::ModelSource &source) {
  const int64_t context = source.values.integers.at("context");
  if (tokens > context)
    log(LogLevel::Warn, std::string(flag) + " " + std::to_string(tokens) + " is beyond the " + std::to_string(context) +
                            " positions that the model was made for");
}

Status checkOptions(const CompileOptions &options) {
  auto positive = [](const char *flag, int64_t value, int64_t most) -> Status {
    if (value >= 1 && value <= most)
      return {};
    return invalidArgument(std::string(flag) + " is " + std::to_string(value) + ", expected 1 to " +
                           std::to_string(most));
  };
  DISTC_TRY(positive("--tp", options.tp, 65536));
  DISTC_TRY(positive("--pp", options.pp, 4096));
  DISTC_TRY(positive("--max-batch", options.maxBatch, 65536));
  DISTC_TRY(positive("--max-tokens", options.maxTokens, 1 << 20));
  DISTC_TRY(positive("--kv-block", options.kvBlock, 4096));
  if (options.maxSequence)
    DISTC_TRY(positive("--max-seq", *options.maxSequence, 1 << 24));
  if (options.maxBatch > options.maxTokens)
    return invalidArgument("--max-batch " + std::to_string(options.maxBatch) + " is more than --max-tokens " +
                           std::to_string(options.maxTokens) + ", and a decode step takes a token of each sequence");
  // Each micro-batch and each chunk has at least one token.
  auto atMost = [&](const char *flag, int64_t value, const char *limit, int64_t most) -> Status {
    DISTC_TRY(positive(flag, value, 256));
    if (value <= most)
      return {};
    return invalidArgument(std::string(flag) + " " + std::to_string(value) + " is more than " + limit + " " +
                           std::to_string(most) + "; give fewer, or a larger " + limit);
  };
  DISTC_TRY(atMost("--micro-batches", options.microBatches, "--max-tokens", options.maxTokens));
  DISTC_TRY(atMost("--decode-micro-batches", options.decodeMicroBatches, "--max-batch", options.maxBatch));
  const int64_t tokens = (options.maxTokens + options.microBatches - 1) / options.microBatches;
  DISTC_TRY(atMost("--overlap-chunks", options.overlapChunks,
                   options.microBatches > 1 ? "--max-tokens / --micro-batches" : "--max-tokens", tokens));
  if (options.sequenceParallel && (options.overlapChunks > 1 || options.autoOverlap))
    return invalidArgument(
        "--overlap-chunks and --sequence-parallel cut the same rows in different ways; give one of them");
  const bool automatic = options.autoTp || options.autoPp;
  if (automatic && !options.ppSplit.empty())
    return invalidArgument("--pp-split says how many stages there are; leave out --tp auto and --pp auto");
  if (!options.ppSplit.empty() && static_cast<int64_t>(options.ppSplit.size()) != options.pp)
    return invalidArgument("--pp-split gives " + std::to_string(options.ppSplit.size()) + " stages, expected --pp " +
                           std::to_string(options.pp));
  for (int64_t layers : options.ppSplit)
    DISTC_TRY(positive("--pp-split", layers, 65536));
  if (options.target != "cpu" && options.target != "sm_90")
    return invalidArgument("--target '" + options.target + "' is not supported; supported are cpu, sm_90");
  if (options.sms && options.target == "cpu" && options.machine.empty())
    return invalidArgument("--sms is for GPUs; give --target sm_90");
  if (options.sms)
    DISTC_TRY(positive("--sms", *options.sms, 4096));
  if ((automatic || options.autoOverlap) && options.machine.empty())
    return invalidArgument("--tp auto, --pp auto and --overlap-chunks auto need --machine");
  if (!automatic && options.gpus != 0)
    return invalidArgument("--gpus is for --tp auto or --pp auto");
  if (!automatic && !options.autoOverlap && !options.machine.empty())
    return invalidArgument("--machine is for --tp auto, --pp auto or --overlap-chunks auto");
  if (automatic && options.gpus == 0)
    return invalidArgument("--tp auto and --pp auto need --gpus, the number of devices that there are");
  if (automatic)
    DISTC_TRY(positive("--gpus", options.gpus, 256));
  if (!options.weights.empty() && options.weights != "none")
    return invalidArgument("--weights '" + options.weights + "': expected none");
  return {};
}

Status compile(const CompileOptions &options) {
  Stopwatch watch(options.timing);
  if (options.sequenceParallel && options.tp == 1)
    log(LogLevel::Warn, "--sequence-parallel changes nothing at --tp 1: there are no ranks to share the rows");
  DISTC_ASSIGN(std::unique_ptr<import::ModelSource> source,
               import::openModel(options.model, options.weights != "none"));
  watch.lap("read headers");
  watch.phase("headers");

  Compilation compilation;
  DISTC_TRY(compilation.import(options, *source));
  warnBeyond("--max-seq", options.maxSequence.value_or(0), *source);
  ModuleOp module = compilation.module();
  watch.lap("import");
  watch.phase("import");

  std::string folder = options.output;
  while (folder.size() > 1 && folder.ends_with('/'))
    folder.pop_back();
  if (folder.empty())
    folder = source->name + ".tp" + std::to_string(options.tp) + "pp" + std::to_string(options.pp);
  const std::string shown = folder;
  DISTC_ASSIGN(folder, planSetFolder(folder));
  for (auto file : module.getOps<llm::FileOp>())
    file.setPath(relativeToFolder(file.getPath().str(), folder));

  int dumped = 0;
  if (!options.dumpIr.empty()) {
    std::error_code error;
    fs::create_directories(options.dumpIr, error);
    if (error)
      return failedPrecondition("--dump-ir " + options.dumpIr + ": cannot create: " + error.message());
    dump(module, options.dumpIr, dumped++, "import");
  }
  PipelineOptions pipeline = pipelineOf(options);
  pipeline.observer = [&](StringRef pass, bool, double) {
    watch.lap(pass.str());
    if (!options.dumpIr.empty())
      dump(module, options.dumpIr, dumped++, pass);
  };
  DISTC_TRY(compilation.lower(pipeline));
  if (!options.emit.empty()) {
    std::string text;
    llvm::raw_string_ostream(text) << module;
    std::fwrite(text.data(), 1, text.size(), stdout); // the caller looks whether it arrived
    return {};
  }
  watch.phase("passes");
  DISTC_ASSIGN(const auto files, compilation.files());
  std::optional<std::vector<uint8_t>> tokenizer;
  if (source->tokenizer)
    tokenizer = Tokenizer::fileOf(*source->tokenizer);
  DISTC_ASSIGN(std::vector<PlanFile> set, replacePlanSet(files, tokenizer, folder));
  watch.lap("write and verify");
  watch.phase("write and verify");
  printSummary(set, shown);
  std::printf("compiled and verified in %.2f s: %s\n", watch.total(), watch.phases().c_str());
  return {};
}

} // namespace distc
