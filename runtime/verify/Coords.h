// Which logical indices the local rows and columns of a weight are: the vocabulary in which slices are compared.
#pragma once

#include "runtime/schema/plan_generated.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace distc::verify {

/// `count` consecutive logical indices from `begin`, or padding.
struct Span {
  uint64_t begin;
  uint64_t count;
  bool zero;

  bool operator==(const Span &) const = default;
};

/// The local indices of one dimension, in order, as logical indices 0 … extent-1.
struct Coords {
  std::vector<Span> spans;
  uint64_t extent = 0;

  bool operator==(const Coords &) const = default;
  bool whole() const { return spans.size() == 1 && !spans[0].zero && spans[0].begin == 0 && spans[0].count == extent; }
  uint64_t held() const; // that are not padding
  std::string text() const;
  void push(Span span); // merges with the last
  static Coords all(uint64_t extent) { return {{{0, extent, false}}, extent}; }
};

/// A weight as a matrix: rows × columns.
struct MatrixCoords {
  Coords rows, columns;
};

/// The weights of one stage. Logical indices count what the weight takes over all ranks, so that a part of a fused
/// tensor begins at 0 as well.
class StageWeights {
public:
  explicit StageWeights(std::span<const plan::Plan *const> ranks);

  /// All ways to read the weight of rank `tpIndex` as a matrix of `columns` columns (more than one where a dimension
  /// has one local index); columns = 1: as a vector. Empty: the slices are too fragmented.
  std::vector<std::shared_ptr<const MatrixCoords>> matrices(uint32_t tpIndex, uint32_t weight, uint64_t columns);

private:
  struct Union; // what all ranks take, of the rows or columns of one source
  const Union *unionOf(std::string_view name, uint32_t source, uint32_t from, uint32_t to);

  std::span<const plan::Plan *const> ranks_;
  std::unordered_map<std::string_view, std::vector<const plan::Weight *>> byName_;
  std::map<std::tuple<std::string_view, uint32_t, uint32_t, uint32_t>, std::shared_ptr<Union>> unions_;
  std::map<std::tuple<uint32_t, uint32_t, uint64_t>, std::vector<std::shared_ptr<const MatrixCoords>>> cache_;
};

} // namespace distc::verify
