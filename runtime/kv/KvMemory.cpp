#include "runtime/kv/KvMemory.h"

#include "runtime/schema/PlanFile.h"

namespace distc {

Result<KvMemory> KvMemory::create(const plan::Plan &plan, ThreadPool &pool, const std::atomic<bool> *interrupted) {
  const std::string what = "rank " + std::to_string(plan.mesh()->rank()) + ": KV cache";
  KvMemory result;
  DISTC_ASSIGN(result.memory_, AnonymousMemory::reserve(plan.ledger()->kv(), what));
  DISTC_TRY(result.memory_.commit(pool, what, interrupted));
  const plan::KvPool &kv = *plan.kv();
  for (const plan::KvCache *cache : *kv.caches()) {
    uint64_t bytes = dtypeBytes(cache->dtype()) * 2;
    bool fits = cache->offset() <= result.memory_.size();
    for (uint64_t factor : {kv.blocks(), cache->heads(), kv.block_tokens(), cache->head_dim()})
      fits = fits && !__builtin_mul_overflow(bytes, factor, &bytes);
    if (!fits || bytes != cache->bytes() || bytes > result.memory_.size() - cache->offset())
      return dataLoss(what + " of layer " + std::to_string(cache->layer()) + ": " + std::to_string(cache->bytes()) +
                      " bytes at " + std::to_string(cache->offset()) + " do not hold its blocks in " +
                      std::to_string(result.memory_.size()));
    result.caches_.push_back(result.memory_.data() + cache->offset());
  }
  return result;
}

} // namespace distc
