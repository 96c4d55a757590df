// A stage of matrix-vector products for up to 16 tokens. A block is one multiprocessor's share: a producer warp streams
// its tiles of 16 rows and 512 columns through a ring in shared memory; eight warps multiply them on the tensor cores,
// with the weights as the operand of 16 rows and the tokens as those of 8 columns. The tiles come column block by
// column block, so a warp needs x for its 64 columns of one block at a time, whatever the width of x; the sums of all
// tiles stand in registers. Nothing of the weights waits for the stage before: the ring is filled while that one ends.
//
// Each variant is a kernel of its own, for the sake of short code: the kernels of a step take turns, and one that does
// not find its instructions in the multiprocessor's cache waits for memory at each line of them.
#include "kernels/cuda/StageConsumer.cuh"

namespace distc::cuda {
namespace {

/// And the producer's warp; of many tokens a group of warps, of which three give their registers away.
__host__ __device__ constexpr int threadsOf(int groups) {
  return stageConsumers + (groups == 1 ? warpSize : warpGroup);
}
constexpr int minScratchBytes = 16 * 1024;
constexpr int maxGroups = narrowTokens / 8;
/// A weight may have any number of rows, and the norm be a layer norm.
constexpr bool isOfRows(StageForm form) { return form == StageForm::Rows || form == StageForm::Activated; }

/// Tiles that a block takes at a time. Code is short where there are few.
constexpr int fewTiles = 4;
__host__ __device__ constexpr int passTilesOf(int maxTiles) { return maxTiles <= fewTiles ? fewTiles : maxPassTiles; }

/// The norm's weights and x, later sums.
__host__ __device__ inline int scratchBytes(const MatrixStage &s, const StageInput &in, Prologue p, int groups) {
  const int inputs = stageWarps * inputDepth(groups) * (hasAddend(p) ? 2 : 1) * 2 * in.tokens * 64;
  const int bytes = normBytes(s, p) + inputs;
  return bytes < minScratchBytes ? minScratchBytes : (bytes + 127) / 128 * 128;
}
/// Behind the ring and the scratch.
__host__ __device__ constexpr int stateBytes(StageForm form) {
  return int(sizeof(StageShared) + (isOfExperts(form) ? sizeof(StageExperts) : 0));
}
__host__ __device__ inline int slotsOf(const MatrixStage &s, const StageInput &in, Prologue p, int groups) {
  const int room = blockSharedBytes - stateBytes(s.form) - scratchBytes(s, in, p, groups);
  return (s.ringBytes < room ? s.ringBytes : room) / tileBytes;
}

template <class T, StageForm Form, Prologue P, int Groups, int PassTiles>
__global__ void __launch_bounds__(threadsOf(Groups), 1)
    matrixStageKernel(const __grid_constant__ MatrixStage stage, const __grid_constant__ StageInput input) {
  unsigned char *dynamic = dynamicShared(); // the ring, the scratch, StageShared, StageExperts
  letNextStart();
  const int slots = slotsOf(stage, input, P, Groups), scratchSize = scratchBytes(stage, input, P, Groups);
  float *scratch = reinterpret_cast<float *>(dynamic + slots * tileBytes);
  StageShared &shared = *reinterpret_cast<StageShared *>(dynamic + slots * tileBytes + scratchSize);
  StageExperts *experts = nullptr;
  if constexpr (isOfExperts(Form))
    experts = reinterpret_cast<StageExperts *>(&shared + 1);
  static_assert(blockSharedBytes / tileBytes <= warpSize);
  if (threadIdx.x < warpSize) { // one warp, for which the norm's barrier is there long before it is for the block
    if (int(threadIdx.x) < slots) {
      initBarrier(&shared.full[threadIdx.x], 1);
      initBarrier(&shared.empty[threadIdx.x], stageWarps);
    }
    if (threadIdx.x == 0) {
      initBarrier(&shared.norm, 1);
      shared.lists.init(stageConsumers);
    }
    fenceBarriers();
    __syncwarp();
    if (P != Prologue::None && threadIdx.x == 0)
      loadNorm<P>(stage, &shared.norm, scratch); // first of all: the ring would delay it
  }
  if constexpr (isOfExperts(Form)) { // which weights are streamed is told by the router
    waitForPrevious();
    findExperts(stage, input.tokens, *experts);
  }
  __syncthreads();
  if (threadIdx.x >= stageConsumers) {
    if constexpr (Groups > 1)
      fewerRegisters<56>();
    if (threadIdx.x < stageConsumers + warpSize)
      produce<Form>(stage, experts, shared, sharedAddress(dynamic), slots, PassTiles,
                    stage.next ? passTilesOf(stage.next->maxTiles) : 0);
  } else {
    if constexpr (Groups > 1)
      moreRegisters<224>();
    StageConsumer<T, Form, P, Groups, PassTiles>(stage, input, experts, shared, sharedAddress(dynamic), slots, scratch,
                                                 scratchSize)
        .run();
  }
}

template <class T, StageForm Form, Prologue P, int Groups, int PassTiles>
cudaError_t launchStage(const MatrixStage &stage, const StageInput &input, cudaStream_t stream) {
  constexpr auto kernel = matrixStageKernel<T, Form, P, Groups, PassTiles>;
  if (const cudaError_t error = prepareStage<matrixStageKernel<T, Form, P, Groups, PassTiles>>(blockSharedBytes);
      error != cudaSuccess)
    return error;
  const size_t bytes =
      size_t(slotsOf(stage, input, P, Groups)) * tileBytes + scratchBytes(stage, input, P, Groups) + stateBytes(Form);
  return launchOverlapped(stream, kernel, dim3(unsigned(stage.sms)), threadsOf(Groups), bytes, 1, stage, input);
}

template <class T, StageForm Form, Prologue P, int Groups>
cudaError_t launchGroups(const MatrixStage &stage, const StageInput &input, cudaStream_t stream) {
  return stage.maxTiles <= fewTiles ? launchStage<T, Form, P, Groups, fewTiles>(stage, input, stream)
                                    : launchStage<T, Form, P, Groups, maxPassTiles>(stage, input, stream);
}

template <class T, StageForm Form, Prologue P>
cudaError_t launchPrologue(const MatrixStage &stage, const StageInput &input, cudaStream_t stream) {
  return input.tokens <= 8 ? launchGroups<T, Form, P, 1>(stage, input, stream)
                           : launchGroups<T, Form, P, maxGroups>(stage, input, stream);
}

Prologue prologueOf(const MatrixStage &stage, const StageInput &input) {
  if (!stage.norm)
    return Prologue::None;
  return stage.layerNorm ? input.addend ? Prologue::AddLayerNorm : Prologue::LayerNorm
         : input.addend  ? Prologue::AddNorm
                         : Prologue::Norm;
}

template <class T, StageForm Form>
cudaError_t launchForm(const MatrixStage &stage, const StageInput &input, cudaStream_t stream) {
  const Prologue p = prologueOf(stage, input);
  if constexpr (isOfRows(Form)) {
    if (p == Prologue::LayerNorm)
      return launchGroups<T, Form, Prologue::LayerNorm, 1>(stage, input, stream);
    if (p == Prologue::AddLayerNorm)
      return launchGroups<T, Form, Prologue::AddLayerNorm, 1>(stage, input, stream);
  }
  return p == Prologue::None   ? launchPrologue<T, Form, Prologue::None>(stage, input, stream)
         : p == Prologue::Norm ? launchPrologue<T, Form, Prologue::Norm>(stage, input, stream)
                               : launchPrologue<T, Form, Prologue::AddNorm>(stage, input, stream);
}

} // namespace

bool matrixStageSuits(const MatrixStage &s, const StageInput &in) {
  if (s.type == Type::F32 || s.cols <= 0 || s.cols % stageColumns != 0 || s.sms <= 0 ||
      (s.maxTiles < 1 && s.form != StageForm::ExpertGlu) || s.weightCount < 1 || s.weightCount > 3 ||
      (s.norm && s.cols > maxNormColumns / (s.layerNorm ? 2 : 1)) ||
      (s.layerNorm && (!s.norm || in.tokens > layerNormTokens || !isOfRows(s.form))) || s.ringBytes > maxRingBytes ||
      s.ringBytes % tileBytes != 0 || in.tokens < 1 || in.tokens > stageTokens || (in.addend && !s.norm) ||
      (s.form == StageForm::Glu && s.weightCount != 2) ||
      (s.form == StageForm::Activated && (s.weightCount != 1 || s.weights[0].residual.data || s.factor != 1)) ||
      (s.form == StageForm::Qkv && (s.weightCount != 3 || s.headDim % 4 != 0 || s.cache.type != s.type ||
                                    s.cache.headDim != s.headDim || s.weights[1].rows != s.cache.heads * s.headDim)))
    return false;
  if (isOfExperts(s.form) &&
      (s.count < 1 || s.count > s.experts || in.tokens > expertTokens || in.tokens * s.count > expertPlaces || s.norm ||
       s.weightCount != (s.form == StageForm::ExpertGlu ? 2 : 1) || int64_t(s.experts) * s.weights[0].rows > INT32_MAX))
    return false;
  if (in.tokens <= narrowTokens && slotsOf(s, in, prologueOf(s, in), in.tokens <= 8 ? 1 : maxGroups) < 2)
    return false;
  for (int i = 0; i < s.weightCount; ++i)
    if (s.weights[i].rows <= 0 || (!isOfRows(s.form) && s.weights[i].rows % unitRows(s.form) != 0))
      return false;
  return aligned16(in.x, s.norm, s.normBias) && (!in.addend || aligned16(in.addend, in.sum));
}

cudaError_t matrixStage(const MatrixStage &stage, const StageInput &input, cudaStream_t stream) {
  if (input.tokens == 0)
    return cudaSuccess;
  if (!matrixStageSuits(stage, input))
    return cudaErrorInvalidValue;
  if (input.tokens > narrowTokens)
    return wideStage(stage, input, stream);
  return withType(stage.type, [&](auto element) {
    using T = decltype(element);
    if constexpr (std::is_same_v<T, float>)
      return cudaErrorInvalidValue;
    else if (stage.form == StageForm::Rows)
      return launchForm<T, StageForm::Rows>(stage, input, stream);
    else if (stage.form == StageForm::Activated)
      return launchForm<T, StageForm::Activated>(stage, input, stream);
    else if (stage.form == StageForm::Glu)
      return launchForm<T, StageForm::Glu>(stage, input, stream);
    else if (stage.form == StageForm::ExpertGlu) // many tiles of few rows each
      return launchStage<T, StageForm::ExpertGlu, Prologue::None, 1, maxPassTiles>(stage, input, stream);
    else if (stage.form == StageForm::ExpertSum)
      return launchGroups<T, StageForm::ExpertSum, Prologue::None, 1>(stage, input, stream);
    else
      return launchForm<T, StageForm::Qkv>(stage, input, stream);
  });
}

} // namespace distc::cuda
