// Which places go to which expert, listed once for all products of a layer. A block for each expert counts the places
// of all, which says where its own begin, and writes these in their order; blocks do not wait for each other.
#include "kernels/cuda/ExpertTiles.cuh"
#include "kernels/cuda/Hopper.cuh"

namespace distc::cuda {
namespace {

constexpr int threads = 512, warps = threads / warpSize;

__global__ void __launch_bounds__(threads) listKernel(const float2 *routes, int places, ExpertLists lists) {
  __shared__ int counts[maxListedExperts], ofWarp[warps], sums[warps];
  const int experts = int(gridDim.x), expert = int(blockIdx.x);
  const int lane = int(threadIdx.x) % warpSize, warp = int(threadIdx.x) / warpSize;
  letNextStart();
  for (int e = int(threadIdx.x); e < experts; e += threads)
    counts[e] = 0;
  __syncthreads();
  waitForPrevious();

  // A warp looks at places that follow each other, once to count and once to write.
  const int each = (places + threads - 1) / threads * warpSize, begin = warp * each, end = min(begin + each, places);
  const auto idOf = [&](int place) { return place < end ? int(routes[place].y) : -1; };
  int mine = 0;
#pragma unroll 4
  for (int place = begin + lane; place - lane < end; place += warpSize) {
    const int id = idOf(place);
    if (id >= 0)
      atomicAdd(&counts[id], 1);
    mine += __popc(__ballot_sync(allLanes, id == expert));
  }
  if (lane == 0)
    ofWarp[warp] = mine;
  __syncthreads();

  int before = 0, tilesBefore = 0;
  for (int e = int(threadIdx.x); e < expert; e += threads) {
    before += counts[e];
    tilesBefore += ExpertTile{e, 0, 0, counts[e]}.tiles();
  }
  const int start = reduceBlock(before, sums, Plus());
  const ExpertTile tile{expert, reduceBlock(tilesBefore, sums, Plus()), start, counts[expert]};
  for (int t = int(threadIdx.x); t < tile.tiles(); t += threads)
    lists.tiles[tile.first + t] = tile;
  if (expert == experts - 1 && threadIdx.x == 0)
    *lists.tileCount = tile.first + tile.tiles();

  int at = start;
  for (int w = 0; w < warp; ++w)
    at += ofWarp[w];
#pragma unroll 4
  for (int place = begin + lane; place - lane < end; place += warpSize) {
    const bool isMine = idOf(place) == expert;
    const unsigned lanes = __ballot_sync(allLanes, isMine);
    if (isMine)
      lists.places[at + __popc(lanes & ((1u << lane) - 1))] = place;
    at += __popc(lanes);
  }
}

} // namespace

int64_t expertListBytes(int64_t places, int64_t experts) {
  return (1 + ExpertLists::maxTiles(places, experts)) * int64_t(sizeof(ExpertTile)) + places * int64_t(sizeof(int));
}

cudaError_t listExperts(const float *routes, int64_t places, int64_t experts, void *lists, cudaStream_t stream) {
  if (places <= 0)
    return cudaSuccess;
  if (places > INT32_MAX / 2 || experts < 1 || experts > maxListedExperts || !aligned16(lists))
    return cudaErrorInvalidValue;
  return launchOverlapped(stream, listKernel, dim3(unsigned(experts)), threads, 0, 1,
                          reinterpret_cast<const float2 *>(routes), int(places), ExpertLists(lists, places, experts));
}

} // namespace distc::cuda
