#include "tools/distc/Compile.h"

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
#include <unistd.h>

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
  double total() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

private:
  bool print_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now(), last_ = start_;
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

// A folder is replaced only if it holds a plan set, or nothing: -o must never delete what is not ours.
Status checkReplaceable(const fs::path &directory) {
  std::error_code error;
  if (!fs::exists(directory, error))
    return {};
  if (!fs::is_directory(directory, error))
    return invalidArgument(directory.string() + ": is not a folder; choose another with -o");
  for (const fs::directory_entry &entry : fs::directory_iterator(directory, error)) {
    std::string name = entry.path().filename().string();
    bool ours = name == "tokenizer.dtok" || (name.starts_with("rank") && name.ends_with(".plan"));
    if (!ours)
      return invalidArgument(directory.string() + ": holds '" + name +
                             "', which is not of a plan set; choose another folder with -o");
  }
  return {};
}

// Plans name the checkpoint's files relative to their own folder.
void relativizeFiles(ModuleOp module, const fs::path &directory) {
  std::error_code error;
  for (auto file : module.getOps<llm::FileOp>()) {
    fs::path relative = fs::relative(fs::absolute(file.getPath().str()), fs::absolute(directory), error);
    if (!error && !relative.empty())
      file.setPath(relative.string());
  }
}

Status write(ModuleOp module, const import::ModelSource &source, const fs::path &directory) {
  auto files = writePlanSet(module);
  if (failed(files))
    return internal("the plans could not be written");
  // Everything goes to a folder beside the wanted one, and is verified there; the last step is a rename.
  fs::path temporary = directory.string() + ".tmp." + std::to_string(::getpid());
  std::error_code error;
  fs::remove_all(temporary, error);
  if (!fs::create_directories(temporary, error))
    return failedPrecondition(temporary.string() + ": cannot create: " + error.message());
  auto fill = [&]() -> Status {
    for (size_t rank = 0; rank < files->size(); ++rank)
      DISTC_TRY(
          writeFileAtomically((temporary / planFileName(rank)).string(), std::as_bytes(std::span((*files)[rank]))));
    if (source.tokenizer) {
      const std::vector<uint8_t> bytes = Tokenizer::fileOf(*source.tokenizer);
      DISTC_TRY(writeFileAtomically((temporary / "tokenizer.dtok").string(), std::as_bytes(std::span(bytes))));
    }
    DISTC_ASSIGN(std::vector<PlanFile> set, openPlanSet(temporary.string()));
    return verifySet(set, directory.string());
  };
  if (Status status = fill(); !status.ok()) {
    fs::remove_all(temporary, error);
    return status;
  }
  // The older set goes last, so that there is always one.
  fs::path old = directory.string() + ".old." + std::to_string(::getpid());
  if (fs::exists(directory, error))
    fs::rename(directory, old, error);
  if (!error)
    fs::rename(temporary, directory, error);
  if (error) {
    Status status = failedPrecondition(directory.string() + ": cannot replace: " + error.message());
    fs::remove_all(temporary, error);
    if (fs::exists(old, error))
      fs::rename(old, directory, error);
    return status;
  }
  fs::remove_all(old, error);
  return {};
}

Result<Limits> chooseLimits(const CompileOptions &options, const import::ModelSource &source) {
  int64_t context = source.values.integers.at("context");
  Limits limits;
  limits.maxBatch = options.maxBatch;
  limits.maxTokens = options.maxTokens;
  limits.kvBlock = options.kvBlock;
  limits.maxSequence = options.maxSequence.value_or(std::clamp<int64_t>(context, 512, 4096));
  const int64_t blocks = (limits.maxSequence + limits.kvBlock - 1) / limits.kvBlock * limits.maxBatch;
  if (blocks > INT32_MAX)
    return invalidArgument("--max-batch " + std::to_string(limits.maxBatch) + " sequences of --max-seq " +
                           std::to_string(limits.maxSequence) + " tokens are " + std::to_string(blocks) +
                           " blocks of the KV cache, expected at most " + std::to_string(INT32_MAX));
  if (options.maxSequence && limits.maxSequence > context)
    log(LogLevel::Warn, "--max-seq " + std::to_string(limits.maxSequence) + " is beyond the " +
                            std::to_string(context) + " positions that the model was made for");
  return limits;
}

void dump(ModuleOp module, const std::string &directory, int index, StringRef name) {
  std::error_code error;
  fs::create_directories(directory, error);
  char prefix[16];
  std::snprintf(prefix, sizeof prefix, "%02d-", index);
  llvm::raw_fd_ostream out((fs::path(directory) / (prefix + name.str() + ".mlir")).string(), error);
  if (!error)
    module.print(out);
  else
    log(LogLevel::Warn, "--dump-ir " + directory + ": cannot write: " + error.message());
}

} // namespace

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
  if (options.target != "cpu")
    return invalidArgument("--target '" + options.target + "' is not supported; supported is cpu");
  if (!options.weights.empty() && options.weights != "none")
    return invalidArgument("--weights '" + options.weights + "': expected none");
  return {};
}

Status compile(const CompileOptions &options) {
  Stopwatch watch(options.timing);
  DISTC_ASSIGN(std::unique_ptr<import::ModelSource> source,
               import::openModel(options.model, options.weights != "none"));
  watch.lap("read headers");

  DialectRegistry registry;
  registerDialects(registry);
  MLIRContext context(registry);
  context.loadAllAvailableDialects();
  std::string problems;
  context.getDiagEngine().registerHandler([&](Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
      problems += (problems.empty() ? "" : "\n") + describe(diagnostic);
    return success();
  });

  DISTC_ASSIGN(const Limits limits, chooseLimits(options, *source));
  DISTC_ASSIGN(OwningOpRef<ModuleOp> module, buildModel(context, *source, limits, options.target));
  if (failed(verify(*module)))
    return internal(problems);
  watch.lap("import");

  fs::path directory = options.output;
  if (directory.empty())
    directory = source->name + ".tp" + std::to_string(options.tp) + "pp" + std::to_string(options.pp);
  if (!directory.has_filename())
    directory = directory.parent_path();
  if (options.emit.empty())
    DISTC_TRY(checkReplaceable(directory));
  relativizeFiles(*module, directory);

  int dumped = 0;
  if (!options.dumpIr.empty())
    dump(*module, options.dumpIr, dumped++, "import");
  PipelineOptions pipeline;
  pipeline.tp = options.tp;
  pipeline.pp = options.pp;
  pipeline.stageLayers = options.ppSplit;
  pipeline.until = options.emit == "llm"     ? Stage::Llm
                   : options.emit == "shard" ? Stage::Shard
                   : options.emit == "dist"  ? Stage::Dist
                                             : Stage::Plan;
  pipeline.observer = [&](StringRef pass, bool, double) {
    watch.lap(pass.str());
    if (!options.dumpIr.empty())
      dump(*module, options.dumpIr, dumped++, pass);
  };
  if (failed(runPipeline(*module, pipeline)))
    return invalidArgument(problems);
  if (!options.emit.empty()) {
    std::string text;
    llvm::raw_string_ostream(text) << *module;
    std::fwrite(text.data(), 1, text.size(), stdout);
    return {};
  }
  DISTC_TRY(write(*module, *source, directory));
  watch.lap("write and verify");
  DISTC_ASSIGN(std::vector<PlanFile> set, openPlanSet(directory.string()));
  printSummary(set, directory.string());
  std::printf("compiled and verified in %.2f s\n", watch.total());
  return {};
}

} // namespace distc
