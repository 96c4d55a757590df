#include "compiler/Explain/Names.h"

#include <algorithm>
#include <cstdio>
#include <set>

namespace distc::explain {

NumberedName numbered(std::string_view name) {
  NumberedName result;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    const bool number = !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == part.npos;
    if (number)
      result.numbers.push_back(static_cast<uint32_t>(std::stoul(std::string(part))));
    result.pattern += number ? "*" : part;
    if (end < name.size())
      result.pattern += '.';
    begin = end + 1;
  }
  return result;
}

std::string rangesText(std::vector<uint32_t> numbers) {
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1)
      ++end;
    text += (text.empty() ? "" : ", ") + std::to_string(numbers[i]);
    if (end > i + 1)
      text += "-" + std::to_string(numbers[end - 1]);
    i = end;
  }
  return text;
}

// Of many ranges the ends.
static std::string shortRanges(const std::vector<uint32_t> &numbers) {
  const std::string all = rangesText(numbers);
  const size_t first = all.find(", "), second = first == all.npos ? first : all.find(", ", first + 2);
  const size_t last = all.rfind(", ");
  if (first == all.npos)
    return all;
  return "{" + (last > second ? all.substr(0, second) + ", …" + all.substr(last) : all) + "}";
}

std::string joinedName(const std::string &pattern, const std::vector<std::vector<uint32_t>> &numbers) {
  if (numbers.empty())
    return printable(pattern);
  std::string text;
  size_t place = 0, combinations = 1;
  for (size_t at = 0; at < pattern.size(); ++at) {
    // A star of the name itself is no place of a number: those stand alone between dots.
    const bool alone = (at == 0 || pattern[at - 1] == '.') && (at + 1 == pattern.size() || pattern[at + 1] == '.');
    if (pattern[at] != '*' || !alone || place >= numbers[0].size()) {
      text += pattern[at];
      continue;
    }
    std::vector<uint32_t> all;
    for (const std::vector<uint32_t> &one : numbers)
      all.push_back(one[place]);
    ++place;
    combinations *= std::set<uint32_t>(all.begin(), all.end()).size();
    text += shortRanges(all);
  }
  if (const size_t different = std::set(numbers.begin(), numbers.end()).size(); combinations != different)
    text += " (" + std::to_string(different) + " of them)";
  return printable(text);
}

bool globMatches(std::string_view glob, std::string_view text) {
  size_t g = 0, t = 0, star = glob.npos, after = 0;
  while (t < text.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      after = t;
    } else if (g < glob.size() && (glob[g] == '?' || glob[g] == text[t])) {
      ++g;
      ++t;
    } else if (star != glob.npos) {
      g = star + 1;
      t = ++after;
    } else {
      return false;
    }
  }
  return glob.find_first_not_of('*', g) == glob.npos;
}

static size_t editDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j)
    row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({change, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::vector<std::string> nearest(std::string_view name, const std::vector<std::string> &names, size_t most) {
  constexpr size_t kLongest = 200; // what is longer was not typed
  std::vector<std::pair<size_t, std::string>> found;
  for (const std::string &candidate : names) {
    if (name.empty() || name.size() > kLongest || candidate.size() > kLongest)
      continue;
    size_t distance = editDistance(name, candidate);
    if (candidate.find(name) != candidate.npos)
      distance = std::min<size_t>(distance, 1);
    if (distance <= std::max<size_t>(2, name.size() / 3))
      found.emplace_back(distance, candidate);
  }
  std::stable_sort(found.begin(), found.end(), [](const auto &a, const auto &b) { return a.first < b.first; });
  std::vector<std::string> result;
  for (const auto &[distance, candidate] : found)
    if (result.size() < most && std::find(result.begin(), result.end(), candidate) == result.end())
      result.push_back(candidate);
  return result;
}

// How many bytes of `text` make one character of UTF-8 that can be shown; 0: none do.
static size_t characterAt(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80)
    return first >= 0x20 && first != 0x7f ? 1 : 0;
  const size_t size = first >= 0xf0 && first < 0xf5 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 0;
  if (size == 0 || first >= 0xf5 || text.size() < size || (first == 0xc2 && byte(1) < 0xa0)) // controls C1
    return 0;
  for (size_t i = 1; i < size; ++i)
    if ((byte(i) & 0xc0) != 0x80)
      return 0;
  return size;
}

std::string printable(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const size_t size = characterAt(text);
    if (size > 0) {
      result += text.substr(0, size);
    } else {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\x%02x", static_cast<unsigned char>(text[0]));
      result += escape;
    }
    text.remove_prefix(std::max<size_t>(1, size));
  }
  return result;
}

TextTable::TextTable(std::string align, std::vector<std::string> heads) : align_(std::move(align)) {
  rows_.push_back(std::move(heads));
}

void TextTable::row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

std::string TextTable::text(std::string_view indent) const {
  const auto width = [](const std::string &cell) {
    return static_cast<size_t>(
        std::count_if(cell.begin(), cell.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
  };
  std::vector<size_t> widths(align_.size(), 0);
  for (const auto &row : rows_)
    for (size_t c = 0; c < row.size(); ++c)
      widths[c] = std::max(widths[c], width(row[c]));
  std::string text;
  for (const auto &row : rows_) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string pad(widths[c] - width(row[c]), ' ');
      line += (c == 0 ? "" : "  ") + (align_[c] == 'r' ? pad + row[c] : row[c] + pad);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += std::string(indent) + line + "\n";
  }
  return text;
}

} // namespace distc::explain
