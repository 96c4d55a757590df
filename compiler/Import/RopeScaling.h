// The frequencies of a model's rotary embedding, scaling included.
#pragma once

#include "compiler/Import/Family.h"

#include <vector>

namespace distc::import {

struct RopeFrequencies {
  std::vector<double> invFreq; // headDim / 2
  double magnitude = 1;
};

/// From config.json in both dialects (rope_theta, rope_scaling; rope_parameters) or GGUF metadata. Kinds: default,
/// linear (position interpolation, arXiv:2306.15595), llama3 (Llama 3.1's wavelength-dependent interpolation). Another
/// kind is an error that lists these. GGUF keeps llama3's factors as a tensor, rope_freqs.weight: a few dozen
/// hyper-parameters that are read here, the only tensor data that the compiler reads.
Result<RopeFrequencies> ropeFrequencies(Format format, const ConfigSource &config, const CheckpointIndex &index,
                                        int64_t headDim);

} // namespace distc::import
