// The GGUF block formats; blocks may start at any address, so every field is read through its bytes. Product and sum
// are rounded one by one, as on the CPU.
#include "kernels/cuda/Device.cuh"

namespace distc::cuda {
namespace {

constexpr int threads = 256;
constexpr int blockElements = 32;

__device__ inline float loadScale(const uint8_t *p) {
  return toFloat(__half(__half_raw{static_cast<unsigned short>(p[0] | p[1] << 8)}));
}

struct Q8_0 {
  static constexpr int bytes = 34;
  /// Elements [first, first + 8) of a block.
  static __device__ void decode(const uint8_t *block, int first, float (&v)[packElements]) {
    const float d = loadScale(block);
#pragma unroll
    for (int i = 0; i < packElements; ++i)
      v[i] = __fmul_rn(d, float(int8_t(block[2 + first + i])));
  }
};

struct Q4_1 {
  static constexpr int bytes = 20;
  static __device__ void decode(const uint8_t *block, int first, float (&v)[packElements]) {
    const float d = loadScale(block), m = loadScale(block + 2);
    const int shift = first < blockElements / 2 ? 0 : 4;
#pragma unroll
    for (int i = 0; i < packElements; ++i)
      v[i] = __fadd_rn(__fmul_rn(d, float(block[4 + first % (blockElements / 2) + i] >> shift & 15)), m);
  }
};

template <class Q, class T, bool Aligned>
__global__ void __launch_bounds__(threads) dequantizeKernel(const uint8_t *source, int64_t n, T *out) {
  const int64_t i = (int64_t(blockIdx.x) * threads + threadIdx.x) * packElements;
  if (i >= n)
    return;
  float v[packElements];
  Q::decode(source + i / blockElements * Q::bytes, int(i % blockElements), v);
  store8<Aligned>(out + i, packElements, v);
}

template <class Q> cudaError_t dequantize(const void *source, int64_t n, Out out, cudaStream_t stream) {
  if (n % blockElements != 0)
    return cudaErrorInvalidValue;
  return withType(out.type, [&](auto element) {
    return withBool(aligned16(out.data), [&](auto vectors) {
      using T = decltype(element);
      return launch(stream, dequantizeKernel<Q, T, vectors.value>, divideUp(n, packElements * threads), threads,
                    static_cast<const uint8_t *>(source), n, static_cast<T *>(out.data));
    });
  });
}

} // namespace

cudaError_t dequantizeQ8_0(const void *source, int64_t n, Out out, cudaStream_t stream) {
  return dequantize<Q8_0>(source, n, out, stream);
}
cudaError_t dequantizeQ4_1(const void *source, int64_t n, Out out, cudaStream_t stream) {
  return dequantize<Q4_1>(source, n, out, stream);
}

} // namespace distc::cuda
