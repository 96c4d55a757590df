// From the elements of a file to the elements of a weight.
#pragma once

#include "runtime/schema/plan_generated.h"

#include <cstdint>

namespace distc {

/// True if convert() can: the same unquantized type, or any of F32, F16, BF16, Q8_0, Q4_1 to F32.
bool canConvert(plan::DType from, plan::DType to);

/// Elements [first, first + count) of the tensor at `source`, to `out`. `source` may be unaligned; of a quantized
/// tensor the range may start and end inside a block.
void convert(const void *source, plan::DType from, uint64_t first, uint64_t count, void *out, plan::DType to);

} // namespace distc
