#include "runtime/exec/PlanSetInfo.h"

#include <algorithm>
#include <filesystem>
#include <set>

namespace distc {

namespace {

// Weights that a decode step streams: all that its instructions read whole. An embedding reads single rows.
uint64_t streamedBytes(const plan::Plan &plan) {
  std::set<uint32_t> weights;
  const plan::Program *chosen = nullptr;
  for (const plan::Program *program : *plan.programs())
    if (!chosen || (program->regime() == plan::Regime::Decode && chosen->regime() != plan::Regime::Decode))
      chosen = program;
  if (!chosen)
    return 0;
  for (const plan::Instruction *instruction : *chosen->instructions()) {
    if (const auto *linear = instruction->op_as_Linear()) {
      weights.insert(linear->weight());
      if (linear->bias() >= 0)
        weights.insert(static_cast<uint32_t>(linear->bias()));
    }
    if (const auto *norm = instruction->op_as_RmsNorm())
      weights.insert(norm->weight());
  }
  uint64_t bytes = 0;
  for (uint32_t weight : weights)
    bytes += plan.weights()->Get(weight)->bytes();
  return bytes;
}

uint64_t kvBytesPerToken(const plan::Plan &plan) {
  const uint64_t tokens = uint64_t(plan.kv()->blocks()) * plan.kv()->block_tokens();
  uint64_t bytes = 0;
  for (const plan::KvCache *cache : *plan.kv()->caches())
    bytes += tokens == 0 ? 0 : cache->bytes() / tokens;
  return bytes;
}

} // namespace

PlanSetInfo planSetInfo(std::span<const plan::Plan *const> plans, const std::string &directory) {
  const plan::Plan &first = *plans[0];
  PlanSetInfo info;
  info.model = first.model()->name()->str();
  info.tp = first.mesh()->tp();
  info.pp = first.mesh()->pp();
  info.vocabulary = first.model()->vocabulary();
  info.context = first.model()->context();
  info.maxBatch = first.limits()->max_batch();
  info.maxTokens = first.limits()->max_tokens();
  info.maxSequence = first.limits()->max_sequence();
  info.kvBlockTokens = first.kv()->block_tokens();
  info.kvBlocks = first.kv()->blocks();
  info.blocksPerSequence = first.kv()->blocks_per_sequence();
  for (const plan::Program *program : *first.programs())
    if (program->regime() == plan::Regime::Prefill)
      info.maxOutputs = std::max(info.maxOutputs, program->max_outputs());
  // The plan's folder is what may be read for it: only the last part of the name counts.
  if (first.model()->tokenizer() && first.model()->tokenizer()->size() != 0)
    info.tokenizerPath =
        (std::filesystem::path(directory) / std::filesystem::path(first.model()->tokenizer()->str()).filename())
            .string();
  for (const plan::Plan *plan : plans) {
    info.weightBytes += streamedBytes(*plan);
    info.kvBytesPerToken += kvBytesPerToken(*plan);
  }
  return info;
}

} // namespace distc
