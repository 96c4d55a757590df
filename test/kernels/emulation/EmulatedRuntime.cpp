// The CUDA runtime for emulation: the device's memory is the host's, and a launch has ended when it returns.
#include "Emulator.h"
#include "distc/kernels/CudaStage.h"
#include "kernels/cuda/TensorMap.h"

#include <cstdlib>
#include <cstring>

extern "C" {

cudaError_t cudaMalloc(void **p, size_t bytes) {
  *p = std::aligned_alloc(256, (bytes + 255) / 256 * 256 + 256);
  return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFree(void *p) {
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemset(void *p, int value, size_t bytes) {
  std::memset(p, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int *count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr, int) {
  *value = 8; // multiprocessors: that alone is asked for
  return cudaSuccess;
}
const char *cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorLaunchTimeout ? "a deadlock" : "an error of the emulated runtime";
}
const char *cudaGetErrorName(cudaError_t) { return "emulated"; }

} // extern "C"

namespace distc::cuda {

namespace {
void write(const Matrix &matrix, int boxRows, int boxBlocks, void *map, bool inside = false) {
  const emulation::Map m{static_cast<const unsigned char *>(matrix.data),
                         matrix.rows,
                         matrix.cols,
                         matrix.rowStride * 2,
                         boxRows,
                         boxBlocks,
                         inside};
  std::memcpy(map, &m, sizeof(m));
}
} // namespace

cudaError_t mapMatrix(const Matrix &matrix, int boxRows, CUtensorMap &map) {
  write(matrix, boxRows, 1, &map);
  return cudaSuccess;
}

cudaError_t encodeTileMaps(const Matrix &w, TileMaps &maps) {
  if (w.type == Type::F32 || w.cols % stageColumns != 0 || w.rowStride % 8 != 0)
    return cudaErrorInvalidValue;
  for (int i = 0; i < 4; ++i)
    write(w, 2 * (i + 1), tileColumns / stageColumns, maps.box[i], true);
  write(w, 8, chunkColumns / stageColumns, maps.wide);
  return cudaSuccess;
}

} // namespace distc::cuda
