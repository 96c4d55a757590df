// What a rank's weights are made of, checked against the plan and the files before anything is read.
#pragma once

#include "distc/Status.h"
#include "runtime/plan/SliceRuns.h"
#include "runtime/plan/SourceFiles.h"

#include <span>
#include <vector>

namespace distc {

/// The elements that a weight takes from one source tensor.
struct WeightPart {
  const plan::SourceTensor *tensor = nullptr;
  SliceRuns runs;
  /// Where the tensor lies; without a file (random weights) null and 0. [offset, offset + tensor.bytes) is in the file.
  const MappedFile *file = nullptr;
  uint64_t offset = 0;

  /// The tensor in the mapped file.
  std::span<const std::byte> bytes() const { return file->bytes().subspan(offset, tensor->bytes()); }
};

/// The parts of `weight` in the order of its elements, which they cover. `files` are the plan's; with random weights
/// they are not looked at. Fails where a size, a slice or a range is not what the plan or the file says, or where there
/// is no conversion to the weight's type.
Result<std::vector<WeightPart>> weightParts(const plan::Plan &plan, const plan::Weight &weight,
                                            const SourceFiles &files, bool random);

/// Fails unless the weight, of placement Load, has an aligned place in a weight memory of `bytes`.
Status checkPlace(const plan::Weight &weight, uint64_t bytes);

/// The product of the dimensions of a shape from `first`, or kTooManyElements where it would overflow the arithmetic of
/// bytes.
inline constexpr uint64_t kTooManyElements = uint64_t(1) << 60;
uint64_t elementsOf(const flatbuffers::Vector<uint64_t> &shape, uint32_t first = 0);

} // namespace distc
