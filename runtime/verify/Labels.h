// What a walk through a program knows of each value, where values may be written as a whole or in parts.
#pragma once

#include "runtime/verify/Report.h"

#include <algorithm>

namespace distc::verify {

template <typename Label> class Labels {
public:
  explicit Labels(const ProgramRef &ref)
      : ref_(ref), labels_(ref.program.buffers()->size()), stamps_(labels_.size(), -1), families_(labels_.size()) {
    for (uint32_t b = 0; b < labels_.size(); ++b)
      families_[ref.root(b)].push_back(b);
  }

  /// The label of what buffer b holds: that of who wrote all of it last, or of the parts that were written after. Where
  /// those are not all of it, or have other labels than each other, `differs` is told.
  template <typename F> const Label &get(uint32_t b, F differs) const {
    const std::vector<uint32_t> &family = families_[ref_.root(b)];
    uint32_t whole = b, newest = b;
    for (uint32_t other : family)
      if (covers(other, b) && stamps_[other] > stamps_[whole])
        whole = newest = other;
    bool alike = true;
    std::vector<bool> parts;
    for (uint32_t other : family) {
      if (stamps_[other] <= stamps_[whole] || disjoint(other, b))
        continue;
      alike = alike && (newest == whole || labels_[other] == labels_[newest]);
      newest = stamps_[other] > stamps_[newest] ? other : newest;
      parts.resize(std::max<size_t>(parts.size(), ref_.buffer(other).chunks()));
      parts[ref_.buffer(other).chunk()] = true;
    }
    const bool all = std::find(parts.begin(), parts.end(), false) == parts.end();
    if (newest != whole && (!alike || (!all && stamps_[whole] >= 0 && !(labels_[newest] == labels_[whole]))))
      differs();
    return labels_[newest];
  }
  void set(uint32_t b, Label label, size_t instruction) {
    labels_[b] = std::move(label);
    stamps_[b] = static_cast<int64_t>(instruction);
  }

  /// The instruction that wrote the buffer last by this index; -1: none did.
  int64_t stamp(uint32_t b) const { return stamps_[b]; }

private:
  bool covers(uint32_t a, uint32_t b) const {
    const plan::Buffer &x = ref_.buffer(a), &y = ref_.buffer(b);
    return x.chunks() == 1 || (x.chunks() == y.chunks() && x.chunk() == y.chunk());
  }
  bool disjoint(uint32_t a, uint32_t b) const {
    const plan::Buffer &x = ref_.buffer(a), &y = ref_.buffer(b);
    return x.chunks() == y.chunks() && x.chunk() != y.chunk();
  }

  const ProgramRef &ref_;
  std::vector<Label> labels_;                   // by buffer
  std::vector<int64_t> stamps_;                 // by buffer: the instruction that set the label
  std::vector<std::vector<uint32_t>> families_; // by buffer that owns memory: it and its parts
};

} // namespace distc::verify
