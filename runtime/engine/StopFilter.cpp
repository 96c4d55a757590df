#include "runtime/engine/StopFilter.h"

#include <algorithm>
#include <string_view>

namespace distc {

std::string StopFilter::push(const std::string &text) {
  if (stopped_)
    return {};
  pending_ += text;
  // Where a stop ends and begins: the one that is complete first counts, however the text is cut into pieces.
  constexpr size_t never = std::string::npos;
  std::pair<size_t, size_t> first{never, never};
  size_t held = 0;
  for (const std::string &stop : stops_) {
    if (size_t at = pending_.find(stop); at != never)
      first = std::min(first, {at + stop.size(), at});
    for (size_t n = std::min(stop.size() - 1, pending_.size()); n > held; --n)
      if (pending_.ends_with(std::string_view(stop).substr(0, n)))
        held = n;
  }
  stopped_ = first.second != never;
  std::string out = pending_.substr(0, stopped_ ? first.second : pending_.size() - held);
  pending_ = stopped_ ? std::string() : pending_.substr(out.size());
  return out;
}

} // namespace distc
