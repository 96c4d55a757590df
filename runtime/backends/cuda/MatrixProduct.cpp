#include "runtime/backends/cuda/MatrixProduct.h"

namespace distc::cuda {

namespace {

cudaDataType_t typeOf(Type type) {
  return type == Type::F32 ? CUDA_R_32F : type == Type::F16 ? CUDA_R_16F : CUDA_R_16BF;
}

Status check(cublasStatus_t status, const char *what) {
  if (status == CUBLAS_STATUS_SUCCESS)
    return {};
  return internal(std::string("cuBLAS cannot ") + what + ": " + cublasGetStatusString(status));
}

} // namespace

MatrixProduct::~MatrixProduct() {
  if (handle_)
    (void)cublasDestroy(handle_);
}

Status MatrixProduct::create(cudaStream_t stream) {
  DISTC_TRY(check(cublasCreate(&handle_), "start"));
  return check(cublasSetStream(handle_, stream), "use a stream");
}

bool MatrixProduct::suits(In x, int64_t rows, const Matrix &weight) {
  return rows > kFewRows && x.type == weight.type && x.type != Type::F32;
}

Status MatrixProduct::run(In x, int64_t rows, const Matrix &weight, bool add, Out y, float factor) {
  // In the library's column-major terms: y' [n, rows] = w'' [n, k] times x' [k, rows].
  const float before = add ? 1.0f : 0.0f;
  return check(cublasGemmEx(handle_, CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(weight.rows), static_cast<int>(rows),
                            static_cast<int>(weight.cols), &factor, weight.data, typeOf(weight.type),
                            static_cast<int>(weight.rowStride), x.data, typeOf(x.type), static_cast<int>(weight.cols),
                            &before, y.data, typeOf(y.type), static_cast<int>(weight.rows), CUBLAS_COMPUTE_32F,
                            CUBLAS_GEMM_DEFAULT),
               "multiply");
}

} // namespace distc::cuda
