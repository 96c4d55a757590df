// GPT-2's table between bytes and printable code points, in which byte-level vocabularies are spelled: the printable
// bytes of Latin-1 are themselves, the other 68 are U+0100 and on, in the order of the bytes. Source: Radford et al.,
// "Language Models are Unsupervised Multitask Learners", encoder.py, bytes_to_unicode.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace distc::text {

constexpr bool isSpelledAsItself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/// The byte that each code point below U+0144 stands for; -1: none.
constexpr std::array<int16_t, 324> makeByteOfCodePoint() {
  std::array<int16_t, 324> table{};
  table.fill(-1);
  unsigned next = 256;
  for (unsigned byte = 0; byte < 256; ++byte)
    table[isSpelledAsItself(byte) ? byte : next++] = static_cast<int16_t>(byte);
  return table;
}

inline constexpr std::array<int16_t, 324> kByteOfCodePoint = makeByteOfCodePoint();

/// The bytes that a piece of a byte-level vocabulary stands for. A piece that is not spelled in the table throughout
/// stands for itself. `piece` is valid UTF-8.
std::string bytesOfSpelling(std::string_view piece);

} // namespace distc::text
