#include "compiler/Import/RopeScaling.h"

#include "runtime/base/File.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

namespace distc::import {

namespace {

constexpr int kDoublings = 24; // of the context, for sequences of other lengths

std::vector<double> plainFrequencies(double theta, int64_t rotated) {
  std::vector<double> frequencies;
  for (int64_t i = 0; i < rotated / 2; ++i)
    frequencies.push_back(std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotated)));
  return frequencies;
}

Result<double> positive(const ConfigSource &config, const std::string &key, std::optional<double> fallback = {}) {
  DISTC_ASSIGN(std::optional<double> value, config.number(key));
  if (!value)
    value = fallback;
  if (!value)
    return invalidArgument(config.where(key) + " is missing");
  if (!(*value > 0) || !std::isfinite(*value))
    return invalidArgument(config.where(key) + " is " + std::to_string(*value) + ", expected a positive number");
  return *value;
}

Status unsupported(const ConfigSource &config, const std::string &key, const std::string &kind) {
  return invalidArgument(config.where(key) + ": rope type '" + kind +
                         "' is not supported; supported are default, linear, dynamic, yarn, llama3, longrope");
}

/// How many elements of a head are rotated.
Status checkRotated(const std::string &where, int64_t rotated, int64_t headDim) {
  if (rotated >= 2 && rotated <= headDim && rotated % 2 == 0)
    return {};
  return invalidArgument(where + ": rotates " + std::to_string(rotated) + " of the " + std::to_string(headDim) +
                         " elements of a head, expected an even number from 2 to all");
}

// Long wavelengths are interpolated, short ones kept, those between blended.
Status scaleLlama3(const ConfigSource &config, const std::string &at, double original,
                   std::vector<double> &frequencies) {
  DISTC_ASSIGN(double factor, positive(config, at + ".factor"));
  DISTC_ASSIGN(double low, positive(config, at + ".low_freq_factor"));
  DISTC_ASSIGN(double high, positive(config, at + ".high_freq_factor"));
  if (high <= low)
    return invalidArgument(config.where(at + ".high_freq_factor") + " is " + std::to_string(high) +
                           ", expected more than low_freq_factor, " + std::to_string(low));
  for (double &frequency : frequencies) {
    double wavelength = 2 * std::numbers::pi / frequency;
    if (wavelength < original / high)
      continue;
    if (wavelength > original / low) {
      frequency /= factor;
      continue;
    }
    double smooth = (original / wavelength - low) / (high - low);
    frequency = (1 - smooth) * frequency / factor + smooth * frequency;
  }
  return {};
}

struct Yarn {
  double factor, original, fast = 32, slow = 1;
  bool truncate = true;
};

// Pairs that turn more than `fast` times within the original context are kept, those that turn less than `slow` times
// interpolated, those between blended by their index.
void scaleYarn(const Yarn &yarn, double theta, std::vector<double> &frequencies) {
  const auto rotated = 2.0 * static_cast<double>(frequencies.size());
  auto indexOf = [&](double turns) {
    return rotated * std::log(yarn.original / (turns * 2 * std::numbers::pi)) / (2 * std::log(theta));
  };
  double low = indexOf(yarn.fast), high = indexOf(yarn.slow);
  if (yarn.truncate)
    low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, rotated - 1);
  if (low == high)
    high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = frequencies[i] * (1 - ramp) + frequencies[i] / yarn.factor * ramp;
  }
}

double yarnMagnitude(double factor, double scale = 1) { return factor <= 1 ? 1 : 0.1 * scale * std::log(factor) + 1; }

// NTK-aware: the base grows with the length, so that the longest wavelength is interpolated and the shortest stays. A
// set for each doubling of the context, with the base of its longest sequences.
void scaleDynamic(double theta, double factor, int64_t context, int64_t rotated, RopeFrequencies &result) {
  if (rotated == 2) // one pair, which no base changes
    return;
  const auto d = static_cast<double>(rotated);
  int64_t limit = context;
  for (int i = 0; i < kDoublings; ++i, limit *= 2) {
    const double ratio = factor * 2 * static_cast<double>(limit) / static_cast<double>(context) - (factor - 1);
    const std::vector<double> set = plainFrequencies(theta * std::pow(ratio, d / (d - 2)), rotated);
    result.invFreq.insert(result.invFreq.end(), set.begin(), set.end());
    result.over.push_back(limit);
  }
}

// One set for sequences that fit the original context, another for longer ones.
void scaleLong(const std::vector<double> &shorter, const std::vector<double> &longer, double original,
               RopeFrequencies &result) {
  const std::vector<double> plain = result.invFreq;
  result.invFreq.clear();
  for (const std::vector<double> *factors : {&shorter, &longer})
    for (size_t i = 0; i < plain.size(); ++i)
      result.invFreq.push_back(plain[i] / (*factors)[i]);
  result.over = {static_cast<int64_t>(original)};
}

class HuggingFaceRope {
public:
  HuggingFaceRope(const ConfigSource &config, int64_t headDim, int64_t context)
      : config_(config), headDim_(headDim), context_(static_cast<double>(context)) {}

  Result<RopeFrequencies> read() {
    DISTC_ASSIGN(std::optional<Json> parameters, config_.value("rope_parameters"));
    DISTC_ASSIGN(std::optional<Json> scaling, config_.value("rope_scaling"));
    // Newer files have everything in rope_parameters; older ones theta beside an optional rope_scaling.
    at_ = parameters ? "rope_parameters" : "rope_scaling";
    DISTC_ASSIGN(std::optional<double> topTheta, config_.number("rope_theta"));
    DISTC_ASSIGN(theta_, positive(config_, parameters ? at_ + ".rope_theta" : "rope_theta", topTheta.value_or(10000)));
    std::string part = at_ + ".partial_rotary_factor";
    DISTC_ASSIGN(std::optional<double> partial, config_.number(part));
    if (!partial) {
      part = "partial_rotary_factor";
      DISTC_ASSIGN(partial, config_.number(part));
    }
    const double fraction = std::clamp(partial.value_or(1), -1.0, 2.0); // what it rotates, 0 or too much, is refused
    rotated_ = static_cast<int64_t>(fraction * static_cast<double>(headDim_));
    DISTC_TRY(checkRotated(config_.where(part), rotated_, headDim_));
    RopeFrequencies result{plainFrequencies(theta_, rotated_), 1, {}};
    if (!parameters && !scaling)
      return result;
    std::string key = at_ + ".rope_type";
    DISTC_ASSIGN(std::optional<std::string> kind, config_.string(key));
    if (!kind) {
      key = at_ + ".type";
      DISTC_ASSIGN(kind, config_.string(key));
    }
    if (kind && *kind != "default")
      DISTC_TRY(scale(*kind, key, result));
    return result;
  }

private:
  Status scale(const std::string &kind, const std::string &key, RopeFrequencies &result) {
    // Beside the parameters it counts more: there some models state what they were trained with.
    DISTC_ASSIGN(original_, positive(config_, at_ + ".original_max_position_embeddings", context_));
    DISTC_ASSIGN(original_, positive(config_, "original_max_position_embeddings", original_));
    if (kind == "linear") {
      DISTC_ASSIGN(double factor, positive(config_, at_ + ".factor"));
      for (double &frequency : result.invFreq)
        frequency /= factor;
      return {};
    }
    if (kind == "dynamic") {
      DISTC_ASSIGN(double factor, positive(config_, at_ + ".factor"));
      if (factor < 1)
        return invalidArgument(config_.where(at_ + ".factor") + " is " + std::to_string(factor) +
                               ", expected at least 1");
      scaleDynamic(theta_, factor, static_cast<int64_t>(context_), rotated_, result);
      return {};
    }
    if (kind == "llama3")
      return scaleLlama3(config_, at_, original_, result.invFreq);
    if (kind == "yarn")
      return yarn(result);
    if (kind == "longrope" || kind == "su")
      return longrope(result);
    return unsupported(config_, key, kind);
  }

  Status yarn(RopeFrequencies &result) {
    Yarn yarn{0, original_};
    DISTC_ASSIGN(yarn.factor, positive(config_, at_ + ".factor", context_ / original_));
    DISTC_ASSIGN(yarn.fast, positive(config_, at_ + ".beta_fast", yarn.fast));
    DISTC_ASSIGN(yarn.slow, positive(config_, at_ + ".beta_slow", yarn.slow));
    DISTC_ASSIGN(const std::optional<bool> truncate, config_.boolean(at_ + ".truncate"));
    yarn.truncate = truncate.value_or(true);
    DISTC_ASSIGN(const std::optional<double> scale, config_.number(at_ + ".mscale"));
    DISTC_ASSIGN(const std::optional<double> all, config_.number(at_ + ".mscale_all_dim"));
    const double implied = scale.value_or(0) != 0 && all.value_or(0) != 0
                               ? yarnMagnitude(yarn.factor, *scale) / yarnMagnitude(yarn.factor, *all)
                               : yarnMagnitude(yarn.factor);
    DISTC_ASSIGN(result.magnitude, positive(config_, at_ + ".attention_factor", implied));
    if (theta_ <= 1)
      return invalidArgument(config_.where(at_) + ": rope type 'yarn' needs a theta of more than 1, got " +
                             std::to_string(theta_));
    scaleYarn(yarn, theta_, result.invFreq);
    return {};
  }

  Status longrope(RopeFrequencies &result) {
    DISTC_ASSIGN(const std::vector<double> shorter, factors(at_ + ".short_factor"));
    DISTC_ASSIGN(const std::vector<double> longer, factors(at_ + ".long_factor"));
    DISTC_ASSIGN(const double factor, positive(config_, at_ + ".factor", context_ / original_));
    const double implied = factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(std::max(original_, 2.0)));
    DISTC_ASSIGN(result.magnitude, positive(config_, at_ + ".attention_factor", implied));
    scaleLong(shorter, longer, original_, result);
    return {};
  }

  Result<std::vector<double>> factors(const std::string &key) {
    DISTC_ASSIGN(const std::optional<Json> list, config_.value(key));
    if (!list)
      return invalidArgument(config_.where(key) + " is missing");
    std::vector<double> values;
    bool good = list->is_array() && list->size() == static_cast<size_t>(rotated_ / 2);
    for (size_t i = 0; good && i < list->size(); ++i) {
      const Json &value = (*list)[i];
      good = value.is_number() && std::isfinite(value.get<double>()) && value.get<double>() > 0;
      values.push_back(good ? value.get<double>() : 0);
    }
    if (!good)
      return invalidArgument(config_.where(key) + ": expected a list of " + std::to_string(rotated_ / 2) +
                             " positive numbers, got " +
                             (list->is_array() ? std::to_string(list->size()) : kindOf(*list)));
    return values;
  }

  const ConfigSource &config_;
  const int64_t headDim_;
  const double context_;
  std::string at_;
  double theta_ = 0, original_ = 0;
  int64_t rotated_ = 0;
};

// A tensor of factors, F32, one for each frequency.
Result<std::vector<double>> readFactors(const CheckpointIndex &index, const TensorEntry &tensor, size_t count) {
  const std::string &path = index.files[tensor.file].path;
  if (tensor.dtype != plan::DType::F32 || tensor.bytes != count * sizeof(float))
    return dataLoss(path + ": tensor '" + tensor.name + "': expected " + std::to_string(count) + " F32 factors, got " +
                    std::to_string(tensor.bytes) + " bytes of " + tensor.dtypeName);
  DISTC_ASSIGN(MappedFile file, MappedFile::open(path));
  std::vector<double> factors;
  for (size_t i = 0; i < count; ++i) {
    float factor;
    std::memcpy(&factor, file.bytes().data() + tensor.offset + i * sizeof factor, sizeof factor);
    if (!(factor > 0) || !std::isfinite(factor))
      return dataLoss(path + ": tensor '" + tensor.name + "': factor " + std::to_string(i) + " is not positive");
    factors.push_back(factor);
  }
  return factors;
}

// As converters of llama.cpp write it.
Status scaleGguf(const ConfigSource &config, const CheckpointIndex &index, double theta, int64_t context,
                 RopeFrequencies &result) {
  const std::string at = "{arch}.rope.scaling";
  DISTC_ASSIGN(std::optional<std::string> kind, config.string(at + ".type"));
  if (kind && *kind != "none" && *kind != "linear" && *kind != "yarn" && *kind != "longrope")
    return unsupported(config, at + ".type", *kind);
  DISTC_ASSIGN(double old, positive(config, "{arch}.rope.scale_linear", 1));
  DISTC_ASSIGN(double factor, positive(config, at + ".factor", old));
  DISTC_ASSIGN(double original, positive(config, at + ".original_context_length", static_cast<double>(context)));
  DISTC_ASSIGN(double attention, positive(config, at + ".attn_factor", 1));
  if (kind == "yarn") {
    for (const char *key : {".yarn_ext_factor", ".yarn_attn_factor", ".yarn_log_multiplier"}) {
      DISTC_ASSIGN(const std::optional<double> value, config.number(at + key));
      if (value)
        return invalidArgument(config.where(at + key) + " is " + std::to_string(*value) + ": not supported");
    }
    Yarn yarn{factor, original};
    DISTC_ASSIGN(yarn.fast, positive(config, at + ".yarn_beta_fast", yarn.fast));
    DISTC_ASSIGN(yarn.slow, positive(config, at + ".yarn_beta_slow", yarn.slow));
    if (theta <= 1)
      return invalidArgument(config.where("{arch}.rope.freq_base") + " is " + std::to_string(theta) +
                             ", expected more than 1");
    scaleYarn(yarn, theta, result.invFreq);
    result.magnitude = attention * yarnMagnitude(factor);
  } else if (!kind || *kind == "linear") {
    for (double &frequency : result.invFreq)
      frequency /= factor;
  }
  if (const TensorEntry *factors = index.find("rope_freqs.weight")) {
    DISTC_ASSIGN(const std::vector<double> values, readFactors(index, *factors, result.invFreq.size()));
    for (size_t i = 0; i < values.size(); ++i)
      result.invFreq[i] /= values[i];
  }
  const TensorEntry *longTensor = index.find("rope_factors_long.weight"),
                    *shortTensor = index.find("rope_factors_short.weight");
  if (!longTensor && !shortTensor) {
    if (kind == "longrope")
      return dataLoss(
          config.where(at + ".type") +
          " is \"longrope\", but the tensors 'rope_factors_long.weight' and 'rope_factors_short.weight' are "
          "missing");
    return {};
  }
  if (!longTensor || !shortTensor)
    return dataLoss(index.files[0].path + ": tensor '" +
                    (longTensor ? "rope_factors_short.weight" : "rope_factors_long.weight") + "' is missing");
  DISTC_ASSIGN(const std::vector<double> shorter, readFactors(index, *shortTensor, result.invFreq.size()));
  DISTC_ASSIGN(const std::vector<double> longer, readFactors(index, *longTensor, result.invFreq.size()));
  result.magnitude = attention;
  scaleLong(shorter, longer, original, result);
  return {};
}

Result<RopeFrequencies> fromGguf(const ConfigSource &config, const CheckpointIndex &index, int64_t headDim,
                                 int64_t context) {
  DISTC_ASSIGN(double theta, positive(config, "{arch}.rope.freq_base", 10000));
  const std::string part = "{arch}.rope.dimension_count";
  DISTC_ASSIGN(std::optional<int64_t> dims, config.integer(part));
  DISTC_TRY(checkRotated(config.where(part), dims.value_or(headDim), headDim));
  RopeFrequencies result{plainFrequencies(theta, dims.value_or(headDim)), 1, {}};
  DISTC_TRY(scaleGguf(config, index, theta, context, result));
  return result;
}

} // namespace

RopeFrequencies RopeFrequencies::upTo(int64_t tokens) const {
  RopeFrequencies result = *this;
  const size_t pairs = invFreq.size() / (1 + over.size());
  while (!result.over.empty() && result.over.back() >= tokens)
    result.over.pop_back();
  result.invFreq.resize(pairs * (1 + result.over.size()));
  return result;
}

Result<RopeFrequencies> ropeFrequencies(Format format, const ConfigSource &config, const CheckpointIndex &index,
                                        int64_t headDim, int64_t context) {
  return format == Format::HuggingFace ? HuggingFaceRope(config, headDim, context).read()
                                       : fromGguf(config, index, headDim, context);
}

} // namespace distc::import
