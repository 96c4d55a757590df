// Conversions to f32 for loading: toF32 and the GGUF block formats (layouts as in Cpu.h).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/Convert.cpp"
#include "hwy/foreach_target.h" // IWYU pragma: keep

#include "kernels/cpu/Simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace distc::cpu::HWY_NAMESPACE {
namespace {

void toF32(const void *source, WeightType type, float *out, int64_t n) {
  withElement(type, [&](auto element) {
    const DF d;
    const auto *in = static_cast<const decltype(element) *>(source);
    forVectors(0, n, [&](int64_t i, size_t m) { store(load(d, in + i, m), d, out + i, m); });
  });
}

constexpr int64_t blockElements = 32;

// The blocks are 2-byte fields at any address, so every field is read through its bytes.
VF loadScale(DF d, const uint8_t *p) {
  hwy::float16_t half;
  std::memcpy(&half, p, sizeof(half));
  return hn::Set(d, hn::GetLane(loadPartial(d, &half, 1)));
}

void dequantizeQ8_0(const void *source, float *out, int64_t n) {
  const DF d;
  const hn::Rebind<int8_t, DF> d8;
  const hn::Rebind<int32_t, DF> d32;
  const auto *block = static_cast<const uint8_t *>(source);
  for (int64_t i = 0; i < n; i += blockElements, block += 34) {
    const VF scale = loadScale(d, block);
    const auto *q = reinterpret_cast<const int8_t *>(block + 2);
    for (size_t j = 0; j < size_t(blockElements); j += lanes)
      hn::StoreU(hn::Mul(scale, hn::ConvertTo(d, hn::PromoteTo(d32, hn::LoadU(d8, q + j)))), d, out + i + j);
  }
}

void dequantizeQ4_1(const void *source, float *out, int64_t n) {
  const DF d;
  const hn::Rebind<uint8_t, DF> d8;
  const hn::Rebind<int32_t, DF> d32;
  const auto *block = static_cast<const uint8_t *>(source);
  for (int64_t i = 0; i < n; i += blockElements, block += 20) {
    const VF scale = loadScale(d, block), minimum = loadScale(d, block + 2);
    for (size_t j = 0; j < size_t(blockElements / 2); j += lanes) {
      const auto q = hn::PromoteTo(d32, hn::LoadU(d8, block + 4 + j));
      const VF low = hn::ConvertTo(d, hn::And(q, hn::Set(d32, 15)));
      const VF high = hn::ConvertTo(d, hn::ShiftRight<4>(q));
      hn::StoreU(hn::Add(hn::Mul(scale, low), minimum), d, out + i + j);
      hn::StoreU(hn::Add(hn::Mul(scale, high), minimum), d, out + i + blockElements / 2 + j);
    }
  }
}

} // namespace
} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace distc::cpu {
HWY_EXPORT(toF32);
HWY_EXPORT(dequantizeQ8_0);
HWY_EXPORT(dequantizeQ4_1);

void toF32(const void *source, WeightType type, float *out, int64_t n) {
  HWY_DYNAMIC_DISPATCH(toF32)(source, type, out, n);
}
void dequantizeQ8_0(const void *source, float *out, int64_t n) { HWY_DYNAMIC_DISPATCH(dequantizeQ8_0)(source, out, n); }
void dequantizeQ4_1(const void *source, float *out, int64_t n) { HWY_DYNAMIC_DISPATCH(dequantizeQ4_1)(source, out, n); }
} // namespace distc::cpu
#endif
