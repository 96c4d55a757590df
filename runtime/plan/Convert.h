// From the elements of a file to the elements of a weight.
#pragma once

#include "runtime/schema/plan_generated.h"

#include <bit>
#include <cstdint>

namespace distc {

enum class WeightType : uint8_t; // of the kernels

/// Rounds to the nearest, ties to even; a NaN stays one.
inline uint16_t toBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
  return static_cast<uint16_t>((value == value ? rounded : quiet) >> 16);
}

/// The type of a weight as the kernels name it.
WeightType weightType(plan::DType dtype);

/// True if convert() can: all types but I32 to F32, F16, BF16; a quantized one to itself.
bool canConvert(plan::DType from, plan::DType to);

/// Elements [first, first + count) of the tensor at `source`, to `out`, rounded to the nearest, ties to even. `source`
/// may be unaligned; of a quantized tensor the range may start and end inside a block, but where it stays quantized.
void convert(const void *source, plan::DType from, uint64_t first, uint64_t count, void *out, plan::DType to);

} // namespace distc
