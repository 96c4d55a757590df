#include "runtime/plan/BufferRows.h"
#include "runtime/verify/Operands.h"
#include "test/mutate/Faults.h"

#include <algorithm>
#include <map>

namespace distc::mutate {

namespace {

uint64_t align(uint64_t bytes) { return (bytes + 255) / 256 * 256; }

void settleProgram(plan::ProgramT &p) {
  for (plan::Buffer &b : p.buffers) {
    if (b.parent() >= 0)
      continue;
    // Each chunk is as large as the first.
    plan::Buffer first(0, 0, b.row_elements(), -1, b.times(), b.shards(), 0, b.chunks(), b.rows(), b.dtype());
    const uint64_t bytes = rowsOf(first, p.max_tokens, p.max_outputs).count * b.row_elements() * dtypeBytes(b.dtype());
    b = plan::Buffer(b.offset(), bytes, b.row_elements(), b.parent(), b.times(), b.shards(), b.chunk(), b.chunks(),
                     b.rows(), b.dtype());
    if (bytes < (uint64_t(1) << 40) && b.offset() < (uint64_t(1) << 40))
      p.arena_bytes = std::max(p.arena_bytes, (b.offset() + bytes + 15) / 16 * 16);
  }
  p.values.resize(p.values.empty() ? 0 : p.buffers.size());
  for (auto &value : p.values)
    if (!value)
      value = std::make_unique<plan::ValueInfoT>();
  p.labels.resize(p.labels.empty() ? 0 : p.instructions.size());
}

} // namespace

void settle(plan::PlanT &plan) {
  plan::LedgerT &ledger = *plan.ledger;
  ledger = {};
  for (auto &program : plan.programs) {
    settleProgram(*program);
    ledger.arena = std::max(ledger.arena, program->arena_bytes * program->micro_batches);
  }
  for (auto &weight : plan.weights) {
    weight->bytes = dtypeBytes(weight->dtype);
    for (uint64_t extent : weight->shape)
      weight->bytes *= extent;
    if (weight->placement == plan::Placement::Map)
      ledger.weights_mapped += weight->bytes;
    else
      ledger.weights_loaded = std::max(ledger.weights_loaded, align(weight->offset + weight->bytes));
  }
  for (auto &cache : plan.kv->caches) {
    cache->bytes = uint64_t(plan.kv->blocks) * 2 * cache->heads * plan.kv->block_tokens * cache->head_dim *
                   dtypeBytes(cache->dtype);
    ledger.kv = std::max(ledger.kv, align(cache->offset + cache->bytes));
  }
  for (const auto &table : plan.rope_tables)
    ledger.tables += uint64_t(plan.limits->max_sequence) * table->inv_freq.size() * 8;
}

void renumber(Payloads &payloads) {
  for (std::vector<uint8_t> &payload : payloads)
    for (const plan::Program *program : *planOf(payload).programs()) {
      std::map<std::tuple<uint64_t, uint64_t, bool>, uint64_t> next; // by group, peer, direction
      for (const plan::Instruction *it : *program->instructions()) {
        uint64_t group = 0, peer = ~uint64_t(0);
        const Field *sequence = nullptr;
        const std::vector<Field> fields = fieldsOfOp(*it);
        for (const Field &field : fields) {
          if (field.path == "group")
            group = field.integer();
          else if (field.path == "peer")
            peer = field.integer();
          else if (field.path == "sequence")
            sequence = &field;
        }
        if (sequence)
          sequence->set(next[{group, peer, it->op_type() == plan::Op::Send}]++);
      }
    }
}

} // namespace distc::mutate
