#include "runtime/plan/SliceRuns.h"

namespace distc {

namespace {

// a * b, or an impossible size where that overflows; 2^62 keeps every sum of two such sizes in range.
constexpr uint64_t kTooMany = uint64_t(1) << 62;
uint64_t multiply(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) || product > kTooMany ? kTooMany : product;
}

} // namespace

Result<SliceRuns> SliceRuns::create(const plan::WeightSource &source, uint64_t tensorElements) {
  SliceRuns result;
  const auto &view = *source.view();
  const auto &slices = *source.dims();
  if (view.size() == 0 || view.size() != slices.size())
    return dataLoss("a view of " + std::to_string(view.size()) + " dimensions with slices of " +
                    std::to_string(slices.size()));
  const uint32_t transposed = source.transposed();
  if (transposed >= view.size())
    return dataLoss("a view of " + std::to_string(view.size()) + " dimensions, " + std::to_string(transposed) +
                    " of which come last in the tensor");
  uint64_t viewElements = 1;
  for (uint32_t i = 0; i < view.size(); ++i) {
    const uint32_t d = (i + transposed) % view.size();
    Dim dim;
    dim.view = view.Get(d);
    viewElements = multiply(viewElements, dim.view);
    for (const plan::Segment *segment : *slices.Get(d)->segments()) {
      const uint64_t begin = segment->begin(), count = segment->count();
      if (count == 0)
        continue;
      if (count > kTooMany || (begin != kZeroFill && (begin > dim.view || count > dim.view - begin)))
        return dataLoss("the slice of " + std::to_string(count) + " from " + std::to_string(begin) +
                        " is outside dimension " + std::to_string(d) + " of " + std::to_string(dim.view));
      dim.segments.push_back({begin, count, dim.count});
      dim.count = std::min(kTooMany, dim.count + count);
    }
    result.elements_ = multiply(result.elements_, dim.count);
    if (transposed != 0)
      (d < transposed ? result.rows_ : result.columns_) =
          multiply(d < transposed ? result.rows_ : result.columns_, dim.count);
    // A dimension taken whole makes one with the one before, so that runs are as long as they can be.
    const bool whole = i > 0 && dim.segments.size() == 1 && dim.segments[0].begin == 0 && dim.count == dim.view;
    if (!whole) {
      result.dims_.push_back(std::move(dim));
      continue;
    }
    Dim &outer = result.dims_.back();
    outer.view = multiply(outer.view, dim.view);
    outer.count = multiply(outer.count, dim.view);
    for (Segment &segment : outer.segments) {
      segment.count = multiply(segment.count, dim.view);
      segment.first = multiply(segment.first, dim.view);
      if (segment.begin != kZeroFill)
        segment.begin = multiply(segment.begin, dim.view);
    }
  }
  if (viewElements != tensorElements || viewElements >= kTooMany)
    return dataLoss("the view has " + std::to_string(viewElements) + " elements, the tensor " +
                    std::to_string(tensorElements));
  if (result.elements_ >= kTooMany)
    return dataLoss("a part of more elements than can be");
  return result;
}

bool SliceRuns::inBlocks(uint64_t block) const {
  if (columns_ != 1 && block != 1)
    return false; // transposed, element by element
  uint64_t stride = 1;
  for (size_t d = dims_.size(); d-- > 0; stride = multiply(stride, dims_[d].view))
    for (const Segment &segment : dims_[d].segments)
      if (multiply(segment.count, stride) % block != 0 ||
          (segment.begin != kZeroFill && multiply(segment.begin, stride) % block != 0))
        return false;
  return true;
}

uint64_t SliceRuns::rowBase(uint64_t row) const {
  uint64_t base = 0, stride = dims_.back().view;
  for (size_t d = dims_.size() - 1; d-- > 0;) {
    const Dim &dim = dims_[d];
    const uint64_t index = row % dim.count;
    row /= dim.count;
    auto segment = std::upper_bound(dim.segments.begin(), dim.segments.end(), index,
                                    [](uint64_t i, const Segment &s) { return i < s.first + s.count; });
    if (segment->begin == kZeroFill)
      return kZeroFill;
    base += (segment->begin + index - segment->first) * stride;
    stride *= dim.view;
  }
  return base;
}

} // namespace distc
