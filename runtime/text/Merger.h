// The core of byte pair encoding: of all neighbours that may be merged, those of the lowest rank are, the leftmost
// first, until none may. A heap of candidates makes it n log n.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <queue>
#include <vector>

namespace distc::text {

/// A run of `length` bytes from `begin` of the text; `id` is of the piece spelled so, -1: none.
struct Symbol {
  uint32_t begin;
  uint32_t length;
  int32_t id;
  int32_t previous = -1;
  int32_t next = -1;
};

struct MergeResult {
  uint32_t rank;
  int32_t id;
};

/// Merges `symbols`, which lie side by side. `find(left, right)` returns an std::optional<MergeResult>.
template <typename Find> void mergeSymbols(std::vector<Symbol> &symbols, Find find) {
  struct Candidate {
    uint32_t rank;
    int32_t left;
    int32_t id;
    uint32_t length; // of both: it only grows, so it tells whether either was merged since
    bool operator>(const Candidate &other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
  };
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  auto propose = [&](int32_t left, int32_t right) {
    if (left < 0 || right < 0)
      return;
    if (std::optional<MergeResult> merge = find(symbols[left], symbols[right]))
      heap.push({merge->rank, left, merge->id, symbols[left].length + symbols[right].length});
  };
  auto count = static_cast<int32_t>(symbols.size());
  for (int32_t i = 0; i < count; ++i) {
    symbols[i].previous = i - 1;
    symbols[i].next = i + 1 < count ? i + 1 : -1;
  }
  for (int32_t i = 0; i + 1 < count; ++i)
    propose(i, i + 1);

  while (!heap.empty()) {
    Candidate best = heap.top();
    heap.pop();
    Symbol &left = symbols[best.left];
    if (left.length == 0 || left.next < 0)
      continue;
    Symbol &right = symbols[left.next];
    if (left.length + right.length != best.length)
      continue;
    left.length = best.length;
    left.id = best.id;
    left.next = right.next;
    right.length = 0;
    if (left.next >= 0)
      symbols[left.next].previous = best.left;
    propose(left.previous, best.left);
    propose(best.left, left.next);
  }
  std::erase_if(symbols, [](const Symbol &symbol) { return symbol.length == 0; });
}

} // namespace distc::text
