// Descriptors of matrices for the tensor memory accelerator; made on the host, given to a kernel by value.
#pragma once

#include "distc/kernels/Cuda.h"

#include <cuda.h>

namespace distc::cuda {

/// A matrix of 16-bit elements at a multiple of 16 bytes, rowStride elements (a multiple of 8) from row to row, to be
/// copied in boxes of boxRows x 64 elements, swizzled as kernels/cuda/Wgmma.cuh says; what is outside reads as zeros.
cudaError_t mapMatrix(const Matrix &matrix, int boxRows, CUtensorMap &map);

} // namespace distc::cuda
