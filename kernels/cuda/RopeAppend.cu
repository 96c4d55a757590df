// What stands between the projections and attention, in one pass: queries are rotated, keys are rotated into the cache,
// values go there as they are. A block for each token; a thread has eight pairs of one head at a time.
#include "kernels/cuda/Hopper.cuh"
#include "kernels/cuda/Rope.cuh"

namespace distc::cuda {
namespace {

constexpr int threads = 128;

template <class T> struct Arguments {
  const T *q, *k, *v;
  const float *cosSin;
  int heads;
  bool split;
  KvView cache;
  BatchView batch;
  T *y;
};

template <class T> __global__ void __launch_bounds__(threads) ropeAppendKernel(const Arguments<T> a) {
  letNextStart();
  waitForPrevious();
  const int64_t t = blockIdx.x;
  const int kvHeads = int(a.cache.heads), dim = int(a.cache.headDim), half = dim / 2, chunks = half / pairs;
  const int position = a.batch.positions[t], blockTokens = int(a.cache.blockTokens);
  const int64_t block = a.batch.blockTables[a.batch.sequenceOf[t] * a.batch.blocksPerSequence + position / blockTokens];
  const int64_t plane = int64_t(kvHeads) * blockTokens * dim;
  T *const slot = static_cast<T *>(a.cache.data) + block * 2 * plane + position % blockTokens * dim;
  for (int i = int(threadIdx.x); i < (a.heads + 2 * kvHeads) * chunks; i += threads) {
    const int head = i / chunks, first = i % chunks * pairs;
    const int at0 = a.split ? first : 2 * first, at1 = at0 + (a.split ? half : packElements);
    const int kvHead = head - a.heads; // of the keys, then of the values
    const T *from = kvHead < 0         ? a.q + (t * a.heads + head) * dim
                    : kvHead < kvHeads ? a.k + (t * kvHeads + kvHead) * dim
                                       : a.v + (t * kvHeads + kvHead - kvHeads) * dim;
    T *to = kvHead < 0         ? a.y + (t * a.heads + head) * dim
            : kvHead < kvHeads ? slot + int64_t(kvHead) * blockTokens * dim
                               : slot + plane + int64_t(kvHead - kvHeads) * blockTokens * dim;
    float v0[packElements], v1[packElements];
    load8<true>(from + at0, packElements, v0);
    load8<true>(from + at1, packElements, v1);
    if (kvHead < kvHeads) {
      float angles[2 * pairs];
      loadAngles<true>(a.cosSin + (int64_t(position) * half + first) * 2, pairs, angles);
      rotatePairs(angles, a.split, v0, v1);
    }
    store8<true>(to + at0, packElements, v0);
    store8<true>(to + at1, packElements, v1);
  }
}

} // namespace

bool ropeAppendSuits(In q, In k, In v, const float *cosSin, const KvView &cache, Out y) {
  return k.type == q.type && v.type == q.type && cache.type == q.type && y.type == q.type &&
         cache.headDim / 2 % packElements == 0 && cache.headDim % 2 == 0 &&
         aligned16(q.data, k.data, v.data, cosSin, cache.data, y.data);
}

cudaError_t ropeAppend(In q, In k, In v, const float *cosSin, int64_t heads, RopeStyle style, int64_t rows,
                       const KvView &cache, const BatchView &batch, Out y, cudaStream_t stream) {
  if (!ropeAppendSuits(q, k, v, cosSin, cache, y))
    return cudaErrorInvalidValue;
  if (rows <= 0)
    return cudaSuccess;
  return withType(q.type, [&](auto element) {
    using T = decltype(element);
    const Arguments<T> a{static_cast<const T *>(q.data),
                         static_cast<const T *>(k.data),
                         static_cast<const T *>(v.data),
                         cosSin,
                         int(heads),
                         style == RopeStyle::Half,
                         cache,
                         batch,
                         static_cast<T *>(y.data)};
    return launchOverlapped(stream, ropeAppendKernel<T>, dim3(unsigned(rows)), threads, 0, 1, a);
  });
}

} // namespace distc::cuda
