#include "runtime/verify/Verify.h"

#include "runtime/verify/Report.h"

#include <algorithm>
#include <cstdint>

namespace distc {

namespace verify {

std::string ProgramRef::text() const {
  return cat("rank ", rank(), ", ", program.regime() == plan::Regime::Decode ? "decode" : "prefill", " program ",
             index);
}

std::string ProgramRef::text(size_t i) const {
  const plan::Instruction &it = instruction(i);
  std::string out = cat(text(), ", instruction ", it.id(), " (",
                        isKnownOp(it.op_type()) ? plan::EnumNameOp(it.op_type()) : "unknown op");
  if (program.labels() && i < program.labels()->size())
    out += cat(", ", program.labels()->Get(static_cast<flatbuffers::uoffset_t>(i))->string_view());
  return out + ")";
}

int64_t layerOf(std::string_view weight) {
  constexpr std::string_view prefix = "layers.";
  int64_t layer = -1;
  if (weight.starts_with(prefix))
    for (char c : weight.substr(prefix.size())) {
      if (c < '0' || c > '9' || layer > INT32_MAX)
        break;
      layer = 10 * std::max<int64_t>(layer, 0) + (c - '0');
    }
  return layer;
}

std::string ProgramRef::value(size_t i) const {
  if (program.values() && i < program.values()->size())
    return cat("'", program.values()->Get(static_cast<flatbuffers::uoffset_t>(i))->name()->string_view(), "' (buffer ",
               i, ")");
  return cat("buffer ", i);
}

namespace {

// FlatBuffers' own verifier sees that vectors lie in the file, not that they lie at multiples of their element's size.
template <typename Vector> bool isAligned(const Vector *values) {
  constexpr size_t kAlignment = 8; // of 64-bit integers and doubles, and of structs that hold some
  return !values || reinterpret_cast<uintptr_t>(values->Data()) % kAlignment == 0;
}

bool isAligned(const plan::Plan &plan) {
  bool aligned = true;
  for (const plan::SourceTensor *tensor : *plan.tensors())
    aligned = aligned && isAligned(tensor->shape());
  for (const plan::Weight *weight : *plan.weights()) {
    aligned = aligned && isAligned(weight->shape());
    for (const plan::WeightSource *source : *weight->sources()) {
      aligned = aligned && isAligned(source->view());
      for (const plan::DimSlice *dim : *source->dims())
        aligned = aligned && isAligned(dim->segments());
    }
  }
  for (const plan::RopeTable *table : *plan.rope_tables())
    aligned = aligned && isAligned(table->inv_freq());
  for (const plan::Program *program : *plan.programs()) {
    aligned = aligned && isAligned(program->buffers());
    if (program->values())
      for (const plan::ValueInfo *value : *program->values())
        aligned = aligned && isAligned(value->dims());
  }
  return aligned;
}

void checkAlignment(const plan::Plan &plan, Reporter &reporter) {
  if (!isAligned(plan))
    reporter.add("index-range", cat("rank ", plan.mesh()->rank(), ": a list does not lie at a multiple of 8 bytes"));
}

/// Stops at the first proof that fails: the later ones follow what the earlier ones have shown to be safe.
bool checkRank(const plan::Plan &plan, Reporter &reporter) {
  size_t before = reporter.count();
  for (auto check : {checkAlignment, checkStructure, checkWeightTables, checkPrograms, checkSchedules, checkMemory}) {
    check(plan, reporter);
    if (reporter.count() != before)
      return false;
  }
  return true;
}

} // namespace

} // namespace verify

std::vector<Violation> verifyPlan(const plan::Plan &plan) {
  verify::Reporter reporter(100);
  verify::checkRank(plan, reporter);
  return reporter.take();
}

std::vector<Violation> verifyPlanSet(std::span<const plan::Plan *const> plans, size_t limit) {
  verify::Reporter reporter(limit);
  if (plans.empty())
    reporter.add("mesh", "no plans: expected one for each rank");
  for (const plan::Plan *plan : plans)
    verify::checkRank(*plan, reporter);
  if (reporter.count() != 0)
    return reporter.take();
  verify::checkSet(plans, reporter);
  if (reporter.count() != 0)
    return reporter.take();
  verify::checkCoverage(plans, reporter);
  verify::checkCommunication(plans, reporter);
  verify::checkSlices(plans, reporter);
  if (reporter.count() == 0)
    verify::checkValues(plans, reporter);
  return reporter.take();
}

Status provePlanSet(std::span<const plan::Plan *const> plans, const std::string &directory) {
  constexpr size_t kShown = 10; // one fault often shows in every layer and rank
  const std::vector<Violation> violations = verifyPlanSet(plans, kShown);
  if (violations.empty())
    return {};
  std::string text = directory + ": the plan set does not verify; compile the model again";
  for (const Violation &violation : violations)
    text += "\n  " + violation.kind + ": " + violation.message;
  return dataLoss(text);
}

} // namespace distc
