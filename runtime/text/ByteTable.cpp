#include "runtime/text/ByteTable.h"

#include "runtime/text/Utf8.h"

namespace distc::text {

std::string bytesOfSpelling(std::string_view piece) {
  std::string bytes;
  for (size_t i = 0; i < piece.size();) {
    Utf8Step step = stepUtf8(piece.substr(i));
    if (step.codePoint >= kByteOfCodePoint.size() || kByteOfCodePoint[step.codePoint] < 0)
      return std::string(piece);
    bytes.push_back(static_cast<char>(kByteOfCodePoint[step.codePoint]));
    i += step.length;
  }
  return bytes;
}

} // namespace distc::text
