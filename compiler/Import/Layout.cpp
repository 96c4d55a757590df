#include "compiler/Import/Layout.h"

#include "compiler/Import/Json.h"

#include <algorithm>
#include <tuple>

namespace distc::import {

std::optional<uint64_t> elementCount(const std::vector<uint64_t> &shape) {
  uint64_t count = 1;
  bool empty = false;
  for (uint64_t dim : shape) {
    empty |= dim == 0;
    if (dim != 0 && __builtin_mul_overflow(count, dim, &count))
      return std::nullopt;
  }
  return empty ? 0 : count;
}

std::string showShape(const std::vector<uint64_t> &shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i != 0)
      text += ", ";
    if (i == 8) { // a hostile shape has any number of dimensions
      text += "…";
      break;
    }
    text += std::to_string(shape[i]);
  }
  text += "]";
  return text;
}

Status checkLayout(const FileEntry &file, uint64_t dataStart, uint64_t alignment,
                   std::vector<const TensorEntry *> tensors, Status &hole) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorEntry *a, const TensorEntry *b) {
    return std::tie(a->offset, a->bytes, a->name) < std::tie(b->offset, b->bytes, b->name);
  });
  auto range = [](uint64_t begin, uint64_t end) { return std::to_string(begin) + ".." + std::to_string(end); };
  auto padded = [&](uint64_t end) { return (end + alignment - 1) / alignment * alignment; };
  auto reportHole = [&](uint64_t begin, uint64_t end, const TensorEntry *before, const TensorEntry *after) {
    if (!hole.ok())
      return;
    std::string where;
    if (before)
      where += ", after tensor " + inQuotes(before->name);
    if (after)
      where += ", before tensor " + inQuotes(after->name);
    hole = dataLoss(file.path + ": no tensor covers bytes " + range(begin, end) + where +
                    "; the header lacks a tensor, or the file is damaged");
  };

  uint64_t covered = dataStart;
  const TensorEntry *last = nullptr;
  for (const TensorEntry *tensor : tensors) {
    if (tensor->offset < covered) // an empty tensor inside another one too
      return dataLoss(file.path + ": tensor " + inQuotes(tensor->name) + " (bytes " +
                      range(tensor->offset, tensor->offset + tensor->bytes) + ") overlaps tensor " +
                      inQuotes(last->name) + " (bytes " + range(last->offset, last->offset + last->bytes) + ")");
    if (tensor->offset > padded(covered))
      reportHole(covered, tensor->offset, last, tensor);
    covered = tensor->offset + tensor->bytes;
    last = tensor;
  }
  if (file.size > padded(covered))
    reportHole(covered, file.size, last, nullptr);
  return {};
}

} // namespace distc::import
