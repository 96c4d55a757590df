#include "compiler/Analysis/Simulate.h"

#include <algorithm>

namespace distc {

double Phase::idle() const {
  double busy = 0;
  for (const NodeTimes &node : nodes)
    busy += node.compute;
  return seconds > 0 && !nodes.empty() ? 1 - busy / (seconds * double(nodes.size())) : 0;
}

double Phase::exposedShare() const {
  double exposed = 0;
  for (const NodeTimes &node : nodes)
    exposed += node.exposed;
  return seconds > 0 && !nodes.empty() ? exposed / (seconds * double(nodes.size())) : 0;
}

namespace {

// Adds `weight` steps like this one.
void add(Phase &phase, const StepTimes &times, double overhead, double tokens, double weight) {
  phase.seconds += weight * (times.seconds + overhead);
  phase.tokens += weight * tokens;
  phase.steps += weight;
  phase.nodes.resize(times.nodes.size());
  for (size_t n = 0; n < times.nodes.size(); ++n) {
    phase.nodes[n].compute += weight * times.nodes[n].compute;
    phase.nodes[n].exposed += weight * times.nodes[n].exposed;
  }
}

// Which of `count` steps are run, and how many each stands for (Simpson's rule, exact where the time is a polynomial).
std::vector<std::pair<uint64_t, double>> samples(uint64_t count) {
  const double n = double(count);
  if (count <= 3) {
    std::vector<std::pair<uint64_t, double>> all;
    for (uint64_t i = 0; i < count; ++i)
      all.emplace_back(i, 1.0);
    return all;
  }
  // The sum over i = 0 … n-1 of a parabola through the first, the middle and the last step, of an odd count exactly.
  const double half = (n - 1) / 2, squares = (n - 1) * n * (2 * n - 1) / 6, spread = squares - n * half * half;
  const double outer = spread / (2 * half * half);
  return {{0, outer}, {(count - 1) / 2, n - 2 * outer}, {count - 1, outer}};
}

Status checkOptions(const plan::Plan &plan, const SimulateOptions &options) {
  const plan::Limits &limits = *plan.limits();
  if (options.batch > limits.max_batch())
    return invalidArgument("--batch is " + std::to_string(options.batch) + " and the plan holds at most " +
                           std::to_string(limits.max_batch()) + "; compile with a larger --max-batch");
  if (options.promptTokens + options.newTokens > limits.max_sequence())
    return invalidArgument("--prompt-tokens and --new-tokens are " +
                           std::to_string(options.promptTokens + options.newTokens) +
                           " together and the plan holds at most " + std::to_string(limits.max_sequence()) +
                           "; compile with a larger --max-seq");
  return {};
}

} // namespace

Result<Simulation> simulate(const Machine &machine, std::span<const plan::Plan *const> plans, const std::string &where,
                            const SimulateOptions &options) {
  for (const plan::Plan *plan : plans)
    DISTC_TRY(CostModel::check(machine, *plan, where));
  DISTC_TRY(checkOptions(*plans[0], options));
  Result<StepSimulator> simulator = StepSimulator::create(machine, plans);
  DISTC_TRY(simulator.status().context(where));
  Simulation result;
  result.nodes = simulator->nodes();
  StepLimits limits = simulator->limits(plan::Regime::Prefill);
  limits.sequences = plans[0]->limits()->max_batch();
  if (limits.tokens == 0 || limits.outputs == 0)
    return failedPrecondition(where + ": the plans have no program for prefill; compile again");
  Schedule schedule(options.batch, options.promptTokens, options.newTokens, limits);
  double now = 0, answered = 0;
  while (!schedule.done()) {
    const bool decode = schedule.decodes();
    const plan::Regime regime = decode ? plan::Regime::Decode : plan::Regime::Prefill;
    const uint64_t steps = decode ? schedule.decodeSteps() : 1;
    Phase &phase = decode ? result.decode : result.prefill;
    const double before = phase.seconds;
    for (auto [ahead, weight] : samples(steps)) {
      const Runs step = schedule.next(ahead);
      std::vector<TraceEvent> events;
      const bool traced = options.trace && ahead == 0 && (!decode || phase.steps == 0);
      Result<StepTimes> times = simulator->run(regime, step, traced ? &events : nullptr);
      DISTC_TRY(times.status().context(where));
      add(phase, *times, machine.step, double(tokensOf(step)), weight);
      for (TraceEvent &event : events) {
        event.begin += now;
        event.end += now;
        result.trace.push_back(event);
      }
    }
    now += phase.seconds - before;
    if (const uint64_t first = schedule.advance(steps); first > 0) {
      answered += double(first);
      result.firstToken += double(first) * now;
      result.lastFirstToken = now;
    }
  }
  result.firstToken /= answered;
  return result;
}

} // namespace distc
