#include "kernels/cuda/Device.cuh"

namespace distc::cuda {
namespace {

constexpr int threads = 128;

/// A block for each token and plane (keys, values); a thread writes eight elements of a head.
template <class A, class C, bool Aligned>
__global__ void kvAppendKernel(const A *k, const A *v, KvView cache, BatchView batch) {
  const int64_t t = blockIdx.x / 2, plane = blockIdx.x % 2;
  const int64_t position = batch.positions[t];
  const int64_t block = batch.blockTables[batch.sequenceOf[t] * batch.blocksPerSequence + position / cache.blockTokens];
  const int64_t chunks = (cache.headDim + packElements - 1) / packElements;
  const A *in = (plane ? v : k) + t * cache.heads * cache.headDim;
  for (int64_t i = threadIdx.x; i < cache.heads * chunks; i += threads) {
    const int64_t head = i / chunks, at = i % chunks * packElements;
    C *slot =
        static_cast<C *>(cache.data) +
        (((block * 2 + plane) * cache.heads + head) * cache.blockTokens + position % cache.blockTokens) * cache.headDim;
    float values[packElements];
    load8<Aligned>(in + head * cache.headDim + at, cache.headDim - at, values);
    store8<Aligned>(slot + at, cache.headDim - at, values);
  }
}

} // namespace

cudaError_t kvAppend(In k, In v, int64_t rows, const KvView &cache, const BatchView &batch, cudaStream_t stream) {
  if (k.type != v.type)
    return cudaErrorInvalidValue;
  const bool aligned = aligned16(k.data, v.data, cache.data) && cache.headDim % packElements == 0;
  return withType(k.type, [&](auto activation) {
    return withType(cache.type, [&](auto element) {
      return withBool(aligned, [&](auto vectors) {
        using A = decltype(activation);
        return launch(stream, kvAppendKernel<A, decltype(element), vectors.value>, 2 * rows, threads,
                      static_cast<const A *>(k.data), static_cast<const A *>(v.data), cache, batch);
      });
    });
  });
}

} // namespace distc::cuda
