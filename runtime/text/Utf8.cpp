#include "runtime/text/Utf8.h"

namespace distc::text {

Utf8Step stepUtf8(std::string_view bytes) {
  auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  uint8_t lead = at(0);
  if (lead < 0x80)
    return {Utf8::Valid, 1, lead};
  if (lead < 0xC2 || lead > 0xF4)
    return {Utf8::Invalid, 1, 0};
  uint8_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte is where overlong forms, surrogates and values above U+10FFFF show.
  uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  char32_t codePoint = lead & (0x7F >> length);
  for (uint8_t i = 1; i < length; ++i) {
    if (i == bytes.size())
      return {Utf8::Incomplete, i, 0};
    if (at(i) < low || at(i) > high)
      return {Utf8::Invalid, i, 0};
    codePoint = codePoint << 6 | (at(i) & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  return {Utf8::Valid, length, codePoint};
}

size_t findInvalidUtf8(std::string_view bytes) {
  for (size_t i = 0; i < bytes.size();) {
    Utf8Step step = stepUtf8(bytes.substr(i));
    if (step.kind != Utf8::Valid)
      return i;
    i += step.length;
  }
  return std::string_view::npos;
}

void appendUtf8(std::string &out, char32_t codePoint) {
  auto put = [&](char32_t bits) { out.push_back(static_cast<char>(bits)); };
  if (codePoint < 0x80)
    return put(codePoint);
  if (codePoint < 0x800) {
    put(0xC0 | codePoint >> 6);
  } else {
    if (codePoint < 0x10000) {
      put(0xE0 | codePoint >> 12);
    } else {
      put(0xF0 | codePoint >> 18);
      put(0x80 | (codePoint >> 12 & 0x3F));
    }
    put(0x80 | (codePoint >> 6 & 0x3F));
  }
  put(0x80 | (codePoint & 0x3F));
}

std::string takeWholeCharacters(std::string &pending) {
  std::string whole;
  size_t i = 0;
  while (i < pending.size()) {
    std::string_view rest = std::string_view(pending).substr(i);
    Utf8Step step = stepUtf8(rest);
    if (step.kind == Utf8::Incomplete)
      break;
    if (step.kind == Utf8::Valid)
      whole += rest.substr(0, step.length);
    else
      whole += "\uFFFD";
    i += step.length;
  }
  pending.erase(0, i);
  return whole;
}

bool isWhiteSpace(char32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

} // namespace distc::text
