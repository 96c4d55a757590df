#include "runtime/engine/StopFilter.h"

#include <algorithm>
#include <string_view>

namespace distc {

std::string StopFilter::push(const std::string &text) {
  if (stopped_)
    return {};
  pending_ += text;
  size_t cut = std::string::npos, held = 0;
  for (const std::string &stop : stops_) {
    cut = std::min(cut, pending_.find(stop));
    for (size_t n = std::min(stop.size() - 1, pending_.size()); n > held; --n)
      if (pending_.ends_with(std::string_view(stop).substr(0, n)))
        held = n;
  }
  stopped_ = cut != std::string::npos;
  std::string out = pending_.substr(0, stopped_ ? cut : pending_.size() - held);
  pending_ = stopped_ ? std::string() : pending_.substr(out.size());
  return out;
}

} // namespace distc
