// The activation functions of gated linear units.
#pragma once

#include "kernels/cuda/Device.cuh"

namespace distc::cuda {

/// 1 / (1 + exp(-x)); exp of the negative argument alone, so that nothing overflows.
__device__ inline float sigmoid(float x) {
  const float e = expf(-fabsf(x));
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/// In f32 throughout: far out in the negative tails, where the value is next to nothing, its relative error grows with
/// the argument of exp.
template <Activation Kind> __device__ inline float activate(float x) {
  if constexpr (Kind == Activation::Silu)
    return x * sigmoid(x);
  else if constexpr (Kind == Activation::Gelu)
    return 0.5f * x * erfcf(x * -0.70710678118654752f);
  else if constexpr (Kind == Activation::GeluTanh) // x (1 + tanh(u)) / 2 = x sigmoid(2 u)
    return x * sigmoid(2 * 0.79788456080286536f * fmaf(0.044715f * x * x, x, x));
  else
    return fmaxf(x, 0.0f);
}

/// The same for values that are rounded to 16 bits, in few instructions: where each stands in a register of its own,
/// they stand in the program as often.
template <Activation Kind> __device__ inline float activateFast(float x) {
  const auto sigmoidFast = [](float v) { return __fdividef(1.0f, 1.0f + __expf(-v)); };
  if constexpr (Kind == Activation::Silu)
    return x * sigmoidFast(x);
  else if constexpr (Kind == Activation::GeluTanh)
    return x * sigmoidFast(2 * 0.79788456080286536f * fmaf(0.044715f * x * x, x, x));
  else
    return activate<Kind>(x);
}

/// f with the activation as a constant.
template <class F> __device__ inline void forActivation(Activation activation, F f) {
  switch (activation) {
  case Activation::Silu:
    return f(std::integral_constant<Activation, Activation::Silu>());
  case Activation::Gelu:
    return f(std::integral_constant<Activation, Activation::Gelu>());
  case Activation::GeluTanh:
    return f(std::integral_constant<Activation, Activation::GeluTanh>());
  case Activation::Relu:
    return f(std::integral_constant<Activation, Activation::Relu>());
  }
}

} // namespace distc::cuda
