#include "runtime/text/Normalize.h"

#include "runtime/text/Utf8.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace distc::text {

namespace {
constexpr unsigned kMaxMarks = 1024;
} // namespace

Result<std::string> normalizeNfc(std::string_view text) {
  if (std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; }))
    return std::string(text);
  unsigned marks = 0;
  for (size_t i = 0; i < text.size();) {
    Utf8Step step = stepUtf8(text.substr(i));
    bool isMark = utf8proc_get_property(static_cast<utf8proc_int32_t>(step.codePoint))->combining_class != 0;
    marks = isMark ? marks + 1 : 0;
    if (marks > kMaxMarks)
      return invalidArgument("more than " + std::to_string(kMaxMarks) + " combining marks in a row at byte " +
                             std::to_string(i) + " of the text");
    i += step.length;
  }
  utf8proc_uint8_t *raw = nullptr;
  utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t *>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &raw, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(raw, &std::free);
  if (size < 0)
    return resourceExhausted(std::string("normalization to NFC failed: ") + utf8proc_errmsg(size));
  return std::string(reinterpret_cast<const char *>(raw), static_cast<size_t>(size));
}

} // namespace distc::text
