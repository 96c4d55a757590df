// The form of a matrix stage for many tokens (WideStage.cu), and where it begins.
#pragma once

#include "distc/kernels/CudaStage.h"

namespace distc::cuda {

constexpr int narrowTokens = 16; // of more, wideStage

/// matrixStage for more than narrowTokens tokens of a stage that suits, so of no experts and without a layer norm.
cudaError_t wideStage(const MatrixStage &stage, const StageInput &input, cudaStream_t stream);

} // namespace distc::cuda
