// How a block finds the places of its expert: the routes are few beside the weights, so each block looks through them
// for itself, and nothing has to be sorted or counted before.
#pragma once

#include "kernels/cuda/Device.cuh"

namespace distc::cuda {

constexpr int expertThreads = 128;
constexpr int maxListed = 256;

struct ExpertPlaces {
  int list[maxListed + expertThreads];
  int found[expertThreads / warpSize];
};

/// Lists places of the expert from `next` on, ascending, until there are maxListed or none are left; `next` is then
/// behind those that have been looked at. Returns how many. All threads of the block call it, and are done with the
/// list of before.
__device__ inline int findPlaces(ExpertPlaces &shared, const float *routes, int64_t places, int64_t expert,
                                 int64_t &next) {
  const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
  int count = 0;
  for (; next < places && count < maxListed; next += expertThreads) {
    const int64_t place = next + threadIdx.x;
    const bool mine = place < places && int64_t(routes[2 * place + 1]) == expert;
    const unsigned lanes = __ballot_sync(allLanes, mine);
    if (lane == 0)
      shared.found[warp] = __popc(lanes);
    __syncthreads();
    int at = count + __popc(lanes & ((1u << lane) - 1));
    for (int i = 0; i < expertThreads / warpSize; ++i) {
      at += i < warp ? shared.found[i] : 0;
      count += shared.found[i];
    }
    if (mine)
      shared.list[at] = int(place);
    __syncthreads();
  }
  return count;
}

} // namespace distc::cuda
