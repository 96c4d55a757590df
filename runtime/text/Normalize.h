// Unicode normalization form C (UAX #15).
#pragma once

#include "distc/Status.h"

#include <string>
#include <string_view>

namespace distc::text {

/// `text` is valid UTF-8. More than 1024 combining marks in a row are an error: ordering them takes quadratic time.
Result<std::string> normalizeNfc(std::string_view text);

} // namespace distc::text
