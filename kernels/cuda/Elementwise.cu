// add, scale, soft cap, glu, reduce, convert: element by element, eight to a thread.
#include "kernels/cuda/Activate.cuh"

namespace distc::cuda {
namespace {

constexpr int threads = 256;

/// out[i] = f(i, n), eight elements from i on, of which n are wanted.
template <class T, bool Aligned, class F>
__global__ void __launch_bounds__(threads) elementwiseKernel(T *out, int64_t n, const F f) {
  const int64_t i = (int64_t(blockIdx.x) * threads + threadIdx.x) * packElements;
  if (i >= n)
    return;
  float v[packElements];
  f(i, n - i, v);
  store8<Aligned>(out + i, n - i, v);
}

template <class T, bool Aligned, class F> cudaError_t forElements(T *out, int64_t n, const F &f, cudaStream_t stream) {
  return launch(stream, elementwiseKernel<T, Aligned, F>, divideUp(n, packElements * threads), threads, out, n, f);
}

template <class T, bool Aligned> struct AddOp {
  const T *a;
  const T *b;
  __device__ void operator()(int64_t i, int64_t n, float (&v)[packElements]) const {
    float w[packElements];
    load8<Aligned>(a + i, n, v);
    load8<Aligned>(b + i, n, w);
#pragma unroll
    for (int j = 0; j < packElements; ++j)
      v[j] += w[j];
  }
};

template <class T, bool Aligned> struct ScaleOp {
  const T *in;
  float factor;
  __device__ void operator()(int64_t i, int64_t n, float (&v)[packElements]) const {
    load8<Aligned>(in + i, n, v);
#pragma unroll
    for (int j = 0; j < packElements; ++j)
      v[j] *= factor;
  }
};

template <class T, bool Aligned> struct SoftCapOp {
  const T *in;
  float cap;
  __device__ void operator()(int64_t i, int64_t n, float (&v)[packElements]) const {
    load8<Aligned>(in + i, n, v);
#pragma unroll
    for (int j = 0; j < packElements; ++j)
      v[j] = cap * tanhf(v[j] / cap);
  }
};

/// An op of one input and a number.
template <template <class, bool> class Op>
cudaError_t unary(In in, float number, int64_t n, Out out, cudaStream_t stream) {
  if (in.type != out.type)
    return cudaErrorInvalidValue;
  return withType(out.type, [&](auto element) {
    return withBool(wholePacks(n, in.data, out.data), [&](auto vectors) {
      using T = decltype(element);
      return forElements<T, vectors.value>(static_cast<T *>(out.data), n,
                                           Op<T, vectors.value>{static_cast<const T *>(in.data), number}, stream);
    });
  });
}

template <class T, Activation Kind, bool Aligned> struct GluOp {
  const T *gate;
  const T *up;
  __device__ void operator()(int64_t i, int64_t n, float (&v)[packElements]) const {
    float w[packElements];
    load8<Aligned>(gate + i, n, v);
    if (up)
      load8<Aligned>(up + i, n, w);
#pragma unroll
    for (int j = 0; j < packElements; ++j)
      v[j] = up ? activate<Kind>(v[j]) * w[j] : activate<Kind>(v[j]);
  }
};

template <class T, bool Aligned> struct ReducePeers {
  Peers peers;
  ReduceOp op;
  __device__ void operator()(int64_t i, int64_t n, float (&v)[packElements]) const {
    load8<Aligned>(static_cast<const T *>(peers.data[0]) + i, n, v);
    // Unrolled so that the loads of several members, which may be remote, are under way at once.
#pragma unroll
    for (int p = 1; p < maxPeers; ++p)
      if (p < peers.count) {
        float w[packElements];
        load8<Aligned>(static_cast<const T *>(peers.data[p]) + i, n, w);
#pragma unroll
        for (int j = 0; j < packElements; ++j)
          v[j] = op == ReduceOp::Sum ? v[j] + w[j] : fmaxf(v[j], w[j]);
      }
  }
};

template <class T, bool Aligned> struct ConvertOp {
  const T *in;
  __device__ void operator()(int64_t i, int64_t n, float (&v)[packElements]) const { load8<Aligned>(in + i, n, v); }
};

/// glu of one activation.
template <Activation Kind> cudaError_t gluOf(In gate, In up, int64_t n, Out out, cudaStream_t stream) {
  return withType(out.type, [&](auto element) {
    return withBool(wholePacks(n, gate.data, up.data, out.data), [&](auto vectors) {
      using T = decltype(element);
      return forElements<T, vectors.value>(
          static_cast<T *>(out.data), n,
          GluOp<T, Kind, vectors.value>{static_cast<const T *>(gate.data), static_cast<const T *>(up.data)}, stream);
    });
  });
}

} // namespace

cudaError_t add(In a, In b, int64_t n, Out out, cudaStream_t stream) {
  if (a.type != out.type || b.type != out.type)
    return cudaErrorInvalidValue;
  return withType(out.type, [&](auto element) {
    return withBool(wholePacks(n, a.data, b.data, out.data), [&](auto vectors) {
      using T = decltype(element);
      return forElements<T, vectors.value>(
          static_cast<T *>(out.data), n,
          AddOp<T, vectors.value>{static_cast<const T *>(a.data), static_cast<const T *>(b.data)}, stream);
    });
  });
}

cudaError_t scale(In input, float factor, int64_t n, Out out, cudaStream_t stream) {
  return unary<ScaleOp>(input, factor, n, out, stream);
}

cudaError_t softCap(In input, float cap, int64_t n, Out out, cudaStream_t stream) {
  return cap > 0.0f ? unary<SoftCapOp>(input, cap, n, out, stream) : cudaErrorInvalidValue;
}

cudaError_t glu(In gate, In up, Activation activation, int64_t n, Out out, cudaStream_t stream) {
  if (gate.type != out.type || (up.data && up.type != out.type))
    return cudaErrorInvalidValue;
  switch (activation) {
  case Activation::Silu:
    return gluOf<Activation::Silu>(gate, up, n, out, stream);
  case Activation::Gelu:
    return gluOf<Activation::Gelu>(gate, up, n, out, stream);
  case Activation::GeluTanh:
    return gluOf<Activation::GeluTanh>(gate, up, n, out, stream);
  case Activation::Relu:
    return gluOf<Activation::Relu>(gate, up, n, out, stream);
  }
  return cudaErrorInvalidValue;
}

cudaError_t reduce(const Peers &peers, ReduceOp op, int64_t n, Out out, cudaStream_t stream) {
  if (peers.count < 1 || peers.count > maxPeers)
    return cudaErrorInvalidValue;
  bool aligned = wholePacks(n, out.data);
  for (int p = 0; p < peers.count; ++p)
    aligned = aligned && aligned16(peers.data[p]);
  return withType(out.type, [&](auto element) {
    return withBool(aligned, [&](auto vectors) {
      using T = decltype(element);
      return forElements<T, vectors.value>(static_cast<T *>(out.data), n, ReducePeers<T, vectors.value>{peers, op},
                                           stream);
    });
  });
}

cudaError_t convert(In in, int64_t n, Out out, cudaStream_t stream) {
  return withType(in.type, [&](auto from) {
    return withType(out.type, [&](auto to) {
      return withBool(wholePacks(n, in.data, out.data), [&](auto vectors) {
        using From = decltype(from);
        using To = decltype(to);
        return forElements<To, vectors.value>(
            static_cast<To *>(out.data), n, ConvertOp<From, vectors.value>{static_cast<const From *>(in.data)}, stream);
      });
    });
  });
}

} // namespace distc::cuda
