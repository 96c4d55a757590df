// Clusters of cooperative groups, for emulation.
#pragma once

#include "Emulator.h"

namespace cooperative_groups {

struct cluster_group {
  unsigned num_blocks() const { return unsigned(distc::emulation::clusterBlocks); }
  unsigned block_rank() const { return unsigned(distc::emulation::clusterRank); }
  uint64_t barrier_arrive() const { return distc::emulation::arriveCluster(); }
  void barrier_wait(uint64_t ticket) const { distc::emulation::waitCluster(ticket); }
  void sync() const { barrier_wait(barrier_arrive()); }
  template <class T> T *map_shared_rank(T *p, int rank) const {
    return static_cast<T *>(distc::emulation::atBlock(p, rank));
  }
};
inline cluster_group this_cluster() { return {}; }

} // namespace cooperative_groups
