// How the tensors of one file lie in it: what the readers of all formats check alike.
#pragma once

#include "compiler/Import/CheckpointIndex.h"

#include <optional>
#include <string>
#include <vector>

namespace distc::import {

/// Number of elements; nothing if the product overflows, also where one dimension is 0.
std::optional<uint64_t> elementCount(const std::vector<uint64_t> &shape);

/// "[32, 128]".
std::string showShape(const std::vector<uint64_t> &shape);

/// Tensors must not overlap, and must cover the file from `dataStart` to its end but for padding up to the next
/// multiple of `alignment` (1: none) from the start of the file. Overlap is the result; the first uncovered range goes
/// to `hole`. Every tensor must lie inside the file.
Status checkLayout(const FileEntry &file, uint64_t dataStart, uint64_t alignment,
                   std::vector<const TensorEntry *> tensors, Status &hole);

} // namespace distc::import
