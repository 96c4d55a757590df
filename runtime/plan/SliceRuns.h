// Which elements of a source tensor a weight takes, as runs of consecutive elements.
#pragma once

#include "distc/Status.h"
#include "runtime/schema/PlanFile.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace distc {

/// The part of a tensor that a plan::WeightSource describes, in the order of its elements.
class SliceRuns {
public:
  /// `tensorElements`: of the whole tensor; the view must have as many, and every segment must lie in it.
  static Result<SliceRuns> create(const plan::WeightSource &source, uint64_t tensorElements);

  /// Elements of the part.
  uint64_t elements() const { return elements_; }

  /// Whether every run begins and ends between blocks of `block` elements.
  bool inBlocks(uint64_t block) const;

  /// run(from, at, count) for elements of the part that cover [begin, end): `count` of them from `at`, stride() apart,
  /// are elements [from, from + count) of the tensor, or zeros where `from` is kZeroFill. In order where stride() is 1;
  /// else at most kRows at a time.
  template <typename Run> void forEachRun(uint64_t begin, uint64_t end, Run &&run) const {
    if (columns_ == 1 || begin == end)
      return forEachInTensor(begin, end, run);
    // So many rows of the part are, in each row of the tensor, a line of its memory.
    for (uint64_t row = begin / columns_; row * columns_ < end; row += kRows)
      for (uint64_t c = 0; c < columns_; ++c) {
        const uint64_t first = std::max(row, rowsBefore(begin, c)), last = std::min(row + kRows, rowsBefore(end, c));
        if (first < last)
          forEachInTensor(c * rows_ + first, c * rows_ + last, [&](uint64_t from, uint64_t at, uint64_t count) {
            run(from, at % rows_ * columns_ + c, count);
          });
      }
  }
  static constexpr uint64_t kRows = 16;

  /// 1, or the columns of a part that the tensor holds transposed.
  uint64_t stride() const { return columns_; }

private:
  /// Rows r of column c with r · columns + c < end.
  uint64_t rowsBefore(uint64_t end, uint64_t c) const { return end > c ? (end - c - 1) / columns_ + 1 : 0; }

  /// As forEachRun, of the part in the order of the tensor.
  template <typename Run> void forEachInTensor(uint64_t begin, uint64_t end, Run &&run) const {
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

  struct Segment {
    uint64_t begin, count; // begin: in the view's dimension, or kZeroFill
    uint64_t first;        // where it starts in the part's dimension
  };
  struct Dim {
    uint64_t view = 0, count = 0;
    std::vector<Segment> segments;
  };

  uint64_t rowBase(uint64_t row) const;

  std::vector<Dim> dims_; // in the order of the tensor
  uint64_t elements_ = 1;
  uint64_t rows_ = 1, columns_ = 1; // of a transposed part, which is [columns, rows] in the tensor
};

/// Elements [begin, end) of a part to `out`: zeros, or what make(from, count, place) makes of consecutive elements of
/// the tensor. A quantized part is in whole blocks, and of no transposed tensor.
template <typename Make>
void makeElements(const SliceRuns &runs, uint64_t begin, uint64_t end, plan::DType type, std::byte *out, Make &&make) {
  const uint64_t size = dtypeBytes(type), stride = runs.stride() * size;
  runs.forEachRun(begin, end, [&](uint64_t from, uint64_t at, uint64_t count) {
    std::byte *place = out + bytesOf(type, at - begin), strip[SliceRuns::kRows * sizeof(float)];
    std::byte *made = runs.stride() == 1 ? place : strip;
    if (from == kZeroFill)
      std::memset(made, 0, bytesOf(type, count)); // a block of zeros is quantized zeros
    else
      make(from, count, made);
    for (uint64_t i = 0; made == strip && i < count; ++i)
      std::memcpy(place + i * stride, strip + i * size, size);
  });
}

} // namespace distc
