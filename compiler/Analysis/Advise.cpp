#include "compiler/Analysis/Advise.h"

#include "runtime/base/File.h"
#include "runtime/schema/PlanFile.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace distc {

namespace {

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.0f %%", 100 * share);
  return text;
}

} // namespace

double fullest(const Machine &machine, const std::vector<const plan::Plan *> &plans) {
  double need = 0;
  for (const plan::Plan *plan : plans) {
    const plan::Ledger &l = *plan->ledger();
    const double mine = double(l.weights_loaded()) + double(l.weights_mapped()) + double(l.kv()) + double(l.arena()) +
                        double(l.tables());
    need = machine.cpu ? need + mine : std::max(need, mine);
  }
  return need;
}

namespace {

// Bytes of the weights that a decode step reads whole, of all ranks.
double readWeights(const std::vector<const plan::Plan *> &plans) {
  double bytes = 0;
  for (const plan::Plan *plan : plans)
    for (const plan::Program *program : *plan->programs())
      for (const plan::Instruction *instruction : *program->instructions())
        if (const plan::Linear *linear = instruction->op_as_Linear();
            linear && program->regime() == plan::Regime::Decode)
          bytes += double(plan->weights()->Get(linear->weight())->bytes());
  return bytes;
}

// Each `times` times: a stage's first rank for all of them.
std::vector<const plan::Plan *> plansOf(const std::vector<std::vector<uint8_t>> &files, uint64_t times = 1) {
  std::vector<const plan::Plan *> plans;
  for (const std::vector<uint8_t> &file : files)
    plans.insert(plans.end(), times,
                 flatbuffers::GetRoot<plan::Plan>(plan::GetPlanFile(file.data())->payload()->data()));
  return plans;
}

// Whether the ranks of a stage take as much memory and time as its first. They differ in the slices of their weights,
// of which a CPU may map some, and in the links to the ranks of other stages.
bool alike(const Machine &machine, uint64_t tp, uint64_t pp) {
  for (uint64_t stage = 0; stage < pp && pp > 1; ++stage) {
    const LinkTier *first = nullptr;
    for (uint64_t i = 0; i < tp; ++i) {
      const uint32_t ends[] = {uint32_t(stage * tp + i), uint32_t((stage + 1) % pp * tp + i)};
      const Result<const LinkTier *> tier = CostModel::tier(machine, ends);
      if (!tier.ok() || (first && *tier != first))
        return false;
      first = *tier;
    }
  }
  return !machine.cpu;
}

Result<StepSimulator> simulatorOf(const Machine &machine, const std::vector<const plan::Plan *> &plans) {
  for (const plan::Plan *plan : plans)
    DISTC_TRY(CostModel::check(machine, *plan, plan->model()->name()->str()));
  return StepSimulator::create(machine, plans);
}

Status simulate(const Machine &machine, const std::vector<const plan::Plan *> &plans, const AdviseOptions &options,
                Candidate &c) {
  DISTC_ASSIGN(const StepSimulator simulator, simulatorOf(machine, plans));
  DISTC_ASSIGN(const StepTimes step, simulator.run(plan::Regime::Decode, {{c.batch, 1, options.context - 1, 1}}));
  c.seconds = step.seconds + machine.step;
  c.tokensPerSecond = double(options.batch) / c.seconds;
  double busy = 0;
  for (const NodeTimes &node : step.nodes) {
    c.exposed += node.exposed / c.seconds / double(step.nodes.size());
    busy += node.compute / c.seconds / double(step.nodes.size());
  }
  c.idle = std::max(0.0, 1 - busy - c.exposed);
  StepLimits limits = simulator.limits(plan::Regime::Prefill);
  for (Schedule schedule(1, options.context - 1, 1, limits); !schedule.done(); schedule.advance()) {
    const plan::Regime regime = schedule.decodes() ? plan::Regime::Decode : plan::Regime::Prefill;
    DISTC_ASSIGN(const StepTimes prompt, simulator.run(regime, schedule.next()));
    c.firstToken += prompt.seconds + machine.step;
  }
  return {};
}

Result<Candidate> evaluate(const Machine &machine, const AdviseOptions &options, const CompilePlans &compile,
                           uint64_t tp, uint64_t pp) {
  Candidate c;
  c.tp = tp;
  c.pp = pp;
  if (options.replicas && !machine.cpu) // there they would share the cores that one has
    c.replicas = std::max<uint64_t>(1, std::min(options.gpus / (tp * pp), options.batch));
  c.batch = (options.batch + c.replicas - 1) / c.replicas;
  const bool firstOnly = alike(machine, tp, pp);
  DISTC_ASSIGN(const auto files, compile(tp, pp, c.batch, firstOnly));
  const std::vector<const plan::Plan *> plans = plansOf(files, firstOnly ? tp : 1);
  c.weights = readWeights(plans);
  c.need = fullest(machine, plans) * (machine.cpu ? double(c.replicas) : 1);
  c.share = c.need / double(machine.memoryBytes);
  c.fits = c.share <= 1 - kKeptMemory;
  if (c.fits)
    DISTC_TRY(simulate(machine, plans, options, c));
  return c;
}

// What has been found, for the meshes that are still to be tried (kFewMeshes).
class Bounds {
public:
  Bounds(const Machine &machine, bool active) : machine_(machine), active_(active) {}

  void add(const Candidate &c) {
    weights_ = std::min(weights_, c.weights);
    if (!c.fits)
      return;
    fits_ = c.tp;
    best_ = std::min(best_, c.seconds);
  }
  bool exclude(uint64_t tp, uint64_t pp) const {
    if (!active_ || std::isinf(weights_) || tp * pp == 1) // of one device it is told whether the model fits
      return false;
    constexpr double kPadding = .95; // part of the weights of the meshes that were compiled may be padding
    const double weights = kPadding * weights_, room = double(machine_.memoryBytes) * (1 - kKeptMemory);
    return tp == fits_ || weights / double(tp * pp) > room ||
           weights / double(tp) / machine_.memory.at(weights) > best_;
  }

private:
  const Machine &machine_;
  const bool active_;
  double weights_ = INFINITY, best_ = INFINITY; // bytes that a decode step reads; seconds of one
  uint64_t fits_ = 0;                           // the degree of the last mesh that fits
};

// Why `c` is behind `best`: by how much, and what of its time is not the devices' work.
std::string slower(const Candidate &c, const Candidate &best, bool throughput) {
  const double by = throughput ? best.tokensPerSecond / c.tokensPerSecond - 1 : c.seconds / best.seconds - 1;
  if (by < .005)
    return c.devices() == best.devices() ? "as fast" : "as fast with " + std::to_string(c.devices()) + " devices";
  std::string why;
  if (c.exposed > best.exposed + .02)
    why = "communication takes " + percent(c.exposed) + " of a step";
  if (c.idle > best.idle + .02)
    why += (why.empty() ? "" : ", ") + ("stages wait for each other for " + percent(c.idle));
  if (why.empty())
    why = c.devices() < best.devices() ? "fewer devices share the work" : "each device reads more a token";
  return percent(by) + " slower: " + why;
}

} // namespace

Result<double> prefillStep(const Machine &machine, const std::vector<std::vector<uint8_t>> &files) {
  DISTC_ASSIGN(const StepSimulator simulator, simulatorOf(machine, plansOf(files)));
  const uint64_t tokens = simulator.limits(plan::Regime::Prefill).tokens;
  DISTC_ASSIGN(const StepTimes step, simulator.run(plan::Regime::Prefill, {{1, tokens, 0, 1}}));
  return step.seconds;
}

Result<Advice> advise(const Machine &machine, uint64_t heads, uint64_t layers, const AdviseOptions &options,
                      const CompilePlans &compile) {
  Advice advice;
  std::vector<Candidate> &all = advice.candidates;
  std::vector<std::pair<uint64_t, uint64_t>> meshes; // high degrees first: they are fast, and let others be skipped
  for (uint64_t tp = std::min(options.gpus, heads); tp >= 1; --tp)
    for (uint64_t pp = 1; tp * pp <= options.gpus && pp <= layers; ++pp)
      if ((options.tp == 0 || tp == options.tp) && (options.pp == 0 || pp == options.pp))
        meshes.emplace_back(tp, pp);
  Bounds bounds(machine, !machine.cpu && meshes.size() > kFewMeshes);
  for (auto [tp, pp] : meshes) {
    if (bounds.exclude(tp, pp)) {
      ++advice.skipped;
      continue;
    }
    DISTC_ASSIGN(Candidate c, evaluate(machine, options, compile, tp, pp));
    bounds.add(c);
    advice.oneFits |= tp == 1 && pp == 1 && c.fits;
    all.push_back(std::move(c));
  }
  if (all.empty())
    return invalidArgument("no mesh is left to try: --gpus " + std::to_string(options.gpus) + ", " +
                           std::to_string(heads) + " query heads, " + std::to_string(layers) + " layers" +
                           (options.tp != 0 ? ", --tp " + std::to_string(options.tp) : "") +
                           (options.pp != 0 ? ", --pp " + std::to_string(options.pp) : ""));
  // A difference that the model cannot see is not worth a device.
  const auto cost = [&](const Candidate &c) { return options.throughput ? 1 / c.tokensPerSecond : c.seconds; };
  std::sort(all.begin(), all.end(), [&](const Candidate &a, const Candidate &b) {
    if (a.fits != b.fits)
      return a.fits;
    const double left = a.fits ? cost(a) : a.need, right = a.fits ? cost(b) : b.need;
    return left != right ? left < right : std::pair(a.tp, a.pp) < std::pair(b.tp, b.pp);
  });
  for (size_t i = 1; i < all.size() && all[i].fits && cost(all[i]) < 1.02 * cost(all[0]); ++i)
    if (all[i].devices() < all[0].devices())
      std::rotate(all.begin(), all.begin() + static_cast<ptrdiff_t>(i), all.begin() + static_cast<ptrdiff_t>(i) + 1);
  const double room = double(machine.memoryBytes) * (1 - kKeptMemory);
  for (Candidate &c : all)
    if (!c.fits)
      c.remark = "does not fit: needs " + formatBytes(static_cast<uint64_t>(c.need)) +
                 (machine.cpu ? "" : " a device") + ", " + formatBytes(static_cast<uint64_t>(c.need - room)) +
                 " too much";
    else if (&c != &all[0])
      c.remark = slower(c, all[0], options.throughput);
  if (!all[0].fits)
    return resourceExhausted("no mesh of up to " + std::to_string(options.gpus) + " devices fits " + machine.name +
                             ": tp " + std::to_string(all[0].tp) + " x pp " + std::to_string(all[0].pp) + " " +
                             all[0].remark + " (" + percent(kKeptMemory) +
                             " of the memory are kept); give more --gpus, a shorter " + options.contextFlag +
                             " or a smaller " + options.batchFlag);
  return advice;
}

} // namespace distc
