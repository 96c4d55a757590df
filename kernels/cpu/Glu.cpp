// out = activation(gate) * up, or activation(gate). Gelu in doubles: near its negative tail the f32 value has no digits
// to spare, as x times the relative error of exp's argument, or 1 + erf, would lose them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/Glu.cpp"
#include "hwy/foreach_target.h" // IWYU pragma: keep

#include "hwy/contrib/math/math-inl.h"
#include "kernels/cpu/Simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace distc::cpu::HWY_NAMESPACE {
namespace {

using DD = hn::ScalableTag<double>;
using VD = hn::Vec<DD>;

/// 1 / (1 + exp(-x)); exp of the negative argument alone, so that nothing overflows.
template <class D> HWY_INLINE hn::Vec<D> sigmoid(D d, hn::Vec<D> x) {
  const auto one = hn::Set(d, 1);
  const auto e = hn::Exp(d, hn::Neg(hn::Abs(x)));
  return hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one), hn::Add(one, e));
}

/// erfc(z) = t exp(p(t) - z^2), t = 2 / (2 + z), z >= 0: p is the Chebyshev fit (mpmath's chebyfit) of
/// log(erfc(z) / t) + z^2 for z <= 12, within 4e-10.
HWY_INLINE VD erfcOfPositive(DD d, VD z) {
  constexpr double coefficients[] = {
      0.19073002338703744, -1.4053598459782484, 4.4897102139947487,  -8.0387576323758881, 8.713445598962643,
      -5.8849726358928778, 2.7314973789909219,  -1.0965881631012443, 0.14097103787427431, 0.046078277688543555,
      0.37900344193212103, 0.99974735344438957, -1.2655050486481035};
  const VD two = hn::Set(d, 2.0);
  const VD t = hn::Div(two, hn::Add(two, z));
  VD p = hn::Zero(d);
  for (double c : coefficients)
    p = hn::MulAdd(p, t, hn::Set(d, c));
  return hn::Mul(t, hn::Exp(d, hn::NegMulAdd(z, z, p)));
}

HWY_INLINE VD gelu(DD d, VD x) {
  const VD upper = hn::Mul(hn::Set(d, 0.5), erfcOfPositive(d, hn::Mul(hn::Abs(x), hn::Set(d, 0.70710678118654752))));
  return hn::Mul(x, hn::IfThenElse(hn::Lt(x, hn::Zero(d)), upper, hn::Sub(hn::Set(d, 1.0), upper)));
}

/// x (1 + tanh(u)) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).
HWY_INLINE VD geluTanh(DD d, VD x) {
  const VD cubic = hn::MulAdd(hn::Mul(hn::Mul(x, x), hn::Set(d, 0.044715)), x, x);
  return hn::Mul(x, sigmoid(d, hn::Mul(cubic, hn::Set(d, 2 * 0.79788456080286536))));
}

template <class F> HWY_INLINE VF inDoubles(DF d, VF x, F f) {
  const DD dd;
  const hn::Rebind<float, DD> part;
  HWY_ALIGN float values[lanes];
  hn::Store(x, d, values);
  for (size_t i = 0; i < lanes; i += hn::MaxLanes(dd))
    hn::StoreU(hn::DemoteTo(part, f(dd, hn::PromoteTo(dd, hn::LoadU(part, values + i)))), part, values + i);
  return hn::Load(d, values);
}

template <class F>
HWY_INLINE void apply(const float *gate, const float *up, float *out, int64_t begin, int64_t end, F f) {
  const DF d;
  forVectors(begin, end, [&](int64_t i, size_t n) HWY_ATTR {
    const VF activated = f(d, load(d, gate + i, n));
    store(up ? hn::Mul(activated, load(d, up + i, n)) : activated, d, out + i, n);
  });
}

void glu(const float *gate, const float *up, Activation activation, float *out, int64_t begin, int64_t end) {
  switch (activation) {
  case Activation::Silu:
    return apply(gate, up, out, begin, end, [](DF d, VF x) HWY_ATTR { return hn::Mul(x, sigmoid(d, x)); });
  case Activation::Gelu:
    return apply(gate, up, out, begin, end,
                 [](DF d, VF x) HWY_ATTR { return inDoubles(d, x, [](DD dd, VD v) HWY_ATTR { return gelu(dd, v); }); });
  case Activation::GeluTanh:
    return apply(gate, up, out, begin, end, [](DF d, VF x) HWY_ATTR {
      return inDoubles(d, x, [](DD dd, VD v) HWY_ATTR { return geluTanh(dd, v); });
    });
  case Activation::Relu:
    return apply(gate, up, out, begin, end, [](DF d, VF x) HWY_ATTR { return hn::Max(x, hn::Zero(d)); });
  }
}

} // namespace
} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace distc::cpu {
HWY_EXPORT(glu);

void glu(const float *gate, const float *up, Activation activation, float *out, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(glu)(gate, up, activation, out, begin, end);
}
} // namespace distc::cpu
#endif
