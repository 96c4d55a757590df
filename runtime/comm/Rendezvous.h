// Rendezvous: the members of one group meet, work on each other's buffers, and part.
#pragma once

#include "runtime/comm/World.h"

namespace distc {

enum class Collective : uint8_t { AllReduce, AllGather, ReduceScatter };

/// What one member brings.
struct Contribution {
  Collective kind;
  plan::ReduceOp op;
  plan::DType dtype;
  const void *in;
  size_t inCount;
  void *out;
  size_t outCount;
  CommCall call;
  CommMemory::Event ready; // `in` holds what it should, and `out` may be written
  CommMemory::Event done;  // recorded before part(): this member's work is done
};

class Rendezvous {
public:
  Rendezvous(World &world, CommGroup group);

  const CommGroup &group() const { return group_; }

  /// Waits until every member is here and all agree. Contributions then stay valid until part(): each member that was
  /// told ok must call it, and may do nothing in between that waits.
  Status meet(uint32_t member, const Contribution &mine);
  const std::vector<Contribution> &contributions() const { return contributions_; }
  /// Waits until every member is done with the others' buffers.
  void part();

  void wake();

private:
  std::string describe(uint32_t member) const;
  std::string missing() const;
  Status compare() const;

  World &world_;
  const CommGroup group_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Contribution> contributions_;
  std::vector<bool> here_;
  uint32_t arrived_ = 0, parted_ = 0;
  std::atomic<uint64_t> meetings_{0}, partings_{0};
};

} // namespace distc
