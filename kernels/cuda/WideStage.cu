// A stage of matrix products for 17 to 64 tokens, on Hopper's tensor cores for warp groups. As in MatrixStage.cu a
// block is one multiprocessor's share and streams its tiles through a ring in shared memory; here in chunks of 256
// columns, four tiles together: the operand of 64 rows. x is the other one, 32 or 64 tokens, of which chunks come
// through a ring of their own. All sums of up to 16 tiles stand in registers, so x is read once for them.
//
// Roles: a warp copies weights, a thread copies x; a warp group multiplies; two more make x an operand where there is a
// norm, and finish the results.
//
// The order of a sum: chunk after chunk, 16 columns after 16 columns. It depends on the number of columns alone.
#include "kernels/cuda/WideStage.h"

#include "kernels/cuda/TensorMap.h"
#include "kernels/cuda/WideStage.cuh"

#include <algorithm>

namespace distc::cuda {
namespace {

constexpr int threads = 2 * warpGroup + helperThreads;
constexpr int underWayBytes = 6 * tileBytes; // of weights: 4 tiles keep memory busy; with 13, x comes late
constexpr int allInputBytes = 96 * 1024;     // of x
constexpr int widths[] = {32, 64};           // N

__host__ __device__ constexpr int scratchBytesOf(int n) { return groupTiles * tileRows * n * int(sizeof(float)); }

int widthOf(int tokens) { return tokens <= widths[0] ? widths[0] : widths[1]; }

/// How a block divides its memory.
WideInput layout(const MatrixStage &s, const StageInput &in) {
  const int n = widthOf(in.tokens), perInput = n * chunkColumns * 2 * (in.addend ? 2 : 1);
  WideInput w{};
  w.inputs = std::clamp(allInputBytes / perInput, 2, maxInputs);
  const int rest = blockSharedBytes - int(sizeof(WideShared)) - scratchBytesOf(n) -
                   w.inputs * (perInput + (s.norm ? chunkColumns * int(sizeof(float)) : 0));
  w.slotBytes = std::min(s.maxTiles, groupTiles) * tileRows * chunkColumns * 2;
  w.slots = std::min(maxWideSlots, std::min(std::max(s.ringBytes, 2 * w.slotBytes), rest) / w.slotBytes);
  w.window = std::min(w.slots, underWayBytes / w.slotBytes);
  return w;
}

template <class T, StageForm Form, class Shape>
__global__ void __launch_bounds__(threads, 1)
    wideStageKernel(const __grid_constant__ MatrixStage stage, const __grid_constant__ StageInput input,
                    const __grid_constant__ WideInput wide) {
  unsigned char *dynamic = dynamicShared(); // the ring, x, the norm's weights, the scratch, WideShared
  letNextStart();
  WideMemory memory;
  int at = wide.slots * wide.slotBytes;
  memory.ring = sharedAddress(dynamic);
  memory.inputs = memory.ring + at;
  at += wide.inputs * Shape::inputBytes;
  memory.norms = memory.ring + at;
  at += Shape::withNorm ? wide.inputs * Shape::normBytes : 0;
  memory.scratch = reinterpret_cast<float *>(dynamic + at);
  at += scratchBytesOf(Shape::N);
  memory.shared = reinterpret_cast<WideShared *>(dynamic + at);
  WideShared &shared = *memory.shared;
  if (int(threadIdx.x) < wide.slots) {
    initBarrier(&shared.full[threadIdx.x], 1);
    initBarrier(&shared.empty[threadIdx.x], 1);
  }
  if (int(threadIdx.x) < wide.inputs) {
    initBarrier(&shared.landed[threadIdx.x], 1);
    initBarrier(&shared.ready[threadIdx.x], helperThreads);
    initBarrier(&shared.taken[threadIdx.x], 1);
  }
  if (threadIdx.x == 0)
    shared.lists.init(helperThreads + warpGroup);
  fenceBarriers();
  __syncthreads();
  if (threadIdx.x < warpGroup) {
    fewerRegisters<40>();
    if (threadIdx.x < warpSize)
      streamWeights<Form, Shape>(stage, wide, memory);
    else if (threadIdx.x == warpSize)
      streamInput<Shape>(stage, wide, memory);
    __syncwarp();
  } else if (threadIdx.x < 2 * warpGroup) {
    moreRegisters<208>();
    multiplyTiles<T, Shape>(stage, input, wide, memory);
  } else {
    WideHelper<T, Form, Shape>(stage, input, wide, memory).run();
  }
}

template <class T, StageForm Form, class Shape>
cudaError_t launchStage(const MatrixStage &s, const StageInput &in, cudaStream_t stream) {
  constexpr auto kernel = wideStageKernel<T, Form, Shape>;
  WideInput w = layout(s, in);
  const auto map = [&](const void *x, CUtensorMap &to) {
    return mapMatrix({x, s.type, in.tokens, s.cols, s.cols}, Shape::N, to);
  };
  cudaError_t error = map(in.x, w.x);
  if (error == cudaSuccess && Shape::withAddend)
    error = map(in.addend, w.addend);
  if (error == cudaSuccess)
    error = prepareStage<wideStageKernel<T, Form, Shape>>(blockSharedBytes);
  if (error != cudaSuccess)
    return error;
  const size_t bytes = size_t(w.slots) * w.slotBytes +
                       size_t(w.inputs) * (Shape::inputBytes + (Shape::withNorm ? Shape::normBytes : 0)) +
                       scratchBytesOf(Shape::N) + sizeof(WideShared);
  return launchOverlapped(stream, kernel, dim3(unsigned(s.sms)), threads, bytes, 1, s, in, w);
}

template <class T, StageForm Form, Prologue P>
cudaError_t launchPrologue(const MatrixStage &s, const StageInput &in, cudaStream_t stream) {
  return withBool(s.maxTiles <= groupTiles, [&](auto few) {
    constexpr int groups = few.value ? 1 : maxGroups; // short code where there are few tiles
    return widthOf(in.tokens) == widths[0] ? launchStage<T, Form, WideShape<P, widths[0], groups>>(s, in, stream)
                                           : launchStage<T, Form, WideShape<P, widths[1], groups>>(s, in, stream);
  });
}

template <class T, StageForm Form>
cudaError_t launchForm(const MatrixStage &s, const StageInput &in, cudaStream_t stream) {
  if (!s.norm)
    return launchPrologue<T, Form, Prologue::None>(s, in, stream);
  return in.addend ? launchPrologue<T, Form, Prologue::AddNorm>(s, in, stream)
                   : launchPrologue<T, Form, Prologue::Norm>(s, in, stream);
}

} // namespace

cudaError_t wideStage(const MatrixStage &stage, const StageInput &input, cudaStream_t stream) {
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
    else
      return launchForm<T, StageForm::Qkv>(stage, input, stream);
  });
}

} // namespace distc::cuda
