// Bytes from place to place: rows, by the widest access that all addresses and sizes allow.
#include "kernels/cuda/Device.cuh"

#include <algorithm>

namespace distc::cuda {
namespace {

constexpr int threads = 256;

/// Sizes and strides count units of type U. Without indices, row r is copied to row r.
template <class U>
__global__ void __launch_bounds__(threads) copyRowsKernel(const U *source, int64_t sourceStride, const int32_t *indices,
                                                          U *out, int64_t outStride, int64_t width, int64_t parts) {
  const int64_t r = blockIdx.x / parts;
  source += (indices ? indices[r] : r) * sourceStride;
  out += r * outStride;
  for (int64_t i = blockIdx.x % parts * threads + threadIdx.x; i < width; i += parts * threads)
    out[i] = source[i];
}

__global__ void storeKernel(uint32_t *to, uint32_t value) { *static_cast<volatile uint32_t *>(to) = value; }

template <class U>
cudaError_t copyUnits(const void *source, int64_t sourceStride, const int32_t *indices, void *out, int64_t outStride,
                      int64_t rowBytes, int64_t rows, cudaStream_t stream) {
  const auto units = [](int64_t bytes) { return bytes / int64_t(sizeof(U)); };
  // A few long rows take several blocks each, many short ones a block each.
  const int64_t parts = std::clamp<int64_t>(divideUp(units(rowBytes), 4 * threads), 1, 1024);
  return launch(stream, copyRowsKernel<U>, rows * parts, threads, static_cast<const U *>(source), units(sourceStride),
                indices, static_cast<U *>(out), units(outStride), units(rowBytes), parts);
}

cudaError_t copy(const void *source, int64_t sourceStride, const int32_t *indices, void *out, int64_t outStride,
                 int64_t rowBytes, int64_t rows, cudaStream_t stream) {
  const auto all = uint64_t(reinterpret_cast<uintptr_t>(source)) | uint64_t(reinterpret_cast<uintptr_t>(out)) |
                   uint64_t(sourceStride) | uint64_t(outStride) | uint64_t(rowBytes);
  if (all % 16 == 0)
    return copyUnits<uint4>(source, sourceStride, indices, out, outStride, rowBytes, rows, stream);
  if (all % 4 == 0)
    return copyUnits<uint32_t>(source, sourceStride, indices, out, outStride, rowBytes, rows, stream);
  if (all % 2 == 0)
    return copyUnits<uint16_t>(source, sourceStride, indices, out, outStride, rowBytes, rows, stream);
  return copyUnits<uint8_t>(source, sourceStride, indices, out, outStride, rowBytes, rows, stream);
}

} // namespace

cudaError_t selectRows(const void *input, int64_t rowBytes, const int32_t *indices, int64_t rows, void *out,
                       cudaStream_t stream) {
  return copy(input, rowBytes, indices, out, rowBytes, rowBytes, rows, stream);
}

cudaError_t copyRows2D(const void *source, int64_t sourceStride, void *out, int64_t outStride, int64_t rowBytes,
                       int64_t rows, cudaStream_t stream) {
  return copy(source, sourceStride, nullptr, out, outStride, rowBytes, rows, stream);
}

cudaError_t store(uint32_t *to, uint32_t value, cudaStream_t stream) {
  return launch(stream, storeKernel, 1, 1, to, value);
}

} // namespace distc::cuda
