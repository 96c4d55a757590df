// What the kernel tests of all backends share: random inputs, references in double, errors.
#pragma once

#include "gtest/gtest.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace distc::reference {

/// Fresh random inputs; the seed is printed and in the report.
class Random {
public:
  Random() {
    const unsigned seed = std::random_device()();
    testing::Test::RecordProperty("seed", std::to_string(seed));
    std::printf("seed %u\n", seed);
    engine.seed(seed);
  }
  std::vector<float> normal(size_t n, float deviation = 1.0f) {
    std::normal_distribution<float> distribution(0.0f, deviation);
    std::vector<float> values(n);
    for (float &v : values)
      v = distribution(engine);
    return values;
  }
  int64_t uniform(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(engine); }

  std::mt19937 engine;
};

inline double normOf(const std::vector<double> &values) {
  double sum = 0;
  for (double v : values)
    sum += v * v;
  return std::sqrt(sum);
}

/// ||out - reference|| / scale; NaN if an output was not written. The scale defaults to ||reference||; a sum that may
/// cancel is measured against the norm of its terms.
inline double relativeError(const float *out, const std::vector<double> &reference, double scale = 0) {
  double difference = 0;
  for (size_t i = 0; i < reference.size(); ++i)
    difference += (out[i] - reference[i]) * (out[i] - reference[i]);
  return std::sqrt(difference) / (scale > 0 ? scale : normOf(reference));
}

/// The sums of a linear layer and the norm of all their terms.
struct Linear {
  std::vector<double> sums; // [tokens, rows]
  double scale = 0;         // one output alone may be next to zero
};
inline Linear linear(const std::vector<float> &x, int64_t tokens, const std::vector<float> &w, int64_t rows,
                     int64_t cols, int64_t stride, const float *bias) {
  Linear result;
  double squares = 0;
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t n = 0; n < rows; ++n) {
      double sum = bias ? bias[n] : 0;
      squares += sum * sum;
      for (int64_t k = 0; k < cols; ++k) {
        const double term = double(x[t * cols + k]) * w[n * stride + k];
        sum += term;
        squares += term * term;
      }
      result.sums.push_back(sum);
    }
  result.scale = std::sqrt(squares);
  return result;
}

/// Routes [rows, count, 2]: distinct experts of each row, in any order, and weights of either sign.
inline std::vector<float> randomRoutes(Random &random, int64_t rows, int64_t count, int64_t experts) {
  std::vector<float> routes;
  std::vector<int64_t> ids(size_t(experts), 0);
  std::iota(ids.begin(), ids.end(), 0);
  for (int64_t t = 0; t < rows; ++t) {
    std::shuffle(ids.begin(), ids.end(), random.engine);
    for (int64_t j = 0; j < count; ++j)
      routes.insert(routes.end(), {random.normal(1)[0], float(ids[size_t(j)])});
  }
  return routes;
}

/// Of a weight: the difference of two logits of up to 16 is rounded to 1e-6, and the exponential of it errs by as much.
constexpr double kRouteError = 4e-6;

/// How far routes [rows, count, 2] are from those of the logits: infinite where an id is another, or in another order.
inline double routeError(const std::vector<float> &logits, int64_t experts, int64_t count, bool normalize,
                         const float *routes) {
  double largest = 0;
  for (int64_t t = 0; t < int64_t(logits.size()) / experts; ++t) {
    const float *z = &logits[size_t(t * experts)];
    std::vector<int64_t> order(static_cast<size_t>(experts));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return z[a] > z[b]; });
    double sum = 0;
    for (int64_t i = 0; i < (normalize ? count : experts); ++i)
      sum += std::exp(double(z[order[size_t(i)]]));
    for (int64_t j = 0; j < count; ++j) {
      const double weight = std::exp(double(z[order[size_t(j)]])) / sum;
      if (routes[(t * count + j) * 2 + 1] != float(order[size_t(j)]))
        return std::numeric_limits<double>::infinity();
      largest = std::max(largest, std::abs(routes[(t * count + j) * 2] - weight) / weight);
    }
  }
  return largest;
}

/// The weighted sums of the rows of x [rows, count, width].
inline Linear combine(const std::vector<float> &x, const std::vector<float> &routes, int64_t count, int64_t width) {
  Linear result;
  double squares = 0;
  for (int64_t t = 0; t < int64_t(routes.size()) / (2 * count); ++t)
    for (int64_t n = 0; n < width; ++n) {
      double sum = 0;
      for (int64_t j = 0; j < count; ++j) {
        const double term = double(routes[size_t((t * count + j) * 2)]) * x[size_t((t * count + j) * width + n)];
        sum += term;
        squares += term * term;
      }
      result.sums.push_back(sum);
    }
  result.scale = std::sqrt(squares);
  return result;
}

inline std::vector<double> rmsNorm(const std::vector<float> &x, const std::vector<float> &weight, double eps) {
  const size_t width = weight.size();
  std::vector<double> result;
  for (size_t t = 0; t < x.size() / width; ++t) {
    double sum = 0;
    for (size_t i = 0; i < width; ++i)
      sum += double(x[t * width + i]) * x[t * width + i];
    for (size_t i = 0; i < width; ++i)
      result.push_back(x[t * width + i] / std::sqrt(sum / double(width) + eps) * weight[i]);
  }
  return result;
}

inline std::vector<float> ropeTable(int64_t positions, int64_t dim) {
  std::vector<float> cosSin;
  for (int64_t p = 0; p < positions; ++p)
    for (int64_t i = 0; i < dim / 2; ++i) {
      const double angle = double(p) * std::pow(10000.0, -2.0 * double(i) / double(dim));
      cosSin.insert(cosSin.end(), {float(std::cos(angle)), float(std::sin(angle))});
    }
  return cosSin;
}

inline std::vector<double> rope(const std::vector<float> &x, const std::vector<int32_t> &positions,
                                const std::vector<float> &cosSin, int64_t heads, int64_t dim, bool interleaved) {
  const int64_t half = dim / 2;
  std::vector<double> result(x.size());
  for (size_t t = 0; t < positions.size(); ++t)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t i = 0; i < half; ++i) {
        const int64_t head = (int64_t(t) * heads + h) * dim;
        const int64_t a = head + (interleaved ? 2 * i : i), b = interleaved ? a + 1 : a + half;
        const double cos = cosSin[(positions[t] * half + i) * 2], sin = cosSin[(positions[t] * half + i) * 2 + 1];
        result[a] = x[a] * cos - x[b] * sin;
        result[b] = x[a] * sin + x[b] * cos;
      }
  return result;
}

/// Of the first `rotated` elements of each head; the others stay.
inline std::vector<double> ropeOfPart(const std::vector<float> &x, const std::vector<int32_t> &positions,
                                      const std::vector<float> &cosSin, int64_t heads, int64_t dim, int64_t rotated,
                                      bool interleaved) {
  std::vector<double> result(x.begin(), x.end());
  std::vector<float> part;
  for (size_t head = 0; head < x.size() / dim; ++head)
    part.insert(part.end(), x.begin() + head * dim, x.begin() + head * dim + rotated);
  const std::vector<double> turned = rope(part, positions, cosSin, heads, rotated, interleaved);
  for (size_t i = 0; i < turned.size(); ++i)
    result[i / rotated * dim + i % rotated] = turned[i];
  return result;
}

/// The size of what is added up in a layerNorm of such rows: where a bias cancels the rest, errors stay.
inline double layerNormScale(const std::vector<double> &result, const std::vector<float> &bias) {
  double squares = 0;
  for (size_t i = 0; i < result.size(); ++i)
    squares += result[i] * result[i] + double(bias[i % bias.size()]) * bias[i % bias.size()];
  return std::sqrt(squares);
}

inline std::vector<double> layerNorm(const std::vector<float> &x, const std::vector<float> &weight,
                                     const std::vector<float> &bias, double eps) {
  const size_t width = weight.size();
  std::vector<double> result;
  for (size_t t = 0; t < x.size() / width; ++t) {
    double mean = 0, squares = 0;
    for (size_t i = 0; i < width; ++i)
      mean += double(x[t * width + i]) / double(width);
    for (size_t i = 0; i < width; ++i)
      squares += (x[t * width + i] - mean) * (x[t * width + i] - mean);
    for (size_t i = 0; i < width; ++i)
      result.push_back((x[t * width + i] - mean) / std::sqrt(squares / double(width) + eps) * weight[i] + bias[i]);
  }
  return result;
}

/// By the number of an Activation: Silu, Gelu, GeluTanh, Relu.
inline double activation(int kind, double x) {
  switch (kind) {
  case 0:
    return x / (1 + std::exp(-x));
  case 1:
    return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
  case 2:
    return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  default:
    return x > 0 ? x : 0;
  }
}
/// Gates where activations go wrong, and random ones of several sizes.
inline std::vector<float> gates(Random &random) {
  std::vector<float> gate{0.0f, -0.0f, 1e-30f, -1e-30f, 100.0f, -50.0f, 1000.0f, -1000.0f};
  for (float deviation : {0.01f, 1.0f, 6.0f})
    for (float value : random.normal(1001, deviation))
      gate.push_back(value);
  return gate;
}

struct AttentionCase {
  int64_t heads, kvHeads, dim, blockTokens, window;
  float softCap;
  std::vector<int32_t> positions;
  std::vector<int32_t> sequenceOf; // empty: a sequence each
};

/// A cache with its blocks in random order, and one query for each position.
struct Attention {
  Attention(AttentionCase shape, Random &random) : c(std::move(shape)) {
    if (c.sequenceOf.empty()) {
      c.sequenceOf.resize(c.positions.size());
      std::iota(c.sequenceOf.begin(), c.sequenceOf.end(), 0);
    }
    const int64_t sequences = *std::max_element(c.sequenceOf.begin(), c.sequenceOf.end()) + 1;
    blocksPerSequence = *std::max_element(c.positions.begin(), c.positions.end()) / c.blockTokens + 1;
    table.resize(sequences * blocksPerSequence);
    std::iota(table.begin(), table.end(), 0);
    std::shuffle(table.begin(), table.end(), random.engine);
    cache = random.normal(table.size() * 2 * c.kvHeads * c.blockTokens * c.dim);
    q = random.normal(c.positions.size() * c.heads * c.dim, 2.0f);
  }

  float scale() const { return 1.0f / std::sqrt(float(c.dim)); }
  /// Where the cache has position p of sequence s: of `part` plane * kvHeads + head.
  float *at(int64_t s, int64_t p, int64_t part) {
    const int64_t block = table[s * blocksPerSequence + p / c.blockTokens];
    return &cache[((block * 2 * c.kvHeads + part) * c.blockTokens + p % c.blockTokens) * c.dim];
  }

  std::vector<double> result() {
    std::vector<double> out;
    for (size_t t = 0; t < c.positions.size(); ++t)
      for (int64_t h = 0; h < c.heads; ++h) {
        const int64_t kvHead = h / (c.heads / c.kvHeads), p = c.positions[t], s = c.sequenceOf[t];
        const float *query = &q[(t * c.heads + h) * c.dim];
        const int64_t first = c.window > 0 ? std::max<int64_t>(0, p - c.window + 1) : 0;
        std::vector<double> scores, sum(c.dim);
        for (int64_t j = first; j <= p; ++j) {
          double score = 0;
          for (int64_t i = 0; i < c.dim; ++i)
            score += double(query[i]) * at(s, j, kvHead)[i];
          score /= std::sqrt(double(c.dim));
          scores.push_back(c.softCap > 0 ? c.softCap * std::tanh(score / c.softCap) : score);
        }
        const double maximum = *std::max_element(scores.begin(), scores.end());
        double total = 0;
        for (int64_t j = first; j <= p; ++j) {
          const double weight = std::exp(scores[j - first] - maximum);
          total += weight;
          for (int64_t i = 0; i < c.dim; ++i)
            sum[i] += weight * at(s, j, c.kvHeads + kvHead)[i];
        }
        for (double v : sum)
          out.push_back(v / total);
      }
    return out;
  }

  AttentionCase c;
  std::vector<int32_t> table;
  int64_t blocksPerSequence = 0;
  std::vector<float> cache, q;
};

inline const std::vector<AttentionCase> attentionCases{
    {1, 1, 2, 1, 0, 0.0f, {0}, {}},
    {4, 4, 64, 16, 0, 0.0f, {0, 31, 32, 33, 200}, {}},
    {9, 3, 64, 16, 0, 0.0f, {5, 100}, {}},
    {8, 1, 128, 32, 0, 0.0f, {63, 64, 500}, {}},
    {22, 2, 80, 16, 7, 0.0f, {0, 6, 7, 99}, {}},
    {4, 2, 256, 16, 40, 20.0f, {3, 39, 40, 300}, {}},
    {6, 2, 34, 5, 0, 0.5f, {2, 77}, {}},
    {10, 2, 6, 3, 1, 0.0f, {0, 10}, {}},
    {2, 1, 250, 7, 0, 30.0f, {1000}, {}},
};

} // namespace distc::reference
