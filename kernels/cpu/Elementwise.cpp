// add and accumulate, scale, softCap.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/Elementwise.cpp"
#include "hwy/foreach_target.h" // IWYU pragma: keep

#include "hwy/contrib/math/math-inl.h"
#include "kernels/cpu/Simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace distc::cpu::HWY_NAMESPACE {
namespace {

void add(const float *a, const float *b, float *out, int64_t begin, int64_t end) {
  const DF d;
  forVectors(begin, end,
             [&](int64_t i, size_t n) { store(hn::Add(load(d, a + i, n), load(d, b + i, n)), d, out + i, n); });
}

void scale(const float *input, float factor, float *out, int64_t begin, int64_t end) {
  const DF d;
  const VF by = hn::Set(d, factor);
  forVectors(begin, end, [&](int64_t i, size_t n) { store(hn::Mul(load(d, input + i, n), by), d, out + i, n); });
}

void softCap(const float *input, float cap, float *out, int64_t begin, int64_t end) {
  const DF d;
  const VF limit = hn::Set(d, cap);
  forVectors(begin, end, [&](int64_t i, size_t n) HWY_ATTR {
    store(hn::Mul(limit, hn::Tanh(d, hn::Div(load(d, input + i, n), limit))), d, out + i, n);
  });
}

} // namespace
} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace distc::cpu {
HWY_EXPORT(add);
HWY_EXPORT(scale);
HWY_EXPORT(softCap);

void add(const float *a, const float *b, float *out, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(add)(a, b, out, begin, end);
}

void accumulate(const float *x, float *sum, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(add)(sum, x, sum, begin, end);
}

void scale(const float *input, float factor, float *out, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(scale)(input, factor, out, begin, end);
}

void softCap(const float *input, float cap, float *out, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(softCap)(input, cap, out, begin, end);
}
} // namespace distc::cpu
#endif
