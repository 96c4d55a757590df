// plan-mutate [--seed N] [--mutants N] [--seconds S] [--kind TEXT] [--verbose] DIR...
//
// Seeds faults into plan sets, one at a time, and asks the verifier. A fault that it does not see must make no
// difference: plans for the CPU are run, and must give the same bits; others must be the same in canonical form. Or it
// is beyond what plans can tell (formOfAnyModel), and is counted as such. The exit code is 1 if one mutant is
// neither.
#include "runtime/exec/PlanSetInfo.h"
#include "runtime/plan/SourceFiles.h"
#include "runtime/verify/Verify.h"
#include "test/mutate/Canonical.h"
#include "test/mutate/Faults.h"
#include "test/mutate/Frames.h"
#include "test/mutate/Run.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <map>

namespace distc::mutate {

namespace {

using Clock = std::chrono::steady_clock;
constexpr double kRunSeconds = 60;

struct Options {
  uint64_t seed = std::random_device()(), mutants = 1000;
  double seconds = 1e9;
  std::string kind;
  bool verbose = false;
  std::vector<std::string> folders;
};

struct Set {
  std::string folder;
  Payloads payloads, settled; // every scalar written; what else `settle` changes is no fault
  std::vector<std::vector<uint8_t>> canonical;
  bool runs = false; // here, on a CPU
  PlanSetInfo info;
  uint64_t bits = 0;
};

struct Count {
  uint64_t seeded = 0, rejected = 0, refused = 0, same = 0, beyond = 0, survived = 0;
};

std::vector<Violation> verify(const Payloads &payloads) {
  std::vector<const plan::Plan *> plans;
  for (const std::vector<uint8_t> &payload : payloads) {
    if (!isSound(payload))
      return {{"structure", "the payload does not hold together", {}, {}}};
    plans.push_back(&planOf(payload));
  }
  return verifyPlanSet(plans, 1);
}

Result<Set> readSet(const std::string &folder) {
  Set set;
  set.folder = std::filesystem::path(folder).lexically_normal().string();
  while (set.folder.ends_with('/'))
    set.folder.pop_back();
  DISTC_ASSIGN(const std::vector<PlanFile> files, openPlanSet(folder));
  Plans plans;
  for (const PlanFile &file : files)
    plans.emplace_back(file.plan().UnPack());
  set.payloads = pack(plans);
  for (auto &plan : plans)
    settle(*plan);
  set.settled = pack(plans);
  renumber(set.settled);
  for (const std::vector<uint8_t> &payload : set.payloads)
    set.canonical.push_back(canonicalForm(payload));
  if (const auto violations = verify(set.payloads); !violations.empty())
    return dataLoss(folder + ": " + violations[0].message);
  set.runs = files[0].plan().target()->string_view() == "cpu" && files[0].plan().files()->size() > 0;
  std::vector<const plan::Plan *> all;
  for (const PlanFile &file : files)
    all.push_back(&file.plan());
  set.info = planSetInfo(all, folder);
  if (set.runs) {
    write(set.payloads, set.folder + ".mutant");
    const Outcome outcome = run(set.folder + ".mutant", set.info, kRunSeconds);
    if (outcome.ending != Ending::Done)
      return internal(folder + ": does not run: " + outcome.message);
    set.bits = outcome.bits;
  }
  return set;
}

class Campaign {
public:
  Campaign(const Options &options, std::vector<Set> sets)
      : options_(options), sets_(std::move(sets)), random_(options.seed) {
    for (auto list : {weightFaults(), programFaults(), memoryFaults(), operandFaults(), anyFaults()})
      for (FaultKind &kind : list)
        if (kind.name.find(options.kind) != std::string::npos)
          kinds_.push_back(std::move(kind));
    for (size_t kind = 0; kind < frameKinds(); ++kind)
      if (std::string(frameKind(kind)).find(options.kind) != std::string::npos)
        frames_.push_back(kind);
  }

  /// Kinds and sets in turn, so that each is tried alike however short the run.
  bool run() {
    const auto end = Clock::now() + std::chrono::duration<double>(options_.seconds);
    size_t idle = 0;
    for (uint64_t turn = 0, done = 0; done < options_.mutants && Clock::now() < end && idle < 10'000; ++turn) {
      const Set &set = sets_[random_.below(sets_.size())];
      const size_t kind = turn % (kinds_.size() + frames_.size());
      const bool seeded =
          kind < kinds_.size() ? mutate(set, kinds_[kind]) : mutateFiles(set, frames_[kind - kinds_.size()]);
      done += seeded;
      idle = seeded ? 0 : idle + 1;
    }
    return report();
  }

private:
  bool mutate(const Set &set, const FaultKind &kind) { // false: nothing was changed
    const bool settled = random_.chance(50);
    Payloads payloads = set.payloads;
    Plans plans;
    std::string where;
    if (kind.tables) {
      plans = unpack(payloads);
      where = kind.tables(plans, random_);
    } else {
      where = kind.scalars(payloads, random_);
      if (settled) {
        for (const std::vector<uint8_t> &payload : payloads)
          if (!isSound(payload))
            return false;
        plans = unpack(payloads);
      }
    }
    if (where.empty())
      return false;
    if (settled)
      for (auto &plan : plans)
        settle(*plan);
    if (!plans.empty())
      payloads = pack(plans);
    if (settled)
      renumber(payloads);
    if (payloads == set.payloads || payloads == set.settled)
      return false;
    Count &count = counts_[kind.name];
    ++count.seeded;
    if (const std::vector<Violation> violations = verify(payloads); !violations.empty()) {
      ++count.rejected;
      if (options_.verbose)
        std::cout << kind.name << ": " << where << "\n  " << violations[0].kind << ": " << violations[0].message
                  << "\n";
      return true;
    }
    judge(set, kind.name, where + (settled ? ", settled" : ""), payloads, count);
    return true;
  }

  /// It verifies: does it make a difference?
  void judge(const Set &set, const std::string &kind, const std::string &where, const Payloads &payloads,
             Count &count) {
    const std::string in = set.folder + ": " + where;
    if (!opens(payloads, set.folder)) {
      ++count.refused;
      return;
    }
    if (tellsOtherModel(set, payloads)) {
      ++count.beyond;
      return;
    }
    if (!set.runs) {
      for (size_t rank = 0; rank < payloads.size(); ++rank)
        if (canonicalForm(payloads[rank]) != set.canonical[rank])
          return survive(kind, in + ": rank " + std::to_string(rank) + " computes something else", count);
      ++count.same;
      return;
    }
    write(payloads, set.folder + ".mutant");
    const Outcome outcome = mutate::run(set.folder + ".mutant", set.info, kRunSeconds);
    if (outcome.ending == Ending::Refused)
      ++count.refused;
    else if (outcome.ending == Ending::Done && outcome.bits == set.bits)
      ++count.same;
    else
      return survive(kind, in + ": " + (outcome.ending == Ending::Done ? "other bits" : outcome.message), count);
    if (options_.verbose)
      std::cout << kind << ": " << in << "\n  no difference " << outcome.message << "\n";
  }

  /// Is the fault in what a plan alone can tell: of which model it is?
  static bool tellsOtherModel(const Set &set, const Payloads &payloads) {
    bool differs = false;
    for (size_t rank = 0; rank < payloads.size(); ++rank) {
      if (formOfAnyModel(payloads[rank]) != formOfAnyModel(set.payloads[rank]))
        return false;
      differs = differs || canonicalForm(payloads[rank]) != set.canonical[rank];
    }
    return differs;
  }

  /// Are the checkpoint's files those that the plans say? All targets ask so before they load.
  static bool opens(const Payloads &payloads, const std::string &folder) {
    SourceFileCache cache(folder, "");
    for (const std::vector<uint8_t> &payload : payloads) {
      const plan::Plan &plan = planOf(payload);
      const auto isNowhere = [](const plan::SourceTensor *tensor) { return tensor->file() < 0; }; // the loader refuses
      if (!cache.open(plan).ok() ||
          (plan.files()->size() > 0 && std::any_of(plan.tensors()->begin(), plan.tensors()->end(), isNowhere)))
        return false;
    }
    return true;
  }

  void survive(const std::string &kind, const std::string &what, Count &count) {
    ++count.survived;
    std::cout << "survived: " << kind << ": " << what << std::endl;
  }

  bool mutateFiles(const Set &set, size_t kind) {
    const std::string folder = set.folder + ".mutant";
    std::filesystem::remove_all(folder);
    write(set.payloads, folder);
    const std::string where = damage(kind, folder, set.payloads, random_.pick(sets_).payloads, random_);
    if (where.empty())
      return false;
    const std::string name = std::string("file: ") + frameKind(kind);
    Count &count = counts_[name];
    ++count.seeded;
    const Result<std::vector<PlanFile>> files = openPlanSet(folder);
    std::vector<const plan::Plan *> plans;
    if (files.ok())
      for (const PlanFile &file : *files)
        plans.push_back(&file.plan());
    if (!files.ok() || !provePlanSet(plans, folder).ok())
      ++count.rejected;
    else
      survive(name, folder + ": " + where, count);
    std::filesystem::remove_all(folder);
    return true;
  }

  bool report() const {
    const auto line = [](const std::string &name, const Count &c) {
      std::printf("%-42s %8lu %8lu %8lu %8lu %8lu %8lu\n", name.c_str(), c.seeded, c.rejected, c.refused, c.same,
                  c.beyond, c.survived);
    };
    std::printf("%-42s %8s %8s %8s %8s %8s %8s\n", "", "seeded", "rejected", "refused", "same", "beyond", "survived");
    Count all;
    for (const auto &[name, count] : counts_) {
      line(name, count);
      all.seeded += count.seeded;
      all.rejected += count.rejected;
      all.refused += count.refused;
      all.same += count.same;
      all.beyond += count.beyond;
      all.survived += count.survived;
    }
    line(std::to_string(counts_.size()) + " kinds", all);
    return all.survived == 0 && all.seeded > 0;
  }

  const Options &options_;
  std::vector<Set> sets_;
  Random random_;
  std::vector<FaultKind> kinds_;
  std::vector<size_t> frames_;
  std::map<std::string, Count> counts_;
};

Result<Options> parse(int argc, char **argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const bool hasValue = i + 1 < argc;
    if (arg == "--seed" && hasValue)
      options.seed = std::strtoull(argv[++i], nullptr, 10);
    else if (arg == "--mutants" && hasValue)
      options.mutants = std::strtoull(argv[++i], nullptr, 10);
    else if (arg == "--seconds" && hasValue)
      options.seconds = std::strtod(argv[++i], nullptr);
    else if (arg == "--kind" && hasValue)
      options.kind = argv[++i];
    else if (arg == "--verbose")
      options.verbose = true;
    else if (arg.starts_with("-"))
      return invalidArgument("unknown flag, or one without its value: " + arg);
    else
      options.folders.push_back(arg);
  }
  if (options.folders.empty())
    return invalidArgument("no plan set; expected folders made by `distc compile`");
  return options;
}

Result<bool> campaign(int argc, char **argv) {
  DISTC_ASSIGN(const Options options, parse(argc, argv));
  std::vector<Set> sets;
  for (const std::string &folder : options.folders) {
    DISTC_ASSIGN(Set set, readSet(folder));
    sets.push_back(std::move(set));
  }
  std::cout << "seed " << options.seed << std::endl;
  return Campaign(options, std::move(sets)).run();
}

} // namespace

} // namespace distc::mutate

int main(int argc, char **argv) {
  const distc::Result<bool> result = distc::mutate::campaign(argc, argv);
  if (!result.ok())
    std::cerr << "plan-mutate: " << result.status().message() << std::endl;
  return result.ok() && *result ? 0 : 1;
}
