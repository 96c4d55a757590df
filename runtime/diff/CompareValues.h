// Holds the values of two plan sets of one model against each other.
#pragma once

#include "runtime/diff/StepValues.h"

namespace distc {

struct ComparedValue {
  std::string name;
  double relative = 0; // |a - b| / |b|, Euclidean norms over all that was compared; infinite: NaN, or b is zero
  bool padded = false; // one of the two has heads or columns that the other lacks
  struct Side {
    plan::Op op = plan::Op::NONE;
    std::vector<uint32_t> ids, ranks;
    std::vector<uint64_t> index; // of the element that differs most: row, then dimensions
    float element = 0;
  } a, b;
};

struct Comparison {
  std::vector<ComparedValue> values;                        // in the program order of A
  std::vector<std::pair<std::string, std::string>> skipped; // names, and why
  std::string alone;                                        // a value that one of the two alone computes; empty: none
};

/// Of values that are held in several ways, the first two that differ by more than `tolerance`, else those that differ
/// most, are told of.
Comparison compareValues(const StepValues &a, const StepValues &b, double tolerance);

} // namespace distc
