// Products of many rows with a weight, by cuBLAS: beyond a few rows the tensor cores decide, not the bandwidth.
#pragma once

#include "distc/kernels/Cuda.h"
#include "runtime/backends/cuda/Device.h"

#include <cublas_v2.h>

namespace distc::cuda {

class MatrixProduct {
public:
  MatrixProduct() = default;
  MatrixProduct(const MatrixProduct &) = delete;
  ~MatrixProduct();

  Status create(cudaStream_t stream);

  /// Up to here `linear` reads each weight once, at more than half of the bandwidth.
  static constexpr int64_t kFewRows = 8;
  /// Whether run() is right for this product, and faster than the kernel `linear`: more rows, input and weight of one
  /// 16-bit type.
  static bool suits(In x, int64_t rows, const Matrix &weight);

  /// y[t, n] = factor * sum_k x[t, k] * w[n, k], plus what y holds if `add`, summed in f32. The order of a sum is the
  /// library's own: the bits of a row may depend on the number of rows.
  Status run(In x, int64_t rows, const Matrix &weight, bool add, Out y, float factor = 1);

private:
  cublasHandle_t handle_ = nullptr;
};

} // namespace distc::cuda
