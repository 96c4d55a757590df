// Python's functions on text.
#include "runtime/text/Utf8.h"
#include "runtime/text/jinja/Interpreter.h"

#include <utf8proc.h>

#include <algorithm>

namespace distc::jinja {

namespace {

char32_t codePointOf(std::string_view character) { return text::stepUtf8(character).codePoint; }

bool isPythonSpace(std::string_view character) {
  char32_t c = codePointOf(character);
  return text::isWhiteSpace(c) || (c >= 0x1C && c <= 0x1F);
}

} // namespace

std::string stripped(std::string_view text, const Value *set, bool left, bool right) {
  std::vector<std::string_view> members;
  bool usesSet = set && !set->is<None>();
  if (usesSet) {
    if (!set->isString())
      fail("the characters to strip must be a string, got " + set->typeName());
    members = characters(*set->string());
  }
  auto goes = [&](std::string_view character) {
    return usesSet ? std::find(members.begin(), members.end(), character) != members.end() : isPythonSpace(character);
  };
  while (left && !text.empty()) {
    std::string_view first = text.substr(0, text::stepUtf8(text).length);
    if (!goes(first))
      break;
    text.remove_prefix(first.size());
  }
  while (right && !text.empty()) {
    size_t last = text.size() - 1;
    while (last > 0 && (text[last] & 0xC0) == 0x80)
      --last;
    if (!goes(text.substr(last)))
      break;
    text = text.substr(0, last);
  }
  return std::string(text);
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to, int64_t count, Budget &budget) {
  std::string result;
  if (from.empty()) {
    for (std::string_view character : characters(text)) {
      if (count != 0) {
        result += to;
        --count;
      }
      budget.chargeBytes(to.size());
      result += character;
    }
    return count != 0 ? result.append(to) : result;
  }
  size_t at = 0;
  for (size_t found; count != 0 && (found = text.find(from, at)) != std::string_view::npos; --count) {
    budget.chargeBytes(to.size() + found - at);
    result.append(text.substr(at, found - at)).append(to);
    at = found + from.size();
  }
  budget.chargeBytes(text.size() - at);
  return result.append(text.substr(at));
}

std::string cased(std::string_view text, bool upper) {
  std::string result;
  for (std::string_view character : characters(text)) {
    char32_t c = codePointOf(character);
    if (upper && c == 0xDF)
      result += "SS"; // the one common letter whose capital is two
    else
      text::appendUtf8(result, static_cast<char32_t>(upper ? utf8proc_toupper(static_cast<utf8proc_int32_t>(c))
                                                           : utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  }
  return result;
}

std::string capitalized(std::string_view text) {
  if (text.empty())
    return {};
  size_t first = text::stepUtf8(text).length;
  return cased(text.substr(0, first), true) + cased(text.substr(first), false);
}

std::vector<std::string_view> splitLines(std::string_view text, bool keepEnds) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    text::Utf8Step step = text::stepUtf8(text.substr(i));
    char32_t c = step.codePoint;
    size_t end = i + step.length;
    if ((c >= '\n' && c <= '\r') || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029) {
      if (c == '\r' && end < text.size() && text[end] == '\n')
        ++end;
      lines.push_back(text.substr(begin, (keepEnds ? end : i) - begin));
      begin = end;
    }
    i = end;
  }
  if (begin < text.size())
    lines.push_back(text.substr(begin));
  return lines;
}

} // namespace distc::jinja
