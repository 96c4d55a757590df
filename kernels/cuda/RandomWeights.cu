// The values of runtime/plan/RandomWeights.cpp, bit for bit: every product there is rounded here too.
#include "kernels/cuda/Device.cuh"
#include "kernels/cuda/Random.cuh"

namespace distc::cuda {
namespace {

constexpr int threads = 256;

template <class T, bool Aligned>
__global__ void __launch_bounds__(threads)
    randomWeightsKernel(Init init, float scale, uint64_t key, uint64_t from, uint64_t fromStride, int64_t rows,
                        int64_t n, T *out, int64_t outStride) {
  const int64_t packs = (n + packElements - 1) / packElements, pack = int64_t(blockIdx.x) * threads + threadIdx.x;
  const int64_t row = pack / packs, i = pack % packs * packElements;
  if (row >= rows)
    return;
  from += uint64_t(row) * fromStride;
  float v[packElements];
#pragma unroll
  for (int j = 0; j < packElements; ++j) {
    const uint64_t bits = mix64(key + (from + i + j + 1) * 0x9E3779B97F4A7C15u) >> 40;
    const float uniform = __fsub_rn(float(bits) * 0x1p-23f, 1 - 0x1p-24f);
    v[j] = init == Init::Uniform ? __fmul_rn(__fmul_rn(uniform, 1.7320508f), scale) : init == Init::Ones ? 1.0f : 0.0f;
  }
  store8<Aligned>(out + row * outStride + i, n - i, v);
}

} // namespace

cudaError_t randomWeights(Init init, float scale, uint64_t key, uint64_t from, uint64_t fromStride, int64_t rows,
                          int64_t n, Out out, int64_t outStride, cudaStream_t stream) {
  const int64_t packs = rows * divideUp(n, packElements);
  return withType(out.type, [&](auto element) {
    return withBool(wholePacks(n, out.data) && (rows == 1 || outStride % packElements == 0), [&](auto vectors) {
      using T = decltype(element);
      return launch(stream, randomWeightsKernel<T, vectors.value>, divideUp(packs, threads), threads, init, scale, key,
                    from, fromStride, rows, n, static_cast<T *>(out.data), outStride);
    });
  });
}

} // namespace distc::cuda
