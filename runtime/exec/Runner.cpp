#include "distc/Runner.h"

#include "runtime/base/Log.h"
#include "runtime/comm/Processes.h"
#include "runtime/exec/BatchCheck.h"
#include "runtime/exec/Placement.h"
#include "runtime/exec/PlanSetInfo.h"
#include "runtime/exec/Rank.h"
#include "runtime/exec/StepMessages.h"
#include "runtime/plan/MemoryCheck.h"
#include "runtime/verify/Verify.h"

namespace distc {

struct Runner::State {
  std::vector<PlanFile> files;
  std::vector<const plan::Plan *> plans; // all ranks, in rank order
  PlanSetInfo info;
  Placement placement;
  std::shared_ptr<ControlPlane> control; // to the other processes; null: there are none
  std::unique_ptr<Trace> trace;
  std::vector<std::unique_ptr<Rank>> ranks; // those of this process
  uint64_t steps = 0;
  bool working = false; // the ranks are
  Status failure;

  Status run(uint64_t step, uint32_t program, std::span<const Batch> batches, std::vector<StepResult> &results);

  ~State() {
    // Work that was left behind must not keep its rank from ending.
    if (working)
      for (auto &rank : ranks)
        rank->abort(cancelled("the runner is closed"));
    if (trace) // the instructions that it tells of die with the ranks, whose threads are idle: step waits for all of
               // them
      if (Status status = trace->write(); !status.ok())
        log(LogLevel::Error, "trace: " + status.message());
  }
};

namespace {

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
  // Before files and memory, which may be another machine's.
  DISTC_ASSIGN(state->placement, placeRanks(state->plans, state->files[0].setHash(), directory, options));
  Placement &placement = state->placement;
  state->info = planSetInfo(state->plans, directory);
  if (options.processes)
    state->control = options.processes->control();

  std::vector<SourceFiles> sources(placement.places.size());
  if (!options.randomSeed) {
    // The loader would say so too, but after memory has been taken.
    if (state->plans[0]->files()->size() == 0)
      return failedPrecondition(directory +
                                ": compiled without weights; use --random-weights SEED, or compile with the "
                                "checkpoint's files");
    SourceFileCache cache(directory, options.weights);
    for (size_t r = 0; r < sources.size(); ++r) {
      DISTC_ASSIGN(sources[r], cache.open(*placement.places[r].plan));
    }
  }
  uint64_t left = UINT64_MAX, mapped = 0; // of the memory where it is shortest; of all ranks that use it
  for (const Placement::Share &share : placement.shares) {
    const uint64_t available = share.device.availableMemory;
    DISTC_TRY(
        checkMemory(share.plans, options.randomSeed.has_value(), available, share.device.memoryName, share.where));
    left = std::min(left, available - neededMemory(share.plans, options.randomSeed.has_value()));
    for (const plan::Plan *plan : share.plans)
      mapped += plan->ledger()->weights_mapped();
  }

  if (!options.traceFile.empty()) {
    auto trace = std::make_unique<Trace>(
        options.traceFile + (options.processes ? ".rank" + std::to_string(options.processes->rank()) : ""));
    DISTC_TRY(trace->write()); // better now than after the run
    state->trace = std::move(trace);
  }
  DISTC_ASSIGN(auto communicators, connectRanks(placement, state->plans, options));
  for (size_t r = 0; r < placement.places.size(); ++r) {
    const Placement::Place &place = placement.places[r];
    const RankOptions rank{place.threads, placement.shares[place.share].device.index, options.interrupted,
                           state->trace.get(), options.observer};
    state->ranks.push_back(std::make_unique<Rank>(*place.plan, std::move(communicators[r]), rank));
  }

  std::atomic<uint64_t> loaded{0};
  // Weights that do not all fit are better read as they are used.
  const LoadOptions load{options.randomSeed,          mapped <= left,         &loaded, options.interrupted,
                         options.observer != nullptr, state->trace != nullptr};
  state->working = true;
  DISTC_TRY(withLedger(loadAll(state->ranks, sources, load, options), state->plans, options.randomSeed.has_value()));
  state->working = false;
  if (state->control) // nobody's time limit counts the others' loading
    DISTC_TRY(state->control->exchange({}).status());
  return std::unique_ptr<Runner>(new Runner(std::move(state)));
}

Runner::Runner(std::unique_ptr<State> state) : state_(std::move(state)) {}
Runner::~Runner() = default;

const PlanSetInfo &Runner::info() const { return state_->info; }

double Runner::readBandwidth() const {
  return state_->placement.shares[0].device.readBandwidth() * state_->placement.devices;
}

Status Runner::State::run(uint64_t step, uint32_t program, std::span<const Batch> batches,
                          std::vector<StepResult> &results) {
  std::vector<StepInput> inputs;
  std::vector<StepOutput> outputs;
  std::vector<MicroBatch> microBatches;
  inputs.reserve(batches.size());
  outputs.reserve(batches.size());
  results.resize(batches.size());
  for (size_t m = 0; m < batches.size(); ++m) {
    const Batch &batch = batches[m];
    StepInput &input = inputs.emplace_back(StepInput{step, &batch, std::vector<int32_t>(batch.tokens.size())});
    for (size_t s = 0; s + 1 < batch.sequenceStarts.size(); ++s)
      std::fill(input.sequenceOf.begin() + batch.sequenceStarts[s],
                input.sequenceOf.begin() + batch.sequenceStarts[s + 1], static_cast<int32_t>(s));
    StepResult &result = results[m];
    result.ids.resize(batch.outputs.size());
    if (batch.wantLogits)
      result.logits.resize(batch.outputs.size() * info.vocabulary);
    outputs.push_back({result.ids.data(), batch.wantLogits ? result.logits.data() : nullptr, info.vocabulary});
    microBatches.push_back({&input, &outputs.back()});
  }
  working = true;
  for (auto &rank : ranks)
    rank->startStep(program, microBatches);
  Status status = waitForAll(ranks);
  working = false;
  return status;
}

Result<std::vector<StepResult>> Runner::step(std::span<const Batch> batches) {
  State &state = *state_;
  DISTC_TRY(state.failure);
  DISTC_ASSIGN(const uint32_t program, checkStep(*state.plans[0], batches));
  const uint64_t step = state.steps++;
  std::vector<StepResult> results;
  state.failure = [&]() -> Status {
    if (!state.control)
      return state.run(step, program, batches, results);
    ControlPlane::Bytes message = packStep(step, program, batches);
    DISTC_TRY(state.control->broadcast(message).status());
    DISTC_TRY(state.run(step, program, batches, results));
    DISTC_ASSIGN(const auto parts, state.control->gather({}));
    for (const ControlPlane::Bytes &part : parts)
      DISTC_TRY(unpackLogits(part, results, state.info.vocabulary));
    return {};
  }();
  DISTC_TRY(state.failure);
  return results;
}

Result<StepResult> Runner::step(const Batch &batch) {
  DISTC_ASSIGN(std::vector<StepResult> results, step(std::span(&batch, 1)));
  return std::move(results[0]);
}

Status Runner::serve() {
  State &state = *state_;
  for (ControlPlane::Bytes bytes;;) {
    DISTC_ASSIGN(const bool more, state.control->broadcast(bytes));
    if (!more)
      return {};
    DISTC_ASSIGN(const StepMessage message, unpackStep(bytes));
    const plan::Plan &mine = state.ranks[0]->plan();
    DISTC_ASSIGN(const uint32_t program, checkStep(mine, message.batches));
    if (program != message.program)
      return internal("rank 0 runs program " + std::to_string(message.program) + ", and the plan of rank " +
                      std::to_string(mine.mesh()->rank()) + " calls for " + std::to_string(program));
    std::vector<StepResult> results;
    DISTC_TRY(state.run(message.step, program, message.batches, results));
    DISTC_TRY(
        state.control->gather(packLogits(*mine.programs()->Get(program), results, state.info.vocabulary)).status());
  }
}

} // namespace distc
