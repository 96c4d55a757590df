// All-reduce and all-gather of short messages through the members' memory (CudaExchange.h). A thread moves pieces of 8
// bytes, two words, and needs of each member nothing but the same piece: blocks wait for no other block of their own
// device. All blocks run before one of the next kernel does, so none is kept from running by what waits for it.
#include "distc/kernels/CudaExchange.h"
#include "kernels/cuda/Stage.cuh"

namespace distc::cuda {
namespace {

constexpr int threads = 512;
constexpr int maxBlocks = 32;
constexpr int pieceBytes = 8;
constexpr int64_t slotPieces = maxExchangeBytes / pieceBytes;
constexpr uint32_t looksToAsk = 1 << 14; // some milliseconds

/// Two words: x and z of the message, y and w the number of the call.
__device__ inline void storeWords(uint4 *to, uint2 piece, uint32_t call) {
  const uint64_t number = uint64_t(call) << 32;
  asm volatile("st.relaxed.sys.global.v2.b64 [%0], {%1, %2};" ::"l"(to), "l"(number | piece.x), "l"(number | piece.y)
               : "memory");
}
/// False: one of them is not of this call.
__device__ inline bool loadWords(const uint4 *from, uint32_t call, uint2 &piece) {
  uint64_t a, b;
  asm volatile("ld.relaxed.sys.global.v2.b64 {%0, %1}, [%2];" : "=l"(a), "=l"(b) : "l"(from) : "memory");
  piece = make_uint2(uint32_t(a), uint32_t(b));
  return uint32_t(a >> 32) == call && uint32_t(b >> 32) == call;
}

/// A wait that takes long asks the host whether to go on, and tells it of which call it is.
struct Wait {
  ExchangeHost *host;
  const uint32_t note;
  uint32_t looks = 0;

  __device__ bool goOn() {
    if (++looks % looksToAsk != 0)
      return true;
    *static_cast<volatile uint32_t *>(&host->waiting) = note;
    return *static_cast<volatile uint32_t *>(&host->abort) == 0;
  }
  /// Every thread that has told takes it back, so in the end nothing is told.
  __device__ void over() const {
    if (looks >= looksToAsk)
      *static_cast<volatile uint32_t *>(&host->waiting) = 0;
  }
};

/// Elements of type T in a piece.
template <class T> constexpr int pieceElements = pieceBytes / int(sizeof(T));

template <class T> struct alignas(pieceBytes) Piece {
  T e[pieceElements<T>];
};

/// Elements [0, n) of p, past the first cache, which may hold what was there before another kernel wrote. Aligned: all.
template <bool Aligned, class T> __device__ inline uint2 loadPiece(const T *p, int64_t n) {
  if constexpr (Aligned)
    return __ldcg(reinterpret_cast<const uint2 *>(p));
  Piece<T> piece{};
#pragma unroll
  for (int i = 0; i < pieceElements<T>; ++i)
    if (i < n)
      piece.e[i] = __ldcg(p + i);
  uint2 raw;
  memcpy(&raw, &piece, sizeof(raw));
  return raw;
}

/// The sum of all members' pieces at element i.
template <class T, bool Aligned> struct Reduction {
  T *out;
  ReduceOp op;
  __device__ void operator()(const uint2 (&pieces)[maxPeers], int members, int64_t i, int64_t n) const {
    float v[pieceElements<T>];
#pragma unroll
    for (int m = 0; m < maxPeers; ++m)
      if (m < members) {
        Piece<T> piece;
        const uint2 raw = pieces[m];
        memcpy(&piece, &raw, sizeof(piece));
#pragma unroll
        for (int j = 0; j < pieceElements<T>; ++j) {
          const float x = toFloat(piece.e[j]);
          v[j] = m == 0 ? x : op == ReduceOp::Sum ? v[j] + x : fmaxf(v[j], x);
        }
      }
    Piece<T> sum;
#pragma unroll
    for (int j = 0; j < pieceElements<T>; ++j)
      sum.e[j] = fromFloat<T>(v[j]);
    if constexpr (Aligned) {
      uint2 raw;
      memcpy(&raw, &sum, sizeof(raw));
      *reinterpret_cast<uint2 *>(out + i) = raw;
    } else {
#pragma unroll
      for (int j = 0; j < pieceElements<T>; ++j)
        if (i + j < n)
          out[i + j] = sum.e[j];
    }
  }
};

/// Each member's pieces at their place.
struct Gathering {
  uint32_t *out;
  int64_t total;
  __device__ void operator()(const uint2 (&pieces)[maxPeers], int members, int64_t i, int64_t n) const {
#pragma unroll
    for (int m = 0; m < maxPeers; ++m)
      if (m < members) {
        const int64_t at = m * n + i;
        if (at < total)
          out[at] = pieces[m].x;
        if (i + 1 < n && at + 1 < total)
          out[at + 1] = pieces[m].y;
      }
  }
};

template <class T, bool Aligned, class Take>
__global__ void __launch_bounds__(threads) exchangeKernel(const __grid_constant__ Exchange e, ExchangePart part,
                                                          const T *in, int64_t n, Take take, uint32_t note) {
  letNextStart();
  waitForPrevious();
  const uint32_t call = __ldcg(e.calls) + 1;
  const int64_t slot = int64_t(call % 2) * e.members * slotPieces;
  const int64_t first = int64_t(blockIdx.x) * threads + threadIdx.x, step = int64_t(gridDim.x) * threads;
  auto own = [&](int64_t piece) {
    const int64_t i = piece * pieceElements<T>;
    return loadPiece<Aligned>(in + i, n - i);
  };

  if (part != ExchangePart::Receive)
    for (int64_t piece = first; piece * pieceElements<T> < n; piece += step) {
      const uint2 mine = own(piece);
      for (int k = 1; k < e.members; ++k) { // all begin with another one
        const int to = (e.self + k) % e.members;
        storeWords(static_cast<uint4 *>(e.inboxes[to]) + slot + e.self * slotPieces + piece, mine, call);
      }
    }
  if (part == ExchangePart::Push)
    return;

  // The last block that knows the number counts the call.
  __syncthreads();
  if (threadIdx.x == 0) {
    uint32_t before;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(e.calls + 1) : "memory");
    if (before == gridDim.x - 1) {
      e.calls[0] = call;
      e.calls[1] = 0;
    }
  }

  const uint4 *inbox = static_cast<const uint4 *>(e.inboxes[e.self]) + slot;
  Wait wait{e.host, note};
  for (int64_t piece = first; piece * pieceElements<T> < n; piece += step) {
    const uint2 mine = own(piece);
    uint2 pieces[maxPeers];
    for (;;) {
      bool all = true;
      // Unrolled, so that the loads of all members are under way at once.
#pragma unroll
      for (int m = 0; m < maxPeers; ++m)
        if (m == e.self)
          pieces[m] = mine;
        else if (m < e.members)
          all = loadWords(inbox + m * slotPieces + piece, call, pieces[m]) && all;
      if (all)
        break;
      if (!wait.goOn())
        return;
    }
    take(pieces, e.members, piece * pieceElements<T>, n);
  }
  wait.over();
}

bool isSupported(const Exchange &e, int64_t bytes, uint32_t note) {
  return e.members >= 1 && e.members <= maxPeers && e.self >= 0 && e.self < e.members && bytes <= maxExchangeBytes &&
         note != 0;
}

template <class T, bool Aligned, class Take> cudaError_t prepare() {
  return prepareStage<exchangeKernel<T, Aligned, Take>>(0);
}

template <class T, bool Aligned, class Take>
cudaError_t launchExchange(const Exchange &e, ExchangePart part, const void *in, int64_t n, Take take, uint32_t note,
                           cudaStream_t stream) {
  if (const cudaError_t error = prepare<T, Aligned, Take>(); error != cudaSuccess)
    return error;
  const int64_t blocks = divideUp(n, threads * pieceElements<T>);
  return launchOverlapped(stream, exchangeKernel<T, Aligned, Take>,
                          dim3(unsigned(blocks < maxBlocks ? blocks : maxBlocks)), threads, 0, 1, e, part,
                          static_cast<const T *>(in), n, take, note);
}

/// True if pieces cover n elements without a rest, and all stand at multiples of their size.
template <class T, class... P> bool wholePieces(int64_t n, P... pointers) {
  return n % pieceElements<T> == 0 && ((reinterpret_cast<uintptr_t>(pointers) % pieceBytes == 0) && ...);
}

} // namespace

cudaError_t prepareExchange() {
  for (const bool isWhole : {false, true}) {
    const cudaError_t error = withBool(isWhole, [](auto whole) {
      cudaError_t failed = prepare<uint32_t, whole.value, Gathering>();
      for (const Type type : {Type::F32, Type::F16, Type::BF16})
        if (failed == cudaSuccess)
          failed = withType(type, [&](auto element) {
            using T = decltype(element);
            return prepare<T, whole.value, Reduction<T, whole.value>>();
          });
      return failed;
    });
    if (error != cudaSuccess)
      return error;
  }
  return cudaSuccess;
}

cudaError_t exchangeReduce(const Exchange &e, ExchangePart part, ReduceOp op, In in, int64_t n, Out out, uint32_t note,
                           cudaStream_t stream) {
  if (n == 0)
    return cudaSuccess;
  if (in.type != out.type || !isSupported(e, n * elementBytes(in.type), note))
    return cudaErrorInvalidValue;
  return withType(in.type, [&](auto element) {
    using T = decltype(element);
    return withBool(wholePieces<T>(n, in.data, out.data), [&](auto whole) {
      return launchExchange<T, whole.value>(e, part, in.data, n,
                                            Reduction<T, whole.value>{static_cast<T *>(out.data), op}, note, stream);
    });
  });
}

cudaError_t exchangeGather(const Exchange &e, ExchangePart part, const void *in, int64_t n, void *out, int64_t total,
                           uint32_t note, cudaStream_t stream) {
  if (n == 0)
    return cudaSuccess;
  if (!isSupported(e, n * int64_t(sizeof(uint32_t)), note))
    return cudaErrorInvalidValue;
  return withBool(wholePieces<uint32_t>(n, in), [&](auto whole) {
    return launchExchange<uint32_t, whole.value>(e, part, in, n, Gathering{static_cast<uint32_t *>(out), total}, note,
                                                 stream);
  });
}

} // namespace distc::cuda
