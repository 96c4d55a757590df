// What stands between the projections and attention, in one pass: queries are normed and rotated, keys are normed and
// rotated into the cache, values go there as they are. Some lanes of a warp have a head; a lane has eight pairs of what
// is rotated, or sixteen elements of what is not, as in Rope.cu.
#include "kernels/cuda/Hopper.cuh"
#include "kernels/cuda/Rope.cuh"

#include <bit>

namespace distc::cuda {
namespace {

constexpr int threads = 128;
constexpr int maxHeadDim = maxAppendHeadDim;
constexpr int64_t manyRows = 256; // as many blocks fill the device; of fewer rows each has several

__host__ __device__ constexpr int turnedChunks(int rotated) { return (rotated / 2 + pairs - 1) / pairs; }
__host__ __device__ constexpr int chunksOf(int headDim, int rotated) {
  return turnedChunks(rotated) + (headDim - rotated + 2 * packElements - 1) / (2 * packElements);
}

template <bool Aligned, class T>
__device__ float squaresOfRow(const void *data, int64_t row, const HeadNorm &norm, float *shared) {
  const T *x = static_cast<const T *>(data) + row * norm.width;
  float sum = 0.0f, v[packElements];
  for (int64_t i = threadIdx.x * packElements; i < norm.width; i += threads * packElements) {
    load8<Aligned>(x + i, norm.width - i, v);
    for (float value : v)
      sum = fmaf(value, value, sum);
  }
  return reduceBlock(sum, shared, Plus());
}

/// `blocks` of a token share its heads, `lanes` of a warp, a power of two, have one at a time.
template <class T, bool Norms, bool Aligned>
__global__ void __launch_bounds__(threads)
    ropeAppendKernel(const RopeAppend a, const KvView cache, const BatchView batch, int blocks, int lanes) {
  __shared__ float shared[threads / warpSize];
  letNextStart();
  const int64_t t = blockIdx.x / unsigned(blocks);
  const int kvHeads = int(cache.heads), dim = int(cache.headDim), heads = int(a.heads), rotated = int(a.rotated);
  const int position = batch.positions[t], blockTokens = int(cache.blockTokens);
  const int64_t block = batch.blockTables[batch.sequenceOf[t] * batch.blocksPerSequence + position / blockTokens];
  const int64_t plane = int64_t(kvHeads) * blockTokens * dim;
  T *const slot = static_cast<T *>(cache.data) + block * 2 * plane + position % blockTokens * dim;

  // Of a head: two packs of this lane, at at0 and at1, of which n0 and n1 elements are wanted.
  const int lane = int(threadIdx.x) % lanes, half = rotated / 2, turned = turnedChunks(rotated);
  const bool turns = lane < turned, split = turns && a.style == RopeStyle::Half;
  const int first = lane * pairs;
  const int at0 = !turns ? rotated + (lane - turned) * 2 * packElements : split ? first : 2 * first;
  const int at1 = at0 + (split ? half : packElements);
  const int n0 = !turns ? dim - at0 : split ? half - first : 2 * (half - first);
  const int n1 = split ? n0 : n0 - packElements;
  float angles[2 * pairs];
  if (turns)
    loadAngles<Aligned>(a.cosSin + (int64_t(a.angleRows[t]) * half + first) * 2, half - first, angles);

  waitForPrevious();
  float squaresQ = 0, squaresK = 0; // of rows, where a norm is of them
  if (Norms && a.normQ.width > dim)
    squaresQ = squaresOfRow<Aligned, T>(a.q.data, t, a.normQ, shared);
  if (Norms && a.normK.width > dim)
    squaresK = squaresOfRow<Aligned, T>(a.k.data, t, a.normK, shared);
  const int items = heads + 2 * kvHeads, atOnce = threads / lanes;
  for (int begin = int(blockIdx.x % unsigned(blocks)) * atOnce; begin < items; begin += blocks * atOnce) {
    const int head = begin + int(threadIdx.x) / lanes;
    const bool valid = head < items && at0 < dim;
    const int kvHead = head - heads; // of the keys, then of the values
    const int ofRow = kvHead < 0 ? head : kvHead < kvHeads ? kvHead : kvHead - kvHeads;
    const T *from = static_cast<const T *>(kvHead < 0         ? a.q.data
                                           : kvHead < kvHeads ? a.k.data
                                                              : a.v.data) +
                    (t * (kvHead < 0 ? heads : kvHeads) + ofRow) * dim;
    float v0[packElements] = {}, v1[packElements] = {};
    if (valid) {
      load8<Aligned>(from + at0, n0, v0);
      load8<Aligned>(from + at1, n1, v1);
    }
    if constexpr (Norms) {
      float squares = 0;
#pragma unroll
      for (int i = 0; i < packElements; ++i)
        squares = fmaf(v1[i], v1[i], fmaf(v0[i], v0[i], squares));
      for (int offset = lanes / 2; offset > 0; offset /= 2)
        squares += __shfl_xor_sync(allLanes, squares, offset);
      const HeadNorm &norm = kvHead < 0 ? a.normQ : a.normK;
      if (valid && kvHead < kvHeads && norm.weight) {
        const bool whole = norm.width > dim;
        const float mean = (!whole ? squares : kvHead < 0 ? squaresQ : squaresK) / float(norm.width);
        const float scale = 1.0f / sqrtf(mean + norm.eps);
        const float *weight = norm.weight + (whole ? ofRow * dim : 0);
        float w0[packElements], w1[packElements];
        load8<Aligned>(weight + at0, n0, w0);
        load8<Aligned>(weight + at1, n1, w1);
#pragma unroll
        for (int i = 0; i < packElements; ++i) {
          v0[i] *= scale * (w0[i] + norm.offset);
          v1[i] *= scale * (w1[i] + norm.offset);
        }
      }
    }
    if (!valid)
      continue;
    if (turns && kvHead < kvHeads)
      rotatePairs(angles, split, v0, v1);
    T *to = kvHead < 0         ? static_cast<T *>(a.y.data) + (t * heads + head) * dim
            : kvHead < kvHeads ? slot + int64_t(ofRow) * blockTokens * dim
                               : slot + plane + int64_t(ofRow) * blockTokens * dim;
    store8<Aligned>(to + at0, n0, v0);
    store8<Aligned>(to + at1, n1, v1);
  }
}

bool suits(const HeadNorm &norm, int64_t headDim, int64_t heads) {
  return !norm.weight || norm.width == headDim || norm.width == headDim * heads;
}

} // namespace

bool ropeAppendSuits(const RopeAppend &a, const KvView &cache) {
  const Type type = a.k.type;
  return a.v.type == type && cache.type == type && (!a.q.data || (a.q.type == type && a.y.type == type)) &&
         (a.q.data != nullptr) == (a.heads > 0) && cache.headDim <= maxHeadDim && a.rotated % 2 == 0 &&
         a.rotated <= cache.headDim && suits(a.normQ, cache.headDim, a.heads) &&
         suits(a.normK, cache.headDim, cache.heads);
}

cudaError_t ropeAppend(const RopeAppend &a, int64_t rows, const KvView &cache, const BatchView &batch,
                       cudaStream_t stream) {
  if (!ropeAppendSuits(a, cache))
    return cudaErrorInvalidValue;
  if (rows <= 0)
    return cudaSuccess;
  const bool aligned =
      a.rotated / 2 % packElements == 0 && (cache.headDim - a.rotated) % (2 * packElements) == 0 &&
      aligned16(a.q.data, a.k.data, a.v.data, a.normQ.weight, a.normK.weight, a.cosSin, cache.data, a.y.data);
  const int lanes = int(std::bit_ceil(unsigned(chunksOf(int(cache.headDim), int(a.rotated)))));
  const int64_t perToken = divideUp((a.heads + 2 * cache.heads) * lanes, threads);
  // Where y is q, a block that sums up a row of q must not see another's heads.
  const bool alone = rows >= manyRows || (a.normQ.width > cache.headDim && a.y.data == a.q.data);
  const int64_t blocks = alone ? 1 : perToken;
  return withType(a.k.type, [&](auto element) {
    return withBool(a.normQ.weight || a.normK.weight, [&](auto norms) {
      return withBool(aligned, [&](auto vectors) {
        using T = decltype(element);
        return launchOverlapped(stream, ropeAppendKernel<T, norms.value, vectors.value>, dim3(unsigned(rows * blocks)),
                                threads, 0, 1, a, cache, batch, int(blocks), lanes);
      });
    });
  });
}

} // namespace distc::cuda
