// add and accumulate.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/Elementwise.cpp"
#include "hwy/foreach_target.h" // IWYU pragma: keep

#include "kernels/cpu/Simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace distc::cpu::HWY_NAMESPACE {
namespace {

void add(const float *a, const float *b, float *out, int64_t begin, int64_t end) {
  const DF d;
  forVectors(begin, end,
             [&](int64_t i, size_t n) { store(hn::Add(load(d, a + i, n), load(d, b + i, n)), d, out + i, n); });
}

} // namespace
} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace distc::cpu {
HWY_EXPORT(add);

void add(const float *a, const float *b, float *out, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(add)(a, b, out, begin, end);
}

void accumulate(const float *x, float *sum, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(add)(sum, x, sum, begin, end);
}
} // namespace distc::cpu
#endif
