// Which elements of a source tensor a weight takes, as runs of consecutive elements.
#pragma once

#include "distc/Status.h"
#include "runtime/schema/PlanFile.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace distc {

/// The part of a tensor that a plan::WeightSource describes, in the order of its elements.
class SliceRuns {
public:
  /// `tensorElements`: of the whole tensor; the view must have as many, and every segment must lie in it.
  static Result<SliceRuns> create(const plan::WeightSource &source, uint64_t tensorElements);

  /// Elements of the part.
  uint64_t elements() const { return elements_; }

  /// run(from, at, count) for consecutive elements [at, at + count) of the part that cover [begin, end), in order: they
  /// are elements [from, from + count) of the tensor, or zeros where `from` is kZeroFill.
  template <typename Run> void forEachRun(uint64_t begin, uint64_t end, Run &&run) const {
    const Dim &last = dims_.back();
    for (uint64_t at = begin; at < end;) {
      const uint64_t row = at / last.count, column = at % last.count;
      const uint64_t base = rowBase(row);
      auto segment = std::upper_bound(last.segments.begin(), last.segments.end(), column,
                                      [](uint64_t c, const Segment &s) { return c < s.first + s.count; });
      for (uint64_t c = column; segment != last.segments.end() && at < end; ++segment) {
        const uint64_t inside = c - segment->first, count = std::min(segment->count - inside, end - at);
        const bool zeros = base == kZeroFill || segment->begin == kZeroFill;
        run(zeros ? kZeroFill : base + segment->begin + inside, at, count);
        at += count;
        c += count;
      }
    }
  }

private:
  struct Segment {
    uint64_t begin, count; // begin: in the view's dimension, or kZeroFill
    uint64_t first;        // where it starts in the part's dimension
  };
  struct Dim {
    uint64_t view = 0, count = 0;
    std::vector<Segment> segments;
  };

  uint64_t rowBase(uint64_t row) const;

  std::vector<Dim> dims_;
  uint64_t elements_ = 1;
};

} // namespace distc
