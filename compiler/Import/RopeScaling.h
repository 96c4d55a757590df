// The frequencies of a model's rotary embedding, scaling included.
#pragma once

#include "compiler/Import/Family.h"

#include <vector>

namespace distc::import {

/// Sets of frequencies, one after the other: the first for sequences of up to over[0] tokens, set i for those of more
/// than over[i-1]. Most models have one set. A set has half as many frequencies as elements of a head are rotated.
struct RopeFrequencies {
  std::vector<double> invFreq;
  double magnitude = 1;
  std::vector<int64_t> over;

  /// Without the sets for sequences longer than `tokens`.
  RopeFrequencies upTo(int64_t tokens) const;
};

/// From config.json in both dialects (rope_theta, rope_scaling; rope_parameters) or GGUF metadata. Kinds: default,
/// linear (position interpolation, arXiv:2306.15595), dynamic (NTK-aware, arXiv:2309.00071, section 3.3), yarn (the
/// same, 3.4), llama3 (Llama 3.1's wavelength-dependent interpolation), longrope (arXiv:2402.13753). Another kind is an
/// error that lists these. GGUF keeps the factors of llama3 and longrope as tensors (rope_freqs.weight,
/// rope_factors_long.weight, rope_factors_short.weight): a few dozen hyper-parameters that are read here, the only
/// tensor data that the compiler reads. `context`: the positions that the model says to be made for.
Result<RopeFrequencies> ropeFrequencies(Format format, const ConfigSource &config, const CheckpointIndex &index,
                                        int64_t headDim, int64_t context);

} // namespace distc::import
