#include "runtime/exec/StepMessages.h"

#include "runtime/comm/Bytes.h"

#include <algorithm>
#include <cstring>
#include <set>

namespace distc {

std::vector<std::byte> packStep(uint64_t step, uint32_t program, std::span<const Batch> batches) {
  ByteWriter writer;
  writer.put(step).put(program).put(static_cast<uint32_t>(batches.size()));
  for (const Batch &batch : batches)
    writer.put<uint8_t>(batch.decode)
        .put<uint8_t>(batch.wantLogits)
        .put(batch.tokens)
        .put(batch.positions)
        .put(batch.sequenceStarts)
        .put(batch.blockTable)
        .put(batch.lengths)
        .put(batch.outputs)
        .put(batch.sampling);
  return writer.take();
}

Result<StepMessage> unpackStep(std::span<const std::byte> bytes) {
  StepMessage message;
  uint32_t count = 0;
  ByteReader reader(bytes);
  reader.get(message.step).get(message.program).get(count);
  for (uint32_t m = 0; m < count && reader.ok(); ++m) {
    Batch &batch = message.batches.emplace_back();
    uint8_t decode = 0, wantLogits = 0;
    reader.get(decode)
        .get(wantLogits)
        .get(batch.tokens)
        .get(batch.positions)
        .get(batch.sequenceStarts)
        .get(batch.blockTable)
        .get(batch.lengths)
        .get(batch.outputs)
        .get(batch.sampling);
    batch.decode = decode;
    batch.wantLogits = wantLogits;
  }
  if (!reader.atEnd())
    return internal("the step that rank 0 sent cannot be read");
  return message;
}

std::vector<std::byte> packLogits(const plan::Program &program, const std::vector<StepResult> &results,
                                  uint32_t vocabulary) {
  std::set<std::pair<uint32_t, uint32_t>> columns; // (first, count); chunks of the rows have the same ones
  for (const plan::Instruction *instruction : *program.instructions())
    if (const plan::EmitLogits *emit = instruction->op_as_EmitLogits())
      columns.insert({emit->first_column(), emit->valid()});
  if (std::all_of(results.begin(), results.end(), [](const StepResult &r) { return r.logits.empty(); }))
    columns.clear();
  ByteWriter writer;
  for (const auto &[first, count] : columns) {
    writer.put(first).put(count);
    for (const StepResult &result : results)
      for (size_t row = 0; row < result.logits.size(); row += vocabulary)
        writer.raw(result.logits.data() + row + first, count * sizeof(float));
  }
  return writer.take();
}

Status unpackLogits(std::span<const std::byte> bytes, std::vector<StepResult> &results, uint32_t vocabulary) {
  ByteReader reader(bytes);
  while (!reader.atEnd()) {
    uint32_t first = 0, count = 0;
    if (!reader.get(first).get(count).ok() || uint64_t(first) + count > vocabulary)
      return internal("columns of logits cannot be read");
    for (StepResult &result : results)
      for (size_t row = 0; row < result.logits.size(); row += vocabulary) {
        const std::byte *data = reader.raw(count * sizeof(float));
        if (!data)
          return internal("columns of logits cannot be read");
        if (count != 0)
          std::memcpy(result.logits.data() + row + first, data, count * sizeof(float));
      }
  }
  return {};
}

} // namespace distc
