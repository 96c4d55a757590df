#include "distc/kernels/Cpu.h"

#include <cstring>

namespace distc::cpu {

void kvAppend(const float *k, const float *v, const KvView &cache, const int32_t *blockTables,
              int64_t blocksPerSequence, const int32_t *sequenceOf, const int32_t *positions, int64_t rowBegin,
              int64_t rowEnd) {
  const int64_t width = cache.headDim, plane = cache.heads * cache.blockTokens * width;
  for (int64_t t = rowBegin; t < rowEnd; ++t) {
    const int64_t position = positions[t];
    const int64_t block = blockTables[sequenceOf[t] * blocksPerSequence + position / cache.blockTokens];
    float *slot = cache.data + block * 2 * plane + position % cache.blockTokens * width;
    for (int64_t h = 0; h < cache.heads; ++h, slot += cache.blockTokens * width) {
      std::memcpy(slot, k + (t * cache.heads + h) * width, width * sizeof(float));
      std::memcpy(slot + plane, v + (t * cache.heads + h) * width, width * sizeof(float));
    }
  }
}

} // namespace distc::cpu
