#include "runtime/exec/PlanSetInfo.h"

#include "runtime/schema/PlanFile.h"
#include "runtime/verify/Operands.h"

#include <algorithm>
#include <filesystem>
#include <set>

namespace distc {

namespace {

// What a decode step reads on one rank.
void addDecodeReads(const plan::Plan &plan, PlanSetInfo &info) {
  const plan::Program *chosen = nullptr;
  for (const plan::Program *program : *plan.programs())
    if (!chosen || (program->regime() == plan::Regime::Decode && chosen->regime() != plan::Regime::Decode))
      chosen = program;
  if (!chosen)
    return;
  std::set<int64_t> weights; // all that instructions read whole; an embedding reads single rows
  for (const plan::Instruction *instruction : *chosen->instructions()) {
    const Operands operands = operandsOf(*instruction);
    if (const plan::ExpertLinear *product = instruction->op_as_ExpertLinear()) {
      const plan::Weight &weight = *plan.weights()->Get(product->weight());
      const uint32_t count = chosen->buffers()->Get(product->routes())->row_elements() / 2;
      info.expertBytes[{static_cast<uint32_t>(weight.shape()->Get(0)), count}] += weight.bytes();
    } else if (instruction->op_type() != plan::Op::Embedding && instruction->op_type() != plan::Op::PositionEmbedding)
      weights.insert({operands.weight, operands.bias});
    if (const plan::Attention *attention = instruction->op_as_Attention()) {
      const plan::KvCache &cache = *plan.kv()->caches()->Get(attention->cache());
      info.kvBytesPerToken[attention->window()] += 2ull * cache.heads() * cache.head_dim() * dtypeBytes(cache.dtype());
    }
  }
  for (int64_t weight : weights)
    info.weightBytes += weight < 0 ? 0 : plan.weights()->Get(static_cast<uint32_t>(weight))->bytes();
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
  for (const plan::Program *program : *first.programs()) {
    PlanSetInfo::Limits &limits = program->regime() == plan::Regime::Decode ? info.decode : info.prefill;
    if (uint64_t(program->max_tokens()) * program->micro_batches() >=
        uint64_t(limits.maxTokens) * limits.microBatches) // of several that with the largest step
      limits = {program->micro_batches(), program->max_tokens(), program->max_sequences(), program->max_outputs()};
  }
  // The plan's folder is what may be read for it: only the last part of the name counts.
  if (first.model()->tokenizer() && first.model()->tokenizer()->size() != 0)
    info.tokenizerPath =
        (std::filesystem::path(directory) / std::filesystem::path(first.model()->tokenizer()->str()).filename())
            .string();
  for (const plan::Plan *plan : plans)
    addDecodeReads(*plan, info);
  return info;
}

} // namespace distc
