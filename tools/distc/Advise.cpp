#include "tools/distc/Advise.h"

#include "runtime/base/File.h"
#include "runtime/base/Log.h"

#include <algorithm>
#include <cstdio>
#include <unistd.h>

namespace distc {

namespace {

Result<Advice> adviseOn(const Machine &machine, CompileOptions compile, const AdviseOptions &options,
                        const import::ModelSource &source) {
  const auto heads = uint64_t(source.values.integers.at("heads")),
             layers = uint64_t(source.values.integers.at("layers"));
  uint64_t meshes = 0, done = 0;
  for (uint64_t tp = 1; tp <= std::min(options.gpus, heads); ++tp)
    meshes += std::min(options.gpus / tp, layers);
  const bool told = isatty(STDERR_FILENO) && options.tp == 0 && options.pp == 0;
  Result<Advice> advice =
      advise(machine, heads, layers, options, [&](uint64_t tp, uint64_t pp, uint64_t batch, bool firstOnly) {
        if (told)
          std::fprintf(stderr, "\rmesh %llu of %llu", static_cast<unsigned long long>(++done),
                       static_cast<unsigned long long>(meshes));
        compile.tp = int64_t(tp);
        compile.pp = int64_t(pp);
        compile.maxBatch = int64_t(batch);
        compile.maxTokens = std::max(compile.maxTokens, compile.maxBatch);
        return compileInMemory(compile, source, firstOnly);
      });
  if (told)
    std::fprintf(stderr, "\r%40s\r", "");
  return advice;
}

Status setTarget(CompileOptions &compile, const Machine &machine) {
  if (compile.targetGiven && compile.target != machine.target())
    return invalidArgument("--target " + compile.target + " and --machine " + compile.machine +
                           ", which runs plans for " + machine.target() + "; leave out one of them");
  if (machine.cpu && compile.sms)
    return invalidArgument("--sms is for GPUs, and --machine " + compile.machine + " is a CPU; leave it out");
  compile.target = machine.target();
  if (!machine.cpu && !compile.sms)
    compile.sms = machine.cores;
  return {};
}

void printTable(const Advice &advice, const Machine &machine, const AdviseCommand &command, int64_t context) {
  std::printf("%s on up to %lld x %s: %lld sequences of %lld tokens, for %s\n", command.model.c_str(),
              static_cast<long long>(command.gpus), machine.name.c_str(), static_cast<long long>(command.batch),
              static_cast<long long>(context), command.throughput ? "throughput" : "latency");
  std::printf("%4s %4s %8s %12s %7s %10s %10s %12s  %s\n", "tp", "pp", "replicas", "memory", "of it", "ms/step",
              "tok/s", "first tok ms", "");
  for (const Candidate &c : advice.candidates) {
    std::printf("%4llu %4llu %8llu %12s %6.0f%% ", static_cast<unsigned long long>(c.tp),
                static_cast<unsigned long long>(c.pp), static_cast<unsigned long long>(c.replicas),
                formatBytes(static_cast<uint64_t>(c.need)).c_str(), 100 * c.share);
    if (c.fits)
      std::printf("%10.3f %10.1f %12.1f  ", 1e3 * c.seconds, c.tokensPerSecond, 1e3 * c.firstToken);
    else
      std::printf("%10s %10s %12s  ", "-", "-", "-");
    std::printf("%s\n", &c == &advice.candidates[0] ? "recommended" : c.remark.c_str());
  }
  const Candidate &best = advice.candidates[0];
  std::printf("recommended: --tp %llu --pp %llu", static_cast<unsigned long long>(best.tp),
              static_cast<unsigned long long>(best.pp));
  if (best.replicas > 1)
    std::printf(", %llu times", static_cast<unsigned long long>(best.replicas));
  std::printf(", %llu of %lld devices\n", static_cast<unsigned long long>(best.devices()),
              static_cast<long long>(command.gpus));
  if (advice.skipped > 0)
    std::printf("%llu other meshes have more stages than one that fits, or cannot hold or read the weights as fast\n",
                static_cast<unsigned long long>(advice.skipped));
  if (advice.oneFits)
    std::printf("the model fits one device: more are a matter of speed alone\n");
}

void printJson(const Advice &advice) {
  std::string text;
  for (const Candidate &c : advice.candidates) {
    char numbers[512];
    std::snprintf(numbers, sizeof numbers,
                  "%s{\"tp\":%llu,\"pp\":%llu,\"replicas\":%llu,\"fits\":%s,\"memory_bytes\":%.0f,\"ms_per_step\":%.6g,"
                  "\"tok_s\":%.6g,\"first_token_ms\":%.6g,\"exposed_communication\":%.6g,\"idle\":%.6g,\"remark\":\"",
                  text.empty() ? "" : ",", static_cast<unsigned long long>(c.tp), static_cast<unsigned long long>(c.pp),
                  static_cast<unsigned long long>(c.replicas), c.fits ? "true" : "false", c.need, 1e3 * c.seconds,
                  c.tokensPerSecond, 1e3 * c.firstToken, c.exposed, c.idle);
    text += numbers + c.remark + "\"}";
  }
  std::printf("{\"fits_one_device\":%s,\"skipped\":%llu,\"candidates\":[%s]}\n", advice.oneFits ? "true" : "false",
              static_cast<unsigned long long>(advice.skipped), text.c_str());
}

} // namespace

Status checkOptions(const AdviseCommand &command) {
  const std::tuple<const char *, int64_t, int64_t, int64_t> flags[] = {
      {"--gpus", command.gpus, 1, 256},
      {"--context", command.context.value_or(2), 2, 1 << 24},
      {"--batch", command.batch, 1, 65536}};
  for (auto [flag, value, least, most] : flags)
    if (value < least || value > most)
      return invalidArgument(std::string(flag) + " is " + std::to_string(value) + ", expected " +
                             std::to_string(least) + " to " + std::to_string(most));
  if (command.latency && command.throughput)
    return invalidArgument("--latency and --throughput are given; expected one of them");
  return {};
}

Status adviseCommand(const AdviseCommand &command) {
  DISTC_ASSIGN(const Machine machine, Machine::open(command.machine));
  CompileOptions compile;
  compile.model = command.model;
  compile.weights = "none";
  DISTC_TRY(setTarget(compile, machine));
  DISTC_ASSIGN(const std::unique_ptr<import::ModelSource> source, import::openModel(compile.model, false));
  const int64_t context = command.context.value_or(defaultSequence(*source));
  compile.maxSequence = context;
  warnBeyond("--context", context, *source);
  const AdviseOptions options{uint64_t(command.gpus), command.throughput, uint64_t(context), uint64_t(command.batch)};
  DISTC_ASSIGN(const Advice advice, adviseOn(machine, compile, options, *source));
  if (command.json)
    printJson(advice);
  else
    printTable(advice, machine, command, context);
  return {};
}

namespace {

// Where the program itself is printed, it alone goes to standard output.
std::FILE *tellTo(const CompileOptions &options) { return options.emit.empty() ? stdout : stderr; }

Status chooseMesh(const Machine &machine, CompileOptions &options, const import::ModelSource &source) {
  AdviseOptions advised{uint64_t(options.gpus), false, uint64_t(options.maxSequence.value_or(defaultSequence(source))),
                        uint64_t(options.maxBatch)};
  advised.replicas = false;
  advised.contextFlag = "--max-seq";
  advised.batchFlag = "--max-batch";
  if (!options.autoTp)
    advised.tp = uint64_t(options.tp);
  if (!options.autoPp)
    advised.pp = uint64_t(options.pp);
  CompileOptions shape = options;
  shape.ppSplit.clear();
  DISTC_ASSIGN(const Advice advice, adviseOn(machine, shape, advised, source));
  const Candidate &best = advice.candidates[0];
  options.tp = int64_t(best.tp);
  options.pp = int64_t(best.pp);
  std::fprintf(tellTo(options), "%s: --tp %llu --pp %llu of up to %llu devices, %.3f ms a decode step predicted\n",
               machine.name.c_str(), static_cast<unsigned long long>(best.tp), static_cast<unsigned long long>(best.pp),
               static_cast<unsigned long long>(options.gpus), 1e3 * best.seconds);
  return {};
}

// More chunks hide more of the reductions, and make the products smaller.
Status chooseOverlap(const Machine &machine, CompileOptions &options, const import::ModelSource &source) {
  options.overlapChunks = 1;
  if (options.tp == 1)
    return {};
  constexpr int64_t kLeastTokens = 16;
  const int64_t tokens = options.maxTokens / options.microBatches;
  CompileOptions tried = options;
  double best = 0, whole = 0;
  for (int64_t chunks = 1; chunks == 1 || (chunks <= 16 && tokens / chunks >= kLeastTokens); chunks *= 2) {
    tried.overlapChunks = chunks;
    DISTC_ASSIGN(const auto files, compileInMemory(tried, source));
    DISTC_ASSIGN(const double seconds, prefillStep(machine, files));
    if (chunks == 1)
      whole = best = seconds;
    if (seconds < .97 * best) { // less is nothing that the model could see
      best = seconds;
      options.overlapChunks = chunks;
    }
  }
  std::fprintf(tellTo(options),
               "%s: --overlap-chunks %lld, a prefill step of %lld tokens in %.3f ms predicted, %.3f without\n",
               machine.name.c_str(), static_cast<long long>(options.overlapChunks),
               static_cast<long long>(options.maxTokens), 1e3 * best, 1e3 * whole);
  return {};
}

} // namespace

Status chooseAutomatic(CompileOptions &options) {
  if (options.machine.empty())
    return {};
  DISTC_ASSIGN(const Machine machine, Machine::open(options.machine));
  DISTC_TRY(setTarget(options, machine));
  DISTC_ASSIGN(const std::unique_ptr<import::ModelSource> source,
               import::openModel(options.model, options.weights != "none"));
  if (options.autoTp || options.autoPp)
    DISTC_TRY(chooseMesh(machine, options, *source));
  if (options.autoOverlap)
    DISTC_TRY(chooseOverlap(machine, options, *source));
  return {};
}

} // namespace distc
