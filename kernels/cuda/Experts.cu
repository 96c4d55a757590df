// The mixture of experts: which experts a token goes to, products with their weights, and the weighted sum of what they
// return.
#include "kernels/cuda/ExpertPlaces.cuh"
#include "kernels/cuda/Route.cuh"
#include "kernels/cuda/RowTile.cuh"

namespace distc::cuda {
namespace {

constexpr int routeWarps = 4;
static_assert(expertThreads == tileWarps * warpSize);
constexpr int combineThreads = 128;

/// A warp for each row.
__global__ void __launch_bounds__(routeWarps *warpSize)
    routeKernel(const float *logits, int64_t rows, int experts, int count, bool normalize, float *routes) {
  const int64_t row = int64_t(blockIdx.x) * routeWarps + threadIdx.x / warpSize;
  if (row < rows)
    routeRow(logits + row * experts, experts, count, normalize, routes + row * count * 2);
}

template <class A, class W> struct ProductArguments {
  const A *x;
  int64_t repeat;
  const float *routes;
  int64_t places;
  const W *w;
  int64_t rows;
  int64_t cols;
  Out y;
  bool byPlace;
};

/// Up to maxTile places of one expert.
template <int Tile, bool Aligned, class A, class W>
__device__ inline void productTile(const ProductArguments<A, W> &a, const W *const (&w)[groupRows], int64_t row,
                                   const int *places, int count) {
  const A *x[Tile];
#pragma unroll
  for (int t = 0; t < Tile; ++t) // behind the end, the last place again: computed, not stored
    x[t] = a.x + places[min(t, count - 1)] / a.repeat * a.cols;
  const float y = rowTile<Tile, Aligned>(x, w, a.cols);
  const int t = threadIdx.x / groupRows, r = threadIdx.x % groupRows;
  if (t < min(Tile, count) && row + r < a.rows)
    storeElement(a.y, places[t] * a.rows + row + r, y);
  __syncthreads(); // before the next tile's sums
}

/// A block for each group of rows of an expert; or, of few places, of the expert of a place, unless an earlier place is
/// of the same. It looks for all places of its expert, and multiplies them tile by tile, so the weights come from
/// memory once.
template <class A, class W, bool Aligned>
__global__ void __launch_bounds__(expertThreads) productKernel(const ProductArguments<A, W> a) {
  __shared__ ExpertPlaces shared;
  const int64_t groups = (a.rows + groupRows - 1) / groupRows;
  const int64_t own = blockIdx.x / groups, row = blockIdx.x % groups * groupRows;
  const int64_t expert = a.byPlace ? int64_t(a.routes[2 * own + 1]) : own;
  const W *w[groupRows];
#pragma unroll
  for (int r = 0; r < groupRows; ++r)
    w[r] = a.w + (expert * a.rows + min(row + r, a.rows - 1)) * a.cols;

  for (int64_t next = 0; next < a.places;) {
    const int count = findPlaces(shared, a.routes, a.places, expert, next);
    if (a.byPlace && count > 0 && shared.list[0] < own) // of all its places the first one's block does it
      return;
    for (int done = 0; done < count; done += maxTile) {
      const int left = count - done, *places = shared.list + done;
      if (left > 4)
        productTile<maxTile, Aligned>(a, w, row, places, left);
      else if (left > 2)
        productTile<4, Aligned>(a, w, row, places, left);
      else if (left == 2)
        productTile<2, Aligned>(a, w, row, places, left);
      else
        productTile<1, Aligned>(a, w, row, places, left);
    }
  }
}

template <class T, bool Aligned>
__global__ void __launch_bounds__(combineThreads) combineKernel(const T *x, const float *routes, int64_t count,
                                                                int64_t width, int64_t packs, const T *residual, T *y) {
  const int64_t row = blockIdx.x / packs, k = (blockIdx.x % packs * combineThreads + threadIdx.x) * packElements;
  if (k >= width)
    return;
  float sum[packElements] = {};
  for (int64_t j = 0; j < count; ++j) {
    const int64_t place = row * count + j;
    const float weight = routes[2 * place];
    float value[packElements];
    load8<Aligned>(x + place * width + k, width - k, value);
#pragma unroll
    for (int i = 0; i < packElements; ++i)
      sum[i] = fmaf(weight, value[i], sum[i]);
  }
  if (residual) {
    float other[packElements];
    load8<Aligned>(residual + row * width + k, width - k, other);
#pragma unroll
    for (int i = 0; i < packElements; ++i)
      sum[i] = toFloat(fromFloat<T>(sum[i])) + other[i];
  }
  store8<Aligned>(y + row * width + k, width - k, sum);
}

} // namespace

cudaError_t route(const float *logits, int64_t rows, int64_t experts, int64_t count, bool normalize, float *routes,
                  cudaStream_t stream) {
  if (count < 1 || count > experts || experts > maxExperts)
    return cudaErrorInvalidValue;
  return launch(stream, routeKernel, divideUp(rows, routeWarps), routeWarps * warpSize, logits, rows, int(experts),
                int(count), normalize, routes);
}

cudaError_t expertLinear(In x, int64_t repeat, const float *routes, int64_t places, const ExpertMatrices &w, Out y,
                         cudaStream_t stream) {
  if (places <= 0 || w.rows <= 0)
    return cudaSuccess;
  if (places > INT32_MAX || repeat < 1)
    return cudaErrorInvalidValue;
  // Fewer blocks that find no place, while places are few.
  const bool byPlace = places < w.experts;
  const int64_t blocks = (byPlace ? places : w.experts) * divideUp(w.rows, groupRows);
  return withType(x.type, [&](auto activation) {
    return withType(w.type, [&](auto element) {
      using A = decltype(activation);
      using W = decltype(element);
      const ProductArguments<A, W> a{static_cast<const A *>(x.data),
                                     repeat,
                                     routes,
                                     places,
                                     static_cast<const W *>(w.data),
                                     w.rows,
                                     w.cols,
                                     y,
                                     byPlace};
      return withBool(aligned16(a.x, a.w) && a.cols % packElements == 0, [&](auto vectors) {
        return launch(stream, productKernel<A, W, vectors.value>, blocks, expertThreads, a);
      });
    });
  });
}

cudaError_t combine(In x, const float *routes, int64_t rows, int64_t count, int64_t width, In residual, Out y,
                    cudaStream_t stream) {
  if (x.type != y.type || (residual.data && residual.type != y.type))
    return cudaErrorInvalidValue;
  const int64_t packs = divideUp(width, packElements * combineThreads);
  return withType(x.type, [&](auto element) {
    using T = decltype(element);
    return withBool(wholePacks(width, x.data, residual.data, y.data), [&](auto vectors) {
      return launch(stream, combineKernel<T, vectors.value>, rows * packs, combineThreads,
                    static_cast<const T *>(x.data), routes, count, width, packs, static_cast<const T *>(residual.data),
                    static_cast<T *>(y.data));
    });
  });
}

} // namespace distc::cuda
