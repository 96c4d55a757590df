#include "runtime/exec/BatchCheck.h"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace distc {

namespace {

Status wrong(const std::string &what) { return invalidArgument("batch: " + what); }

// A value of a list: "tokens[3] is 70000, expected 0 to 31999".
Status outside(const char *list, size_t index, int64_t value, int64_t limit) {
  return wrong(std::string(list) + "[" + std::to_string(index) + "] is " + std::to_string(value) + ", expected 0 to " +
               std::to_string(limit - 1));
}

Status checkSequences(const plan::Plan &plan, const Batch &batch) {
  const auto &starts = batch.sequenceStarts;
  const size_t tokens = batch.tokens.size();
  if (starts.size() < 2 || starts.front() != 0 || starts.back() != static_cast<int64_t>(tokens))
    return wrong("sequenceStarts must begin with 0 and end with the number of tokens, " + std::to_string(tokens));
  const plan::KvPool &kv = *plan.kv();
  const uint64_t sequences = starts.size() - 1, row = kv.blocks_per_sequence();
  if (batch.blockTable.size() != sequences * row)
    return wrong("the block table has " + std::to_string(batch.blockTable.size()) + " entries, expected " +
                 std::to_string(sequences) + " sequences x " + std::to_string(row));
  if (!batch.lengths.empty() && batch.lengths.size() != sequences)
    return wrong(std::to_string(batch.lengths.size()) + " lengths for " + std::to_string(sequences) + " sequences");
  for (uint64_t s = 0; s < sequences; ++s) {
    // Each start is compared with the last, and the last is the number of tokens: all are in range.
    if (starts[s] < 0 || starts[s + 1] <= starts[s] || starts[s + 1] > static_cast<int64_t>(tokens))
      return wrong("sequence " + std::to_string(s) + " has tokens [" + std::to_string(starts[s]) + ", " +
                   std::to_string(starts[s + 1]) + "), expected at least one");
    for (int32_t t = starts[s] + 1; t < starts[s + 1]; ++t)
      if (int64_t(batch.positions[t]) != int64_t(batch.positions[t - 1]) + 1)
        return wrong("positions of sequence " + std::to_string(s) + " are not consecutive at token " +
                     std::to_string(t));
    const uint64_t last = static_cast<uint64_t>(batch.positions[starts[s + 1] - 1]);
    if (!batch.lengths.empty() && (batch.lengths[s] <= static_cast<int64_t>(last) ||
                                   batch.lengths[s] > static_cast<int64_t>(plan.limits()->max_sequence())))
      return wrong("lengths[" + std::to_string(s) + "] is " + std::to_string(batch.lengths[s]) + ", expected " +
                   std::to_string(last + 1) + " to " + std::to_string(plan.limits()->max_sequence()));
    const uint64_t blocks = kv.block_tokens() == 0 ? 0 : last / kv.block_tokens() + 1;
    for (uint64_t b = 0; b < blocks; ++b) {
      if (b >= row)
        return wrong("position " + std::to_string(last) + " is beyond the block table of sequence " +
                     std::to_string(s));
      const int64_t block = batch.blockTable[s * row + b];
      if (block < 0 || block >= kv.blocks())
        return wrong("sequence " + std::to_string(s) + " at position " + std::to_string(last) + " needs block " +
                     std::to_string(b) + " of its table, which is " + std::to_string(block) + ", expected 0 to " +
                     std::to_string(int64_t(kv.blocks()) - 1));
    }
  }
  return {};
}

Status checkOutputs(const Batch &batch) {
  if (batch.sampling.size() != batch.outputs.size())
    return wrong(std::to_string(batch.sampling.size()) + " sampling parameters for " +
                 std::to_string(batch.outputs.size()) + " outputs");
  for (size_t r = 0; r < batch.outputs.size(); ++r) {
    if (batch.outputs[r] < 0 || batch.outputs[r] >= static_cast<int64_t>(batch.tokens.size()))
      return outside("outputs", r, batch.outputs[r], static_cast<int64_t>(batch.tokens.size()));
    if (r > 0 && batch.outputs[r] <= batch.outputs[r - 1])
      return wrong("outputs must increase, and do not at " + std::to_string(r));
    const Sampling &s = batch.sampling[r];
    if (!std::isfinite(s.temperature) || s.temperature < 0 || !(s.topP > 0 && s.topP <= 1) || s.topK < 0)
      return wrong("sampling of output " + std::to_string(r) +
                   ": temperature must be at least 0, top_p in (0, 1], top_k at least 0");
  }
  return {};
}

} // namespace

Result<uint32_t> chooseProgram(const plan::Plan &plan, std::span<const Batch> microBatches) {
  if (microBatches.empty())
    return wrong("none; a step has at least one");
  const bool decode = microBatches[0].decode;
  const plan::Regime regime = decode ? plan::Regime::Decode : plan::Regime::Prefill;
  uint64_t tokens = 0, outputs = 0, sequences = 0;
  for (const Batch &batch : microBatches) {
    if (batch.decode != decode)
      return wrong("micro-batches of one step are all decode or all prefill");
    tokens = std::max<uint64_t>(tokens, batch.tokens.size());
    outputs = std::max<uint64_t>(outputs, batch.outputs.size());
    sequences = std::max<uint64_t>(sequences, batch.sequenceStarts.empty() ? 0 : batch.sequenceStarts.size() - 1);
  }
  auto size = [](const plan::Program &p) { return std::tuple(p.max_tokens(), p.max_sequences(), p.max_outputs()); };
  const auto &programs = *plan.programs();
  int64_t best = -1;
  std::string limits;
  for (uint32_t i = 0; i < programs.size(); ++i) {
    const plan::Program &program = *programs.Get(i);
    if (program.regime() != regime)
      continue;
    limits += (limits.empty() ? "" : "; ") + std::to_string(program.max_tokens()) + " tokens, " +
              std::to_string(program.max_sequences()) + " sequences, " + std::to_string(program.max_outputs()) +
              " outputs" +
              (program.micro_batches() > 1 ? " in each of " + std::to_string(program.micro_batches()) : "");
    if (microBatches.size() <= program.micro_batches() && tokens <= program.max_tokens() &&
        sequences <= program.max_sequences() && outputs <= program.max_outputs() &&
        (best < 0 || size(program) < size(*programs.Get(static_cast<uint32_t>(best)))))
      best = i;
  }
  if (best < 0)
    return wrong((microBatches.size() > 1 ? std::to_string(microBatches.size()) + " micro-batches of up to " : "") +
                 std::to_string(tokens) + " tokens, " + std::to_string(sequences) + " sequences, " +
                 std::to_string(outputs) + " outputs fit no " + (decode ? "decode" : "prefill") +
                 " program of the plan (" + (limits.empty() ? "it has none" : "at most " + limits) + ")");
  return static_cast<uint32_t>(best);
}

Result<uint32_t> checkStep(const plan::Plan &plan, std::span<const Batch> microBatches) {
  for (const Batch &batch : microBatches)
    DISTC_TRY(checkBatch(plan, batch));
  return chooseProgram(plan, microBatches);
}

Status checkBatch(const plan::Plan &plan, const Batch &batch) {
  const size_t tokens = batch.tokens.size();
  if (tokens == 0)
    return wrong("no tokens");
  if (batch.positions.size() != tokens)
    return wrong(std::to_string(batch.positions.size()) + " positions for " + std::to_string(tokens) + " tokens");
  for (size_t t = 0; t < tokens; ++t) {
    if (batch.tokens[t] < 0 || batch.tokens[t] >= int64_t(plan.model()->vocabulary()))
      return outside("tokens", t, batch.tokens[t], plan.model()->vocabulary());
    if (batch.positions[t] < 0 || batch.positions[t] >= int64_t(plan.limits()->max_sequence()))
      return outside("positions", t, batch.positions[t], plan.limits()->max_sequence());
  }
  DISTC_TRY(checkSequences(plan, batch));
  DISTC_TRY(checkOutputs(batch));
  // Sequences have at least a token each and outputs increase, so equal counts are one token and one output for each.
  if (batch.decode && (batch.sequenceStarts.size() - 1 != tokens || batch.outputs.size() != tokens))
    return wrong("a decode step has one token and one output for each sequence; here are " + std::to_string(tokens) +
                 " tokens, " + std::to_string(batch.sequenceStarts.size() - 1) + " sequences, " +
                 std::to_string(batch.outputs.size()) + " outputs");
  return {};
}

} // namespace distc
