#include "distc/Runner.h"

#include "runtime/base/Log.h"
#include "runtime/base/System.h"
#include "runtime/comm/InProcess.h"
#include "runtime/exec/BatchCheck.h"
#include "runtime/exec/PlanSetInfo.h"
#include "runtime/exec/Rank.h"
#include "runtime/plan/MemoryCheck.h"
#include "runtime/schema/PlanFile.h"
#include "runtime/verify/Verify.h"

namespace distc {

struct Runner::State {
  std::vector<PlanFile> files;
  std::vector<const plan::Plan *> plans; // all ranks, in rank order
  PlanSetInfo info;
  Device device;
  std::unique_ptr<Trace> trace;
  std::vector<std::unique_ptr<Rank>> ranks; // those of this process
  uint64_t steps = 0;
  Status failure;

  ~State() {
    // A step that was left behind must not keep its rank from ending.
    for (auto &rank : ranks)
      rank->communicator().abort(cancelled("the runner is closed"));
    if (trace) // the instructions that it tells of die with the ranks, whose threads are idle: step waits for all of
               // them
      if (Status status = trace->write(); !status.ok())
        log(LogLevel::Error, "trace: " + status.message());
  }
};

namespace {

std::vector<std::vector<CommGroup>> groupsOf(std::span<const plan::Plan *const> plans) {
  std::vector<std::vector<CommGroup>> result;
  for (const plan::Plan *plan : plans) {
    std::vector<CommGroup> &groups = result.emplace_back();
    for (const plan::Group *group : *plan->groups())
      groups.push_back({group->name()->str(), {group->ranks()->begin(), group->ranks()->end()}});
  }
  return result;
}

// The first failure, once every rank has ended.
Status waitForAll(std::span<const std::unique_ptr<Rank>> ranks) {
  Status first;
  for (const auto &rank : ranks)
    if (Status status = *rank->wait(); first.ok())
      first = std::move(status);
  return first;
}

// Loads on all ranks at once, and tells the caller's function on the caller's thread.
Status loadAll(std::span<const std::unique_ptr<Rank>> ranks, std::span<const SourceFiles> files,
               const LoadOptions &options, const RunnerOptions &runner) {
  constexpr double kTell = .05;
  uint64_t total = 0;
  for (size_t r = 0; r < ranks.size(); ++r) {
    for (const plan::Weight *weight : *ranks[r]->plan().weights())
      total += weight->bytes();
    ranks[r]->startLoad(files[r], options);
  }
  for (const auto &rank : ranks)
    while (!rank->wait(kTell))
      if (runner.loadProgress)
        runner.loadProgress(options.loadedBytes->load(std::memory_order_relaxed), total);
  Status status = waitForAll(ranks);
  if (status.ok() && runner.loadProgress)
    runner.loadProgress(total, total);
  return status;
}

} // namespace

Result<std::unique_ptr<Runner>> Runner::open(const std::string &directory, const RunnerOptions &options) {
  auto state = std::make_unique<State>();
  DISTC_ASSIGN(state->files, openPlanSet(directory));
  for (const PlanFile &file : state->files)
    state->plans.push_back(&file.plan());
  DISTC_TRY(provePlanSet(state->plans, directory));
  auto opened = openDevice(state->plans[0]->target()->string_view());
  if (!opened.ok()) // before files and memory, which may be another machine's
    return opened.status().context(directory);
  state->device = opened.take();
  state->info = planSetInfo(state->plans, directory);

  const std::span<const plan::Plan *const> mine = state->plans; // every rank runs in this process
  std::vector<SourceFiles> sources(mine.size());
  if (!options.randomSeed) {
    // The loader would say so too, but after memory has been taken.
    if (mine[0]->files()->size() == 0)
      return failedPrecondition(directory +
                                ": compiled without weights; use --random-weights SEED, or compile with the "
                                "checkpoint's files");
    SourceFileCache cache(directory, options.weights);
    for (size_t r = 0; r < mine.size(); ++r) {
      DISTC_ASSIGN(sources[r], cache.open(*mine[r]));
    }
  }
  const uint64_t available = state->device.availableMemory;
  DISTC_TRY(checkMemory(mine, options.randomSeed.has_value(), available, state->device.memoryName));

  const uint32_t ranks = static_cast<uint32_t>(mine.size()), cores = usableCores();
  const uint32_t threads = options.threadsPerRank != 0 ? options.threadsPerRank : std::max(1u, cores / ranks);
  const std::vector<int> allowed = allowedCores();
  const bool fits = uint64_t(ranks) * threads <= cores;
  auto communicators = connectInProcess(groupsOf(mine), {options.timeoutSeconds, /*spin=*/fits && ranks * threads > 1,
                                                         options.interrupted, state->device.memory});
  if (!options.traceFile.empty()) {
    auto trace = std::make_unique<Trace>(options.traceFile);
    DISTC_TRY(trace->write()); // better now than after the run
    state->trace = std::move(trace);
  }
  for (uint32_t r = 0; r < ranks; ++r) {
    RankOptions rank{{threads, fits && threads > 1, {}}, options.interrupted, nullptr};
    // Where the processor time is limited below the cores, a fixed core may be one that others use.
    if (fits && cores == allowed.size())
      rank.threads.cores.assign(allowed.begin() + r * threads, allowed.begin() + (r + 1) * threads);
    if (state->trace)
      rank.trace = &state->trace->rank(mine[r]->mesh()->rank());
    state->ranks.push_back(std::make_unique<Rank>(*mine[r], std::move(communicators[r]), rank));
  }

  uint64_t mapped = 0;
  for (const plan::Plan *plan : mine)
    mapped += plan->ledger()->weights_mapped();
  std::atomic<uint64_t> loaded{0};
  // Weights that do not all fit are better read as they are used.
  const LoadOptions load{options.randomSeed, mapped <= available - neededMemory(mine, options.randomSeed.has_value()),
                         &loaded, options.interrupted};
  DISTC_TRY(loadAll(state->ranks, sources, load, options));
  return std::unique_ptr<Runner>(new Runner(std::move(state)));
}

Runner::Runner(std::unique_ptr<State> state) : state_(std::move(state)) {}
Runner::~Runner() = default;

const PlanSetInfo &Runner::info() const { return state_->info; }

double Runner::readBandwidth() const { return state_->device.readBandwidth(); }

Result<StepResult> Runner::step(const Batch &batch) {
  State &state = *state_;
  DISTC_TRY(state.failure);
  DISTC_TRY(checkBatch(*state.plans[0], batch));
  DISTC_ASSIGN(const uint32_t program, chooseProgram(*state.plans[0], batch));

  StepInput input{state.steps++, &batch, std::vector<int32_t>(batch.tokens.size())};
  for (size_t s = 0; s + 1 < batch.sequenceStarts.size(); ++s)
    std::fill(input.sequenceOf.begin() + batch.sequenceStarts[s],
              input.sequenceOf.begin() + batch.sequenceStarts[s + 1], static_cast<int32_t>(s));
  StepResult result;
  result.ids.resize(batch.outputs.size());
  if (batch.wantLogits)
    result.logits.resize(batch.outputs.size() * state.info.vocabulary);
  StepOutput output{result.ids.data(), batch.wantLogits ? result.logits.data() : nullptr, state.info.vocabulary};

  for (auto &rank : state.ranks)
    rank->startStep(program, input, output);
  state.failure = waitForAll(state.ranks);
  DISTC_TRY(state.failure);
  return result;
}

} // namespace distc
