// What linear does for a quantized matrix.
#pragma once

#include "distc/kernels/Cpu.h"

namespace distc::cpu {

void linearQuantized(const float *x, int64_t tokens, const Matrix &w, const float *bias, float *y, int64_t yStride,
                     int64_t rowBegin, int64_t rowEnd);

} // namespace distc::cpu
