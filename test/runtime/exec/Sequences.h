// Sequences that grow batch by batch, in blocks scattered over the pool.
#pragma once

#include "TinyModel.h"
#include "distc/Runner.h"

namespace distc::test {

struct Sequence {
  std::vector<int32_t> tokens; // all that it will have
  size_t done = 0;             // of them in the cache
  std::vector<int32_t> blocks = std::vector<int32_t>(TinyModel::kBlocksPerSequence, -1);
};

/// `count` sequences of random tokens of lengths up to the limit, their blocks shuffled.
inline std::vector<Sequence> randomSequences(std::mt19937 &random, size_t count, size_t length, size_t kvBlocks = 24) {
  std::vector<int32_t> free(kvBlocks);
  for (size_t i = 0; i < free.size(); ++i)
    free[i] = static_cast<int32_t>(i);
  std::shuffle(free.begin(), free.end(), random);
  std::vector<Sequence> sequences(count);
  for (Sequence &sequence : sequences) {
    for (size_t i = 0; i < length; ++i)
      sequence.tokens.push_back(static_cast<int32_t>(random() % TinyModel::kVocabulary));
    for (size_t b = 0; b * TinyModel::kBlockTokens < length; ++b) {
      sequence.blocks[b] = free.back();
      free.pop_back();
    }
  }
  return sequences;
}

/// One step: the next `counts[s]` tokens of each sequence s (none where 0), an output at the last of each.
inline Batch makeBatch(std::vector<Sequence *> sequences, const std::vector<size_t> &counts, bool decode) {
  Batch batch;
  batch.decode = decode;
  batch.wantLogits = true;
  batch.sequenceStarts = {0};
  for (size_t s = 0; s < sequences.size(); ++s) {
    Sequence &sequence = *sequences[s];
    if (counts[s] == 0)
      continue;
    for (size_t i = 0; i < counts[s]; ++i, ++sequence.done) {
      batch.tokens.push_back(sequence.tokens[sequence.done]);
      batch.positions.push_back(static_cast<int32_t>(sequence.done));
    }
    batch.sequenceStarts.push_back(static_cast<int32_t>(batch.tokens.size()));
    batch.blockTable.insert(batch.blockTable.end(), sequence.blocks.begin(), sequence.blocks.end());
    batch.outputs.push_back(static_cast<int32_t>(batch.tokens.size()) - 1);
    batch.sampling.emplace_back();
  }
  return batch;
}

/// ‖out - expected‖ / ‖expected‖ of one row of logits.
inline double rowError(const StepResult &result, size_t row, const std::vector<double> &expected) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = result.logits[row * expected.size() + i] - expected[i];
    error += difference * difference;
    norm += expected[i] * expected[i];
  }
  return std::sqrt(error / norm);
}

} // namespace distc::test
