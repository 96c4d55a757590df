#include "kernels/cuda/TensorMap.h"

#include "distc/kernels/CudaStage.h"

#include <cstring>

namespace distc::cuda {

namespace {

constexpr int boxColumns = 64; // 128 bytes, the width of the swizzle

/// The driver's function, through the runtime: nothing links to the driver, which a machine without a GPU lacks.
decltype(&cuTensorMapEncodeTiled) encoder() {
  static const auto function = [] {
    void *entry = nullptr;
    cudaDriverEntryPointQueryResult found;
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found);
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(
        error == cudaSuccess && found == cudaDriverEntryPointSuccess ? entry : nullptr);
  }();
  return function;
}

} // namespace

cudaError_t mapMatrix(const Matrix &matrix, int boxRows, CUtensorMap &map) {
  if (!encoder())
    return cudaErrorNotSupported;
  const cuuint64_t sizes[] = {cuuint64_t(matrix.cols), cuuint64_t(matrix.rows)};
  const cuuint64_t strides[] = {cuuint64_t(matrix.rowStride) * 2};
  const cuuint32_t box[] = {boxColumns, cuuint32_t(boxRows)}, steps[] = {1, 1};
  const CUresult result =
      encoder()(&map, matrix.type == Type::BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2,
                const_cast<void *>(matrix.data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

static_assert(sizeof(CUtensorMap) == sizeof(TileMaps::box[0]) && boxColumns == stageColumns);

// A matrix of three dimensions: 64 columns, which are one swizzled row of 128 bytes in shared memory; rows; blocks of
// 64 columns. What lies behind the last block is zero.
cudaError_t encodeTileMaps(const Matrix &w, TileMaps &maps) {
  if (w.type == Type::F32 || w.cols % boxColumns != 0 || w.rowStride % 8 != 0)
    return cudaErrorInvalidValue;
  if (!encoder())
    return cudaErrorNotSupported;
  const auto type = w.type == Type::F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const cuuint64_t sizes[] = {boxColumns, cuuint64_t(w.rows), cuuint64_t(w.cols / boxColumns)};
  const cuuint64_t strides[] = {cuuint64_t(w.rowStride) * 2, boxColumns * 2};
  const cuuint32_t steps[] = {1, 1, 1};
  const auto encode = [&](cuuint32_t rows, cuuint32_t blocks, unsigned char (&to)[sizeof(CUtensorMap)]) {
    const cuuint32_t box[] = {boxColumns, rows, blocks};
    CUtensorMap map;
    const CUresult result =
        encoder()(&map, type, 3, const_cast<void *>(w.data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                  CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    std::memcpy(to, &map, sizeof(map));
    return result == CUDA_SUCCESS;
  };
  bool encoded = encode(8, chunkColumns / boxColumns, maps.wide);
  for (cuuint32_t i = 0; i < 4; ++i)
    encoded = encoded && encode(2 * (i + 1), tileColumns / boxColumns, maps.box[i]);
  return encoded ? cudaSuccess : cudaErrorInvalidValue;
}

} // namespace distc::cuda
