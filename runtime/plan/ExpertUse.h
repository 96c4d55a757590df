// How many experts a step reads: of a mixture of experts the weights of those alone that some token goes to.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace distc {

/// Of `experts`, how many distinct ones `rows` rows are expected to go to that choose `count` each, all experts being
/// equally likely. Of one row it is `count`, whatever is likely; of more rows an upper bound, since a router that
/// prefers some experts reaches fewer.
inline double expectedExperts(double experts, double count, double rows) {
  return experts * (1 - std::pow(1 - std::min(1.0, count / experts), rows));
}

} // namespace distc
