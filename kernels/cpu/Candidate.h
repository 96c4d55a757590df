// A (value, id) pair of the exchange between TopCandidates and Sample, docs/plan-format.md.
#pragma once

#include "distc/kernels/Cpu.h"

#include <limits>

namespace distc::cpu {

inline constexpr float minusInfinity = -std::numeric_limits<float>::infinity();

struct Candidate {
  float value;
  float id; // exact, a vocabulary has far fewer than 2^24 entries
};
static_assert(sizeof(Candidate) == 2 * sizeof(float));

inline constexpr Candidate noCandidate{minusInfinity, -1.0f};

/// The order of candidates: larger values first, of equal ones the lower id. No value is NaN.
inline bool precedes(const Candidate &a, const Candidate &b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

inline bool isGreedy(const SamplingRow &row) { return !(row.temperature >= greedyTemperature); }

} // namespace distc::cpu
