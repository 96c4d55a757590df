// What stands before the products of experts, as one kernel: the norm of a token, its product with the router's
// weights, and the choice of its experts. A block has eight experts, whose weights are under way before the stage
// before has ended; each block norms the tokens for itself. The last block that is done finds the logits of all, and
// chooses.
#include "distc/kernels/CudaStage.h"
#include "kernels/cuda/Route.cuh"
#include "kernels/cuda/Stage.cuh"

#include <algorithm>

namespace distc::cuda {
namespace {

constexpr int warps = 8; // an expert each
constexpr int threads = warps * warpSize;
constexpr int maxShared = 220 * 1024;

struct Arguments {
  RouterStage stage;
  int tokens;
};

/// Rows of weights, the tokens' rows; later the logits.
int64_t sharedBytes(const RouterStage &s, int tokens) {
  return std::max(int64_t(warps + tokens) * s.cols * 2, int64_t(tokens) * s.experts * int64_t(sizeof(float)));
}

template <class T> __global__ void __launch_bounds__(threads) routerStageKernel(const __grid_constant__ Arguments a) {
  __shared__ float squares[expertTokens][warps];
  __shared__ uint64_t full[warps];
  __shared__ bool isLast;
  const RouterStage &s = a.stage;
  unsigned char *memory = dynamicShared();
  const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
  const int rowBytes = s.cols * 2, packs = s.cols / packElements;
  const int expert = int(blockIdx.x) * warps + warp;
  letNextStart();
  if (lane == 0 && expert < s.experts) {
    initBarrier(&full[warp], 1);
    fenceBarriers();
    arriveExpecting(&full[warp], uint32_t(rowBytes));
    copyBytes(sharedAddress(memory) + uint32_t(warp * rowBytes),
              static_cast<const T *>(s.weights) + int64_t(expert) * s.cols, uint32_t(rowBytes), &full[warp]);
  }
  waitForPrevious();

  T *const rows = reinterpret_cast<T *>(memory + warps * rowBytes);
  for (int t = 0; t < a.tokens; ++t) {
    float sum = 0;
    for (int i = int(threadIdx.x); i < packs; i += threads) {
      const int64_t at = int64_t(t) * s.cols + i * packElements;
      const uint4 raw = loadFresh16(static_cast<const T *>(s.x) + at);
      memcpy(rows + at, &raw, sizeof(raw));
      float v[packElements];
      load8<true>(rows + at, packElements, v);
      if (s.addend) {
        const uint4 other = loadFresh16(static_cast<const T *>(s.addend) + at);
        Pack<T> addend;
        memcpy(&addend, &other, sizeof(other));
#pragma unroll
        for (int j = 0; j < packElements; ++j)
          v[j] = toFloat(fromFloat<T>(v[j] + toFloat(addend.e[j])));
        store8<true>(rows + at, packElements, v);
        if (i % int(gridDim.x) == int(blockIdx.x))
          store8<true>(static_cast<T *>(s.sum) + at, packElements, v);
      }
#pragma unroll
      for (int j = 0; j < packElements; ++j)
        sum = fmaf(v[j], v[j], sum);
    }
    sum = reduceWarp(sum, Plus());
    if (lane == 0)
      squares[t][warp] = sum;
  }
  __syncthreads();
  if (s.norm) // a thread has the elements that it has stored
    for (int t = 0; t < a.tokens; ++t) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < warps; ++w)
        sum += squares[t][w];
      const float scale = rsqrtf(sum / float(s.cols) + s.eps);
      for (int i = int(threadIdx.x); i < packs; i += threads) {
        const int64_t at = int64_t(t) * s.cols + i * packElements;
        float v[packElements], norm[packElements];
        load8<true>(rows + at, packElements, v);
        load8<true>(s.norm + i * packElements, packElements, norm);
#pragma unroll
        for (int j = 0; j < packElements; ++j)
          v[j] = v[j] * scale * (norm[j] + s.normOffset);
        store8<true>(rows + at, packElements, v);
        if (i % int(gridDim.x) == int(blockIdx.x))
          store8<true>(static_cast<T *>(s.normed) + at, packElements, v);
      }
    }
  __syncthreads();
  if (expert < s.experts)
    waitBarrier(&full[warp], 0);

  float sums[expertTokens] = {};
  const T *const mine = reinterpret_cast<const T *>(memory + warp * rowBytes);
  for (int i = lane; i < packs; i += warpSize) {
    float w[packElements];
    load8<true>(mine + i * packElements, packElements, w);
#pragma unroll
    for (int t = 0; t < expertTokens; ++t)
      if (t < a.tokens) {
        float v[packElements];
        load8<true>(rows + t * s.cols + i * packElements, packElements, v);
#pragma unroll
        for (int j = 0; j < packElements; ++j)
          sums[t] = fmaf(v[j], w[j], sums[t]);
      }
  }
#pragma unroll
  for (int t = 0; t < expertTokens; ++t)
    if (t < a.tokens) {
      const float logit = reduceWarp(sums[t], Plus());
      if (lane == 0 && expert < s.experts)
        s.logits[int64_t(t) * s.experts + expert] = logit;
    }

  __threadfence(); // of the logits, before the block is counted
  __syncthreads();
  if (threadIdx.x == 0)
    isLast = atomicAdd(s.arrived, 1u) + 1 == gridDim.x;
  __syncthreads();
  if (!isLast)
    return;
  __threadfence();
  if (threadIdx.x == 0)
    *s.arrived = 0; // for the next stage
  if (warp < a.tokens) {
    float *const logits = reinterpret_cast<float *>(memory) + warp * s.experts; // over the weights
    for (int e = lane; e < s.experts; e += warpSize)
      logits[e] = loadFresh(s.logits + warp * s.experts + e);
    __syncwarp();
    routeRow(logits, s.experts, s.count, s.normalize, s.routes + warp * s.count * 2);
  }
}

} // namespace

bool routerStageSuits(const RouterStage &s, int tokens) {
  static_assert(expertTokens <= warps); // a warp for each token's choice
  static_assert((warps + expertTokens) * maxRouterColumns * 2 <= maxShared);
  static_assert(expertTokens * maxRouterExperts * int(sizeof(float)) <= maxShared);
  return s.type != Type::F32 && tokens >= 1 && tokens <= expertTokens && s.cols > 0 && s.cols % packElements == 0 &&
         s.count >= 1 && s.count <= s.experts && sharedBytes(s, tokens) <= maxShared &&
         aligned16(s.x, s.weights, s.norm, s.normed) && (!s.addend || (s.norm && aligned16(s.addend, s.sum)));
}

cudaError_t routerStage(const RouterStage &stage, int tokens, cudaStream_t stream) {
  if (!routerStageSuits(stage, tokens))
    return cudaErrorInvalidValue;
  const Arguments a{stage, tokens};
  const auto run = [&](auto element) {
    using T = decltype(element);
    if (const cudaError_t error = prepareStage<routerStageKernel<T>>(maxShared); error != cudaSuccess)
      return error;
    return launchOverlapped(stream, routerStageKernel<T>, dim3(unsigned(divideUp(stage.experts, warps))), threads,
                            size_t(sharedBytes(stage, tokens)), 1, a);
  };
  return stage.type == Type::F16 ? run(__half()) : run(__nv_bfloat16());
}

} // namespace distc::cuda
