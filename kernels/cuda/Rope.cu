// A thread rotates eight pairs of one head, or copies sixteen elements that are not rotated. It has read them all
// before it writes, so y may be x.
#include "kernels/cuda/Rope.cuh"

namespace distc::cuda {
namespace {

constexpr int threads = 256;

template <class A, bool Aligned>
__global__ void __launch_bounds__(threads)
    ropeKernel(const A *x, const int32_t *positions, const float *cosSin, int64_t heads, int64_t headDim,
               int64_t rotated, RopeStyle style, int64_t items, A *y) {
  const int64_t item = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (item >= items)
    return;
  const int64_t half = rotated / 2, turned = (half + pairs - 1) / pairs;
  const int64_t chunks = turned + (headDim - rotated + 2 * packElements - 1) / (2 * packElements);
  const int64_t head = item / chunks, chunk = item % chunks; // head counts over all rows
  float v0[packElements], v1[packElements];
  if (chunk >= turned) {
    const int64_t at = head * headDim + rotated + (chunk - turned) * 2 * packElements, n = (head + 1) * headDim - at;
    load8<Aligned>(x + at, n, v0);
    load8<Aligned>(x + at + packElements, n - packElements, v1);
    store8<Aligned>(y + at, n, v0);
    store8<Aligned>(y + at + packElements, n - packElements, v1);
    return;
  }
  const int64_t first = chunk * pairs, n = half - first; // n: pairs that are left
  float angles[2 * pairs];
  loadAngles<Aligned>(cosSin + (positions[head / heads] * half + first) * 2, n, angles);
  // Two packs hold the pairs: their first and second elements, or one pair after the other.
  const bool split = style == RopeStyle::Half;
  const int64_t at0 = head * headDim + (split ? first : 2 * first), at1 = at0 + (split ? half : packElements);
  const int64_t n0 = split ? n : 2 * n, n1 = split ? n : 2 * n - packElements;
  load8<Aligned>(x + at0, n0, v0);
  load8<Aligned>(x + at1, n1, v1);
  rotatePairs(angles, split, v0, v1);
  store8<Aligned>(y + at0, n0, v0);
  store8<Aligned>(y + at1, n1, v1);
}

} // namespace

cudaError_t rope(In x, const int32_t *positions, const float *cosSin, int64_t heads, int64_t headDim, int64_t rotated,
                 RopeStyle style, int64_t rows, Out y, cudaStream_t stream) {
  if (y.type != x.type || rotated % 2 != 0 || rotated > headDim)
    return cudaErrorInvalidValue;
  const bool aligned = aligned16(x.data, cosSin, y.data) && rotated / 2 % packElements == 0 &&
                       (headDim - rotated) % (2 * packElements) == 0;
  const int64_t items = rows * heads * (divideUp(rotated / 2, pairs) + divideUp(headDim - rotated, 2 * packElements));
  return withType(x.type, [&](auto activation) {
    return withBool(aligned, [&](auto vectors) {
      using A = decltype(activation);
      return launch(stream, ropeKernel<A, vectors.value>, divideUp(items, threads), threads,
                    static_cast<const A *>(x.data), positions, cosSin, heads, headDim, rotated, style, items,
                    static_cast<A *>(y.data));
    });
  });
}

} // namespace distc::cuda
