// The GGUF block formats (WeightType.h; where the bits lie: kernels/cpu/Blocks-inl.h); blocks may start at any address,
// so every field is read through its bytes. A thread takes 8 elements, which share their scales. Products are exact, so
// product and sum give the bits of the CPU.
#include "kernels/cuda/Device.cuh"

namespace distc::cuda {
namespace {

constexpr int threads = 256;

__device__ inline float loadScale(const uint8_t *p) {
  return toFloat(__half(__half_raw{static_cast<unsigned short>(p[0] | p[1] << 8)}));
}

/// v[i] = scale q(i) + offset.
template <class Q> __device__ inline void assign(float scale, float offset, float (&v)[packElements], Q q) {
#pragma unroll
  for (int i = 0; i < packElements; ++i)
    v[i] = __fadd_rn(__fmul_rn(scale, float(q(i))), offset);
}

// decode(block, first, v): elements [first, first + 8) of a block.
struct Q8_0 {
  static constexpr int elements = 32, bytes = 34;
  static __device__ void decode(const uint8_t *b, int first, float (&v)[packElements]) {
    const float d = loadScale(b);
#pragma unroll
    for (int i = 0; i < packElements; ++i)
      v[i] = __fmul_rn(d, float(int8_t(b[2 + first + i])));
  }
};

template <bool HasMinimum, bool HasFifth> struct Nibbles {
  static constexpr int head = HasMinimum ? 4 : 2, elements = 32, bytes = head + (HasFifth ? 4 : 0) + 16;
  static __device__ void decode(const uint8_t *b, int first, float (&v)[packElements]) {
    const float d = loadScale(b), m = HasMinimum ? loadScale(b + 2) : d * (HasFifth ? -16.0f : -8.0f);
    const uint8_t *q = b + bytes - 16 + first % 16;
    const int shift = first < 16 ? 0 : 4, fifth = HasFifth ? b[head + first / 8] : 0;
    assign(d, m, v, [&](int i) { return (q[i] >> shift & 15) | (fifth >> i & 1) << 4; });
  }
};

struct Q2_K {
  static constexpr int elements = 256, bytes = 84;
  static __device__ void decode(const uint8_t *b, int first, float (&v)[packElements]) {
    const uint8_t s = b[first / 16], *q = b + 16 + first / 128 * 32 + first % 32;
    const int shift = first % 128 / 32 * 2;
    assign(loadScale(b + 80) * float(s & 15), -loadScale(b + 82) * float(s >> 4), v,
           [&](int i) { return q[i] >> shift & 3; });
  }
};

struct Q3_K {
  static constexpr int elements = 256, bytes = 110;
  static __device__ void decode(const uint8_t *b, int first, float (&v)[packElements]) {
    const int g = first / 16, shift = first % 128 / 32 * 2, bit = first / 32;
    const uint8_t *s = b + 96, *h = b + first % 32, *q = b + 32 + first / 128 * 32 + first % 32;
    const int low = g < 8 ? s[g] & 15 : s[g - 8] >> 4, high = s[8 + g % 4] >> (2 * (g / 4)) & 3;
    const float scale = loadScale(b + 108) * float((low | high << 4) - 32);
    assign(scale, -4.0f * scale, v, [&](int i) { return (q[i] >> shift & 3) | (h[i] >> bit & 1) << 2; });
  }
};

template <bool HasFifth> struct Pairs {
  static constexpr int elements = 256, bytes = 144 + (HasFifth ? 32 : 0);
  static __device__ void decode(const uint8_t *b, int first, float (&v)[packElements]) {
    const int g = first / 32, shift = g % 2 * 4;
    const uint8_t *s = b + 4, *h = b + 16 + first % 32, *q = b + bytes - 128 + first / 64 * 32 + first % 32;
    const int own = g < 4 ? s[g] & 63 : (s[g + 4] & 15) | s[g - 4] >> 6 << 4;
    const int least = g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | s[g] >> 6 << 4;
    assign(loadScale(b) * float(own), -loadScale(b + 2) * float(least), v,
           [&](int i) { return (q[i] >> shift & 15) | (HasFifth ? (h[i] >> g & 1) << 4 : 0); });
  }
};

struct Q6_K {
  static constexpr int elements = 256, bytes = 210;
  static __device__ void decode(const uint8_t *b, int first, float (&v)[packElements]) {
    const int n = first / 128, j = first % 128 / 32, l = first % 32;
    const uint8_t *q = b + n * 64 + j % 2 * 32 + l, *h = b + 128 + n * 32 + l;
    const float scale = loadScale(b + 208) * float(int8_t(b[192 + first / 16]));
    assign(scale, -32.0f * scale, v, [&](int i) { return (q[i] >> (j / 2 * 4) & 15) | (h[i] >> (j * 2) & 3) << 4; });
  }
};

template <class Q, class T, bool Aligned>
__global__ void __launch_bounds__(threads) dequantizeKernel(const uint8_t *source, int64_t n, T *out) {
  const int64_t i = (int64_t(blockIdx.x) * threads + threadIdx.x) * packElements;
  if (i >= n)
    return;
  float v[packElements];
  Q::decode(source + i / Q::elements * Q::bytes, int(i % Q::elements), v);
  store8<Aligned>(out + i, packElements, v);
}

template <class Q> cudaError_t dequantize(const void *source, int64_t n, Out out, cudaStream_t stream) {
  if (n % Q::elements != 0)
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

cudaError_t dequantize(WeightType type, const void *source, int64_t n, Out out, cudaStream_t stream) {
  switch (type) {
  case WeightType::Q8_0:
    return dequantize<Q8_0>(source, n, out, stream);
  case WeightType::Q4_0:
    return dequantize<Nibbles<false, false>>(source, n, out, stream);
  case WeightType::Q4_1:
    return dequantize<Nibbles<true, false>>(source, n, out, stream);
  case WeightType::Q5_0:
    return dequantize<Nibbles<false, true>>(source, n, out, stream);
  case WeightType::Q5_1:
    return dequantize<Nibbles<true, true>>(source, n, out, stream);
  case WeightType::Q2_K:
    return dequantize<Q2_K>(source, n, out, stream);
  case WeightType::Q3_K:
    return dequantize<Q3_K>(source, n, out, stream);
  case WeightType::Q4_K:
    return dequantize<Pairs<false>>(source, n, out, stream);
  case WeightType::Q5_K:
    return dequantize<Pairs<true>>(source, n, out, stream);
  case WeightType::Q6_K:
    return dequantize<Q6_K>(source, n, out, stream);
  case WeightType::F32:
  case WeightType::F16:
  case WeightType::BF16:
    break;
  }
  return cudaErrorInvalidValue;
}

} // namespace distc::cuda
