// Names with numbers in them: many that are alike, said as one; what a user may have meant.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace distc::explain {

/// "layers.3.q" as the pattern "layers.*.q" and the numbers {3}. A number is a whole part between dots.
struct NumberedName {
  std::string pattern;
  std::vector<uint32_t> numbers;
};
NumberedName numbered(std::string_view name);

/// "0-3, 7" of numbers in any order.
std::string rangesText(std::vector<uint32_t> numbers);

/// What names of one pattern have in common: "layers.0-31.q". At each place the ranges of its numbers; where these are
/// not all combinations, the count is added.
std::string joinedName(const std::string &pattern, const std::vector<std::vector<uint32_t>> &numbers);

/// `*` is any text, `?` any character.
bool globMatches(std::string_view glob, std::string_view text);
inline bool isGlob(std::string_view text) { return text.find_first_of("*?") != text.npos; }

/// Of `names` those that need the fewest changes to become `name`, or hold it, at most `most`.
std::vector<std::string> nearest(std::string_view name, const std::vector<std::string> &names, size_t most);

/// Text of a plan file for a terminal: bytes that are no characters, and control characters, as \xNN.
std::string printable(std::string_view text);

/// Rows of cells as aligned columns, two spaces apart. `align` has an l or an r for each column.
class TextTable {
public:
  TextTable(std::string align, std::vector<std::string> heads);
  void row(std::vector<std::string> cells);
  bool empty() const { return rows_.size() == 1; }
  std::string text(std::string_view indent = "") const;

private:
  std::string align_;
  std::vector<std::vector<std::string>> rows_;
};

} // namespace distc::explain
