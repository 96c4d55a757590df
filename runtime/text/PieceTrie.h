// Finds the special pieces in a text: leftmost first, at one place the longest.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace distc::text {

class PieceTrie {
public:
  /// Of two equal spellings the first stays. `spelling` is not empty.
  void add(std::string_view spelling, int32_t id);

  struct Match {
    size_t begin;
    size_t length;
    int32_t id;
  };
  /// The first match at or after `from`; length 0: none.
  Match find(std::string_view text, size_t from) const;

private:
  std::array<bool, 256> starts_{};
  std::unordered_map<uint64_t, uint32_t> edges_; // node << 8 | byte
  std::vector<int32_t> ids_{-1};                 // by node; -1: no piece ends here
};

} // namespace distc::text
