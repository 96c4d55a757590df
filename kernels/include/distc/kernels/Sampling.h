// What sampling means on every backend: the request of one output and its noise.
#pragma once

#include <cstdint>

namespace distc {

/// A temperature below this (or NaN) counts as 0: the division would overflow on logits that no model means.
inline constexpr float greedyTemperature = 1e-5f;

/// What one output asks of sampling. temperature 0: greedy. topK <= 0: no limit. topP >= 1: no limit.
///
/// Its noise is a function of seed, counter and id alone, which every backend repeats (to the rounding of its log):
///   mix64(x):  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9; x = (x ^ x >> 27) * 0x94D049BB133111EB; x ^ x >> 31
///   mix32(x):  x = (x ^ x >> 16) * 0x7FEB352D; x = (x ^ x >> 15) * 0x846CA68B; x ^ x >> 16
///   key = mix64(seed ^ mix64(counter + 0x9E3779B97F4A7C15))           modulo 2^64
///   h = mix32(mix32(id ^ low32(key)) + high32(key))                   modulo 2^32
///   v = min((f32(h >> 1) + 0.5) * 2^-31, 1 - 2^-24)                   in f32; 0 < v < 1
///   gumbel = -log(-log1p(-v)), that is -log(-log(u)) with u = 1 - v: fine steps where the noise is large
/// and the perturbed logit is logit / temperature + gumbel in f32.
struct SamplingRow {
  float temperature;
  float topP;
  int32_t topK;
  uint64_t seed;
  uint64_t counter; // position of the token to be sampled in its sequence
};

} // namespace distc
