#include "runtime/plan/Convert.h"

#include "distc/kernels/Cpu.h"
#include "runtime/schema/PlanFile.h"

#include <algorithm>
#include <cstring>

namespace distc {

namespace {

constexpr uint64_t kBlock = 32;

void dequantize(const std::byte *source, plan::DType from, float *out, uint64_t blocks) {
  if (from == plan::DType::Q8_0)
    cpu::dequantizeQ8_0(source, out, static_cast<int64_t>(blocks * kBlock));
  else
    cpu::dequantizeQ4_1(source, out, static_cast<int64_t>(blocks * kBlock));
}

void convertQuantized(const std::byte *source, plan::DType from, uint64_t first, uint64_t count, float *out) {
  const uint64_t bytes = dtypeBytes(from);
  while (count > 0) {
    const std::byte *block = source + first / kBlock * bytes;
    const uint64_t inside = first % kBlock;
    uint64_t n = count / kBlock * kBlock;
    if (inside == 0 && n > 0) {
      dequantize(block, from, out, n / kBlock);
    } else {
      float whole[kBlock];
      n = std::min(count, kBlock - inside);
      dequantize(block, from, whole, 1);
      std::memcpy(out, whole + inside, n * sizeof(float));
    }
    out += n;
    first += n;
    count -= n;
  }
}

constexpr uint64_t kPiece = 1024; // elements that are on the way at once

void convertHalf(const std::byte *source, cpu::WeightType type, uint64_t count, float *out) {
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
  if (dtypeBlock(from) != 1)
    return convertQuantized(source, from, first, count, out);
  source += first * dtypeBytes(from);
  if (from == plan::DType::F32)
    std::memcpy(out, source, count * sizeof(float));
  else
    convertHalf(source, from == plan::DType::F16 ? cpu::WeightType::F16 : cpu::WeightType::BF16, count, out);
}

void convertToHalf(const float *values, plan::DType to, uint64_t count, void *out) {
  if (to == plan::DType::F16)
    std::transform(values, values + count, static_cast<_Float16 *>(out),
                   [](float v) { return static_cast<_Float16>(v); });
  else
    std::transform(values, values + count, static_cast<uint16_t *>(out), toBf16);
}

} // namespace

bool canConvert(plan::DType from, plan::DType to) { return from != plan::DType::I32 && to <= plan::DType::BF16; }

void convert(const void *source, plan::DType from, uint64_t first, uint64_t count, void *out, plan::DType to) {
  const std::byte *bytes = static_cast<const std::byte *>(source);
  if (to == plan::DType::F32)
    return convertToF32(bytes, from, first, count, static_cast<float *>(out));
  if (from == to) {
    std::memcpy(out, bytes + first * dtypeBytes(from), count * dtypeBytes(to));
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
