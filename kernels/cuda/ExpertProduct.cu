// Products with the weights of experts for many tokens, on the tensor cores. A block computes 64 rows of one expert for
// its places, 32 at a time: the weights are the operand of 16 rows, the tokens that of 8 columns. Both come through
// three buffers of shared memory, each a block of 64 columns, asked for two blocks ahead.
#include "kernels/cuda/ExpertPlaces.cuh"
#include "kernels/cuda/Stage.cuh"

namespace distc::cuda {
namespace {

constexpr int tileRows = 64, tilePlaces = 32, lines = tileRows + tilePlaces;
constexpr int depth = 64;
constexpr int stride = depth + 8; // elements of a line: no two of the words that a warp reads at once share a bank
constexpr int buffers = 3;
constexpr int bufferBytes = lines * stride * 2;

template <class T> struct Arguments {
  const T *x;
  int64_t repeat;
  const float *routes;
  int64_t places;
  const T *w;
  int64_t rows;
  int64_t cols;
  T *y;
};

/// Asks for block `step` of the columns: rows of the expert's weights from `row` on, and what the places multiply.
template <class T>
__device__ inline void loadStep(const Arguments<T> &a, const T *w, int64_t row, const int *places, int count,
                                int64_t step, uint32_t memory) {
  if (step * depth < a.cols) {
    const uint32_t buffer = memory + uint32_t(step % buffers) * bufferBytes;
#pragma unroll
    for (int i = 0; i < lines * depth / packElements / expertThreads; ++i) {
      const int piece = i * expertThreads + int(threadIdx.x), line = piece / (depth / packElements);
      const int64_t k = step * depth + piece % (depth / packElements) * packElements;
      bool wanted = k < a.cols;
      const T *from = w;
      if (line < tileRows) {
        wanted = wanted && row + line < a.rows;
        from = w + (wanted ? (row + line) * a.cols + k : 0);
      } else if (wanted) { // behind the last place, it again: computed, not stored
        from = a.x + places[min(line - tileRows, count - 1)] / a.repeat * a.cols + k;
      }
      copyAsync16(buffer + uint32_t(line * stride + k % depth) * 2, from, wanted);
    }
  }
  endCopies(); // a group even where there is nothing to copy: they are counted
}

template <class T>
__device__ inline void matrixTile(const Arguments<T> &a, const T *w, int64_t row, const int *places, int count) {
  unsigned char *memory = dynamicShared();
  const uint32_t address = sharedAddress(memory);
  const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize, group = lane / 4, quad = lane % 4;
  float sums[tilePlaces / 8][4] = {};
  loadStep(a, w, row, places, count, 0, address);
  loadStep(a, w, row, places, count, 1, address);
  const int64_t steps = (a.cols + depth - 1) / depth;
  for (int64_t step = 0; step < steps; ++step) {
    waitCopies<1>();
    __syncthreads(); // this block is there for all, and all are done with the one before, whose buffer is filled now
    loadStep(a, w, row, places, count, step + 2, address);
    const auto *words = reinterpret_cast<const uint32_t *>(memory + step % buffers * bufferBytes);
    const auto word = [&](int line, int k) { return words[(line * stride + k) / 2]; };
    const int mine = warp * 16 + group;
#pragma unroll
    for (int k = quad * 2; k < depth; k += 16) {
      const uint32_t a0 = word(mine, k), a1 = word(mine + 8, k), a2 = word(mine, k + 8), a3 = word(mine + 8, k + 8);
#pragma unroll
      for (int t = 0; t < tilePlaces / 8; ++t)
        if (t * 8 < count) {
          const int line = tileRows + t * 8 + group;
          multiply<T>(sums[t], a0, a1, a2, a3, word(line, k), word(line, k + 8));
        }
    }
  }
#pragma unroll
  for (int t = 0; t < tilePlaces / 8; ++t)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int place = t * 8 + quad * 2 + i % 2;
      const int64_t n = row + warp * 16 + group + i / 2 * 8;
      if (place < count && n < a.rows)
        a.y[places[place] * a.rows + n] = fromFloat<T>(sums[t][i]);
    }
  __syncthreads(); // before the next tile's copies
}

template <class T> __global__ void __launch_bounds__(expertThreads) expertProductKernel(const Arguments<T> a) {
  __shared__ ExpertPlaces shared;
  waitForPrevious();
  const int64_t tiles = (a.rows + tileRows - 1) / tileRows;
  const int64_t expert = blockIdx.x / tiles, row = blockIdx.x % tiles * tileRows;
  for (int64_t next = 0; next < a.places;) {
    const int count = findPlaces(shared, a.routes, a.places, expert, next);
    for (int done = 0; done < count; done += tilePlaces)
      matrixTile(a, a.w + expert * a.rows * a.cols, row, shared.list + done, min(count - done, tilePlaces));
  }
}

} // namespace

bool expertProductSuits(In x, const ExpertMatrices &w) {
  return x.type == w.type && x.type != Type::F32 && w.cols % packElements == 0 && aligned16(x.data, w.data);
}

cudaError_t expertProduct(In x, int64_t repeat, const float *routes, int64_t places, const ExpertMatrices &w, void *y,
                          cudaStream_t stream) {
  if (places <= 0 || w.rows <= 0)
    return cudaSuccess;
  const int64_t blocks = w.experts * divideUp(w.rows, tileRows);
  if (!expertProductSuits(x, w) || places > INT32_MAX || blocks > INT32_MAX || repeat < 1)
    return cudaErrorInvalidValue;
  const auto run = [&](auto element) {
    using T = decltype(element);
    const Arguments<T> a{static_cast<const T *>(x.data), repeat, routes, places,
                         static_cast<const T *>(w.data), w.rows, w.cols, static_cast<T *>(y)};
    return launchOverlapped(stream, expertProductKernel<T>, dim3(unsigned(blocks)), expertThreads,
                            size_t(buffers * bufferBytes), 1, a);
  };
  return x.type == Type::F16 ? run(__half()) : run(__nv_bfloat16());
}

} // namespace distc::cuda
