// The paged KV caches of one rank: one allocation, divided as the plan says.
#pragma once

#include "distc/Status.h"
#include "runtime/base/AnonymousMemory.h"
#include "runtime/base/ThreadPool.h"
#include "runtime/schema/plan_generated.h"

#include <vector>

namespace distc {

class KvMemory {
public:
  /// Allocates ledger.kv bytes, brought in by the pool's threads. Every cache must lie in them.
  static Result<KvMemory> create(const plan::Plan &plan, ThreadPool &pool, const std::atomic<bool> *interrupted);

  /// Cache `index`: [blocks, 2, heads, block_tokens, head_dim].
  std::byte *cache(uint32_t index) const { return caches_[index]; }

private:
  AnonymousMemory memory_;
  std::vector<std::byte *> caches_;
};

} // namespace distc
