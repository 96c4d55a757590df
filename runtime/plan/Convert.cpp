#include "runtime/plan/Convert.h"

#include "distc/kernels/Cpu.h"
#include "runtime/schema/PlanFile.h"

#include <algorithm>
#include <cstring>

namespace distc {

namespace {

constexpr uint64_t kMaxBlock = 256;

void convertQuantized(const std::byte *source, plan::DType from, uint64_t first, uint64_t count, float *out) {
  const uint64_t bytes = dtypeBytes(from), elements = dtypeBlock(from);
  const WeightType type = weightType(from);
  while (count > 0) {
    const std::byte *block = source + first / elements * bytes;
    const uint64_t inside = first % elements;
    uint64_t n = count / elements * elements;
    if (inside == 0 && n > 0) {
      cpu::dequantize(block, type, out, static_cast<int64_t>(n));
    } else {
      float whole[kMaxBlock];
      n = std::min(count, elements - inside);
      cpu::dequantize(block, type, whole, static_cast<int64_t>(elements));
      std::memcpy(out, whole + inside, n * sizeof(float));
    }
    out += n;
    first += n;
    count -= n;
  }
}

constexpr uint64_t kPiece = 1024; // elements that are on the way at once

void convertHalf(const std::byte *source, WeightType type, uint64_t count, float *out) {
  if (reinterpret_cast<uintptr_t>(source) % 2 == 0)
    return cpu::toF32(source, type, out, static_cast<int64_t>(count));
  // The kernels want whole elements aligned; a header of odd length shifts them.
  uint16_t aligned[kPiece];
  for (uint64_t at = 0; at < count; at += kPiece) {
    const uint64_t n = std::min(kPiece, count - at);
    std::memcpy(aligned, source + at * 2, n * 2);
    cpu::toF32(aligned, type, out + at, static_cast<int64_t>(n));
  }
}

void convertToF32(const std::byte *source, plan::DType from, uint64_t first, uint64_t count, float *out) {
  if (isQuantized(from))
    return convertQuantized(source, from, first, count, out);
  source += first * dtypeBytes(from);
  if (from == plan::DType::F32)
    std::memcpy(out, source, count * sizeof(float));
  else
    convertHalf(source, weightType(from), count, out);
}

void convertToHalf(const float *values, plan::DType to, uint64_t count, void *out) {
  if (to == plan::DType::F16)
    std::transform(values, values + count, static_cast<_Float16 *>(out),
                   [](float v) { return static_cast<_Float16>(v); });
  else
    std::transform(values, values + count, static_cast<uint16_t *>(out), toBf16);
}

} // namespace

WeightType weightType(plan::DType dtype) {
  switch (dtype) {
  case plan::DType::F32:
  case plan::DType::I32: // no weight is
    return WeightType::F32;
  case plan::DType::F16:
    return WeightType::F16;
  case plan::DType::BF16:
    return WeightType::BF16;
  case plan::DType::Q8_0:
    return WeightType::Q8_0;
  case plan::DType::Q4_0:
    return WeightType::Q4_0;
  case plan::DType::Q4_1:
    return WeightType::Q4_1;
  case plan::DType::Q5_0:
    return WeightType::Q5_0;
  case plan::DType::Q5_1:
    return WeightType::Q5_1;
  case plan::DType::Q2_K:
    return WeightType::Q2_K;
  case plan::DType::Q3_K:
    return WeightType::Q3_K;
  case plan::DType::Q4_K:
    return WeightType::Q4_K;
  case plan::DType::Q5_K:
    return WeightType::Q5_K;
  case plan::DType::Q6_K:
    return WeightType::Q6_K;
  }
  return WeightType::F32;
}

bool canConvert(plan::DType from, plan::DType to) {
  return isQuantized(to) ? from == to : from != plan::DType::I32 && to != plan::DType::I32;
}

void convert(const void *source, plan::DType from, uint64_t first, uint64_t count, void *out, plan::DType to) {
  const std::byte *bytes = static_cast<const std::byte *>(source);
  if (to == plan::DType::F32)
    return convertToF32(bytes, from, first, count, static_cast<float *>(out));
  if (from == to) {
    std::memcpy(out, bytes + bytesOf(from, first), bytesOf(to, count));
    return;
  }
  float piece[kPiece];
  for (uint64_t at = 0; at < count; at += kPiece) {
    const uint64_t n = std::min(kPiece, count - at);
    convertToF32(bytes, from, first + at, n, piece);
    convertToHalf(piece, to, n, static_cast<std::byte *>(out) + at * dtypeBytes(to));
  }
}

} // namespace distc
