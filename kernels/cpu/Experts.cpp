// The mixture of experts around its products (Shazeer et al., arXiv:1701.06538): which experts a token goes to, its
// places in their order, and the weighted sum of what they return.
#include "distc/kernels/Cpu.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace distc::cpu {

static float orLeast(float logit) { return std::isnan(logit) ? -std::numeric_limits<float>::infinity() : logit; }

void route(const float *logits, int64_t experts, int64_t count, bool normalize, float *routes, int64_t rowBegin,
           int64_t rowEnd) {
  for (int64_t t = rowBegin; t < rowEnd; ++t) {
    const float *z = logits + t * experts;
    float *out = routes + t * count * 2;
    for (int64_t j = 0; j < count; ++j) {
      // The largest behind the one before, in the order of logits and then ids: no list of those taken is kept.
      int64_t best = -1;
      for (int64_t e = 0; e < experts; ++e) {
        const float value = orLeast(z[e]);
        if (j > 0) {
          const float last = out[2 * j - 2];
          if (value > last || (value == last && e <= static_cast<int64_t>(out[2 * j - 1])))
            continue;
        }
        if (best < 0 || value > orLeast(z[best]))
          best = e;
      }
      out[2 * j] = orLeast(z[best]);
      out[2 * j + 1] = static_cast<float>(best);
    }
    const float largest = out[0];
    float sum = 0;
    if (!normalize)
      for (int64_t e = 0; e < experts; ++e)
        sum += std::exp(orLeast(z[e]) - largest);
    for (int64_t j = 0; j < count; ++j) {
      out[2 * j] = std::exp(out[2 * j] - largest);
      sum += normalize ? out[2 * j] : 0;
    }
    for (int64_t j = 0; j < count; ++j)
      out[2 * j] /= sum;
  }
}

void groupByExpert(const float *routes, int64_t places, int64_t experts, int32_t *order, int32_t *starts) {
  std::fill_n(starts, experts + 1, 0);
  for (int64_t i = 0; i < places; ++i)
    ++starts[static_cast<int64_t>(routes[2 * i + 1]) + 1];
  for (int64_t e = 0; e < experts; ++e)
    starts[e + 1] += starts[e];
  for (int64_t i = 0; i < places; ++i) // afterwards starts[e] is the end of e: the start of e + 1
    order[starts[static_cast<int64_t>(routes[2 * i + 1])]++] = static_cast<int32_t>(i);
  for (int64_t e = experts; e > 0; --e)
    starts[e] = starts[e - 1];
  starts[0] = 0;
}

void combine(const float *x, const float *routes, int64_t count, int64_t width, float *y, int64_t rowBegin,
             int64_t rowEnd) {
  for (int64_t t = rowBegin; t < rowEnd; ++t) {
    float *out = y + t * width;
    std::fill_n(out, width, 0.0f);
    for (int64_t j = 0; j < count; ++j) {
      const float weight = routes[(t * count + j) * 2];
      const float *in = x + (t * count + j) * width;
      for (int64_t n = 0; n < width; ++n)
        out[n] += weight * in[n];
    }
  }
}

} // namespace distc::cpu
