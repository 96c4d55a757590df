#include "distc/kernels/CudaStage.h"

#include <cuda.h>
#include <cudaTypedefs.h>

#include <cstring>

namespace distc::cuda {

static_assert(sizeof(CUtensorMap) == sizeof(TileMaps::box[0]));

// A matrix of three dimensions: 64 columns, which are one swizzled row of 128 bytes in shared memory; rows; blocks of
// 64 columns. What lies behind the last block is zero.
cudaError_t encodeTileMaps(const Matrix &w, TileMaps &maps) {
  if (w.type == Type::F32 || w.cols % stageColumns != 0 || w.rowStride % 8 != 0)
    return cudaErrorInvalidValue;
  void *entry = nullptr; // through the runtime: nothing links against the driver
  cudaDriverEntryPointQueryResult found;
  if (const cudaError_t error =
          cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found);
      error != cudaSuccess)
    return error;
  if (found != cudaDriverEntryPointSuccess)
    return cudaErrorInsufficientDriver;
  const auto encode = reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(entry);
  const auto type = w.type == Type::F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const cuuint64_t dims[] = {stageColumns, cuuint64_t(w.rows), cuuint64_t(w.cols / stageColumns)};
  const cuuint64_t strides[] = {cuuint64_t(w.rowStride) * 2, stageColumns * 2};
  const cuuint32_t steps[] = {1, 1, 1};
  for (cuuint32_t i = 0; i < 4; ++i) {
    const cuuint32_t box[] = {stageColumns, 2 * (i + 1), tileColumns / stageColumns};
    CUtensorMap map;
    if (encode(&map, type, 3, const_cast<void *>(w.data), dims, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
               CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
               CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS)
      return cudaErrorInvalidValue;
    std::memcpy(maps.box[i], &map, sizeof(map));
  }
  return cudaSuccess;
}

} // namespace distc::cuda
