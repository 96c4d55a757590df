#include "runtime/diff/CompareValues.h"
#include "runtime/engine/BlockAllocator.h"
#include "runtime/text/Tokenizer.h"
#include "tools/distrun/Commands.h"

#include <algorithm>
#include <cstdio>
#include <map>

namespace distc {

namespace {

constexpr double kTolerance = 1e-4, kNarrowTolerance = 2e-2; // F32; BF16 and F16
constexpr size_t kTableRows = 20;

std::string number(double value, int digits = 4) {
  char text[40];
  std::snprintf(text, sizeof text, "%.*g", digits, value);
  return text;
}

template <typename List> std::string listed(const List &list) {
  std::string out;
  for (const auto &value : list)
    out += (out.empty() ? "" : ", ") + std::to_string(value);
  return out;
}

// One of the two plan sets.
struct Side {
  const char *name;
  std::string directory;
  StepRecorder recorder;
  std::unique_ptr<Runner> runner;
  int32_t length = 0; // that the sequence grows to

  Status open(const Options &options) {
    RunnerOptions own = options.runner;
    own.observer = &recorder;
    DISTC_ASSIGN(runner, openRunner(directory, own));
    return {};
  }

  // The next tokens of the only sequence.
  Result<StepValues> step(const std::vector<int32_t> &tokens, size_t position, bool decode, std::vector<int32_t> &ids) {
    const PlanSetInfo &info = runner->info();
    Batch batch;
    batch.decode = decode;
    batch.tokens = tokens;
    for (size_t i = 0; i < tokens.size(); ++i)
      batch.positions.push_back(static_cast<int32_t>(position + i));
    batch.sequenceStarts = {0, static_cast<int32_t>(tokens.size())};
    batch.lengths = {length};
    batch.blockTable = BlockAllocator(info.kvBlocks).take(std::min(info.kvBlocks, info.blocksPerSequence));
    batch.blockTable.resize(info.blocksPerSequence, -1);
    batch.outputs = {static_cast<int32_t>(tokens.size()) - 1};
    batch.sampling.resize(1);
    recorder.begin(info.tp * info.pp);
    DISTC_ASSIGN(const StepResult result, runner->step(batch));
    ids = result.ids;
    return recorder.finish(tokens.size(), 1);
  }
};

Status checkPrompt(const Side &side, size_t tokens, uint32_t newTokens) {
  const PlanSetInfo &info = side.runner->info();
  if (tokens == 0 || tokens > info.prefill.maxTokens)
    return invalidArgument("the prompt has " + std::to_string(tokens) + " tokens, expected 1 to " +
                           std::to_string(info.prefill.maxTokens) + ", which are a micro-batch of " + side.directory);
  if (tokens + newTokens > info.maxSequence)
    return invalidArgument(std::to_string(tokens) + " tokens and " + std::to_string(newTokens) +
                           " new ones are more than the " + std::to_string(info.maxSequence) + " of a sequence of " +
                           side.directory);
  return {};
}

Result<std::vector<int32_t>> promptTokens(const Options &options, const PlanSetInfo &info) {
  if (options.hasTokens)
    return options.tokens;
  if (info.tokenizerPath.empty())
    return failedPrecondition(options.directory + ": the plan set has no tokenizer; use --tokens");
  DISTC_ASSIGN(const std::unique_ptr<Tokenizer> tokenizer, Tokenizer::open(info.tokenizerPath));
  return tokenizer->encode(options.prompts[0], true, false);
}

// What has been found so far, over all steps.
class Report {
public:
  explicit Report(double tolerance) : tolerance_(tolerance) {}

  void add(const std::string &step, Comparison &&comparison) {
    ++steps_;
    for (const auto &[name, reason] : comparison.skipped) {
      ++skippedCount_;
      ++skipped_[name + ": " + reason];
    }
    for (ComparedValue &value : comparison.values) {
      padded_ += value.padded;
      differing_ += value.relative > tolerance_;
      all_.push_back({step, std::move(value)});
      if (first_ < 0 && all_.back().second.relative > tolerance_)
        first_ = static_cast<int64_t>(all_.size()) - 1;
    }
  }

  bool differs() const { return differing_ > 0; }
  size_t compared() const { return all_.size(); }
  std::string firstName() const { return all_[size_t(first_)].second.name; }

  std::string text(bool verbose) const {
    std::string out;
    if (first_ >= 0) {
      const auto &[step, value] = all_[size_t(first_)];
      out += "first difference: " + value.name + ", " + step + ": relative difference " + number(value.relative) +
             ", tolerance " + number(tolerance_) + "\n" + sideText("A", value.a) + sideText("B", value.b);
    }
    if (verbose)
      out += table();
    out += std::to_string(all_.size()) + " values of " + std::to_string(steps_) + (steps_ == 1 ? " step" : " steps") +
           " compared, " + std::to_string(differing_) + " differ; " + std::to_string(padded_) +
           " without the padding of one mesh, " + std::to_string(skippedCount_) + " not compared\n";
    return out;
  }

private:
  static std::string sideText(const char *name, const ComparedValue::Side &side) {
    auto named = [](const char *what, const std::vector<uint32_t> &list) {
      return what + std::string(list.size() > 1 ? "s " : " ") + listed(list);
    };
    return std::string("  ") + name + ": " + named("instruction", side.ids) + " (" + EnumNameOp(side.op) + "), " +
           named("rank", side.ranks) + "; element [" + listed(side.index) + "] is " + number(side.element, 9) + "\n";
  }

  std::string table() const {
    std::vector<const std::pair<std::string, ComparedValue> *> order(all_.size());
    std::ranges::transform(all_, order.begin(), [](const auto &entry) { return &entry; });
    std::ranges::sort(order, [](auto *a, auto *b) {
      return a->second.relative != b->second.relative ? a->second.relative > b->second.relative : a < b;
    });
    order.resize(std::min(order.size(), kTableRows));
    std::string out = "  difference  value\n";
    for (const auto *entry : order) {
      std::string figure = number(entry->second.relative);
      out += std::string(figure.size() < 12 ? 12 - figure.size() : 0, ' ') + figure + "  " + entry->second.name + ", " +
             entry->first + (entry->second.padded ? " (padded)" : "") + "\n";
    }
    for (const auto &[what, times] : skipped_)
      out += "not compared: " + what + (times > 1 ? " (" + std::to_string(times) + " times)" : "") + "\n";
    return out;
  }

  const double tolerance_;
  size_t steps_ = 0, differing_ = 0, padded_ = 0, skippedCount_ = 0;
  int64_t first_ = -1;
  std::vector<std::pair<std::string, ComparedValue>> all_; // with the step
  std::map<std::string, size_t> skipped_;
};

} // namespace

Status runDiff(const Options &options, bool &differs) {
  Side a{"A", options.directory, {}, {}, 0}, b{"B", options.other, {}, {}, 0};
  DISTC_TRY(a.open(options));
  DISTC_TRY(b.open(options));
  const uint32_t mine = a.runner->info().vocabulary, others = b.runner->info().vocabulary;
  if (mine != others)
    return failedPrecondition(a.directory + " has a vocabulary of " + std::to_string(mine) + ", " + b.directory +
                              " of " + std::to_string(others) + "; expected plan sets of one model");
  DISTC_ASSIGN(std::vector<int32_t> tokens, promptTokens(options, a.runner->info()));
  for (const Side *side : {&a, &b})
    DISTC_TRY(checkPrompt(*side, tokens.size(), options.newTokens));
  a.length = b.length = static_cast<int32_t>(tokens.size() + options.newTokens);

  std::optional<Report> report;
  double tolerance = 0;
  size_t position = 0;
  for (uint32_t step = 0; step <= options.newTokens; ++step) {
    std::vector<int32_t> ids, otherIds;
    DISTC_ASSIGN(const StepValues valuesA, a.step(tokens, position, step > 0, ids));
    DISTC_ASSIGN(const StepValues valuesB, b.step(tokens, position, step > 0, otherIds));
    if (!report) {
      const bool narrow = valuesA.narrow() || valuesB.narrow();
      tolerance = options.tolerance.value_or(narrow ? kNarrowTolerance : kTolerance);
      report.emplace(tolerance);
    }
    Comparison comparison = compareValues(valuesA, valuesB, tolerance);
    const std::string &modelA = a.runner->info().model, &modelB = b.runner->info().model;
    if (modelA != modelB && !comparison.alone.empty()) // a copy under another name has all values
      return failedPrecondition(a.directory + " is of " + modelA + ", " + b.directory + " of " + modelB +
                                ", and one of them alone computes " + comparison.alone +
                                "; expected plan sets of one model");
    report->add(step == 0 ? "prefill" : "decode step " + std::to_string(step), std::move(comparison));
    position += tokens.size();
    tokens = ids; // of A, for both
  }
  if (report->compared() == 0)
    return failedPrecondition(a.directory + " and " + b.directory +
                              " have no value that can be compared; expected plan sets of one model");
  DISTC_TRY(print(report->text(options.verbose)));
  differs = report->differs();
  return differs ? failedPrecondition(a.directory + " and " + b.directory + " differ, first in " + report->firstName())
                 : Status();
}

} // namespace distc
