#include "runtime/text/PieceTrie.h"

namespace distc::text {

void PieceTrie::add(std::string_view spelling, int32_t id) {
  uint64_t node = 0;
  for (char c : spelling) {
    auto [edge, isNew] = edges_.try_emplace(node << 8 | static_cast<uint8_t>(c), static_cast<uint32_t>(ids_.size()));
    if (isNew)
      ids_.push_back(-1);
    node = edge->second;
  }
  if (ids_[node] < 0)
    ids_[node] = id;
  starts_[static_cast<uint8_t>(spelling[0])] = true;
}

PieceTrie::Match PieceTrie::find(std::string_view text, size_t from) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!starts_[static_cast<uint8_t>(text[begin])])
      continue;
    Match best{begin, 0, -1};
    uint64_t node = 0;
    for (size_t i = begin; i < text.size(); ++i) {
      auto edge = edges_.find(node << 8 | static_cast<uint8_t>(text[i]));
      if (edge == edges_.end())
        break;
      node = edge->second;
      if (ids_[node] >= 0)
        best = {begin, i + 1 - begin, ids_[node]};
    }
    if (best.length > 0)
      return best;
  }
  return {text.size(), 0, -1};
}

} // namespace distc::text
