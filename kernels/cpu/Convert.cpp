// Conversion to f32 for loading. The block formats are in LinearQuantized.cpp, beside their use.
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

} // namespace
} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace distc::cpu {
HWY_EXPORT(toF32);

void toF32(const void *source, WeightType type, float *out, int64_t n) {
  if (isQuantized(type))
    return dequantize(source, type, out, n);
  HWY_DYNAMIC_DISPATCH(toF32)(source, type, out, n);
}
} // namespace distc::cpu
#endif
