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

void convertHalf(const std::byte *source, cpu::WeightType type, uint64_t count, float *out) {
  if (reinterpret_cast<uintptr_t>(source) % 2 == 0)
    return cpu::toF32(source, type, out, static_cast<int64_t>(count));
  // The kernels want whole elements aligned; a header of odd length shifts them.
  uint16_t aligned[1024];
  for (uint64_t at = 0; at < count; at += std::size(aligned)) {
    const uint64_t n = std::min<uint64_t>(std::size(aligned), count - at);
    std::memcpy(aligned, source + at * 2, n * 2);
    cpu::toF32(aligned, type, out + at, static_cast<int64_t>(n));
  }
}

} // namespace

bool canConvert(plan::DType from, plan::DType to) {
  return from != plan::DType::I32 && (to == plan::DType::F32 || (from == to && dtypeBlock(from) == 1));
}

void convert(const void *source, plan::DType from, uint64_t first, uint64_t count, void *out, plan::DType to) {
  const std::byte *bytes = static_cast<const std::byte *>(source);
  if (dtypeBlock(from) != 1)
    return convertQuantized(bytes, from, first, count, static_cast<float *>(out));
  bytes += first * dtypeBytes(from);
  if (from == to)
    std::memcpy(out, bytes, count * dtypeBytes(to));
  else
    convertHalf(bytes, from == plan::DType::F16 ? cpu::WeightType::F16 : cpu::WeightType::BF16, count,
                static_cast<float *>(out));
}

} // namespace distc
