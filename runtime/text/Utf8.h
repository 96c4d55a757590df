// UTF-8, strictly as in table 3-7 of the Unicode standard: no surrogates, no overlong forms.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace distc::text {

enum class Utf8 : uint8_t { Valid, Incomplete, Invalid };

/// What stands at the front of some bytes. Invalid: `length` is the maximal part to replace by one U+FFFD. Incomplete:
/// all `length` bytes that there are may yet become a character.
struct Utf8Step {
  Utf8 kind;
  uint8_t length;
  char32_t codePoint;
};

/// `bytes` must not be empty.
Utf8Step stepUtf8(std::string_view bytes);

/// The offset of the first byte that is not part of a valid character; npos: all is valid.
size_t findInvalidUtf8(std::string_view bytes);

void appendUtf8(std::string &out, char32_t codePoint);

/// Takes the whole characters from the front of `pending`, what is invalid as U+FFFD; an incomplete end stays in it.
std::string takeWholeCharacters(std::string &pending);

/// The Unicode property White_Space.
bool isWhiteSpace(char32_t codePoint);

} // namespace distc::text
