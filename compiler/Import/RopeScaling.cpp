#include "compiler/Import/RopeScaling.h"

#include "runtime/base/File.h"

#include <cmath>
#include <cstring>
#include <numbers>

namespace distc::import {

namespace {

std::vector<double> plainFrequencies(double theta, int64_t headDim) {
  std::vector<double> frequencies;
  for (int64_t i = 0; i < headDim / 2; ++i)
    frequencies.push_back(std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(headDim)));
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
                         "' is not supported; supported are default, linear, llama3");
}

// Long wavelengths are interpolated, short ones kept, those between blended.
Status scaleLlama3(const ConfigSource &config, const std::string &at, std::vector<double> &frequencies) {
  DISTC_ASSIGN(double factor, positive(config, at + ".factor"));
  DISTC_ASSIGN(double low, positive(config, at + ".low_freq_factor"));
  DISTC_ASSIGN(double high, positive(config, at + ".high_freq_factor"));
  DISTC_ASSIGN(double original, positive(config, at + ".original_max_position_embeddings"));
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

Result<RopeFrequencies> fromHuggingFace(const ConfigSource &config, int64_t headDim) {
  DISTC_ASSIGN(std::optional<Json> parameters, config.value("rope_parameters"));
  DISTC_ASSIGN(std::optional<Json> scaling, config.value("rope_scaling"));
  // Newer files have everything in rope_parameters; older ones theta beside an optional rope_scaling.
  std::string at = parameters ? "rope_parameters" : "rope_scaling";
  DISTC_ASSIGN(std::optional<double> topTheta, config.number("rope_theta"));
  DISTC_ASSIGN(double theta,
               positive(config, parameters ? at + ".rope_theta" : "rope_theta", topTheta.value_or(10000)));
  RopeFrequencies result{plainFrequencies(theta, headDim)};

  DISTC_ASSIGN(std::optional<double> partial, config.number("partial_rotary_factor"));
  if (partial && *partial != 1)
    return invalidArgument(config.where("partial_rotary_factor") + " is " + std::to_string(*partial) +
                           ": rotary embedding of a part of a head is not supported");
  if (!parameters && !scaling)
    return result;
  std::string key = at + ".rope_type";
  DISTC_ASSIGN(std::optional<std::string> kind, config.string(key));
  if (!kind) {
    key = at + ".type";
    DISTC_ASSIGN(kind, config.string(key));
  }
  if (!kind || *kind == "default")
    return result;
  if (*kind == "linear") {
    DISTC_ASSIGN(double factor, positive(config, at + ".factor"));
    for (double &frequency : result.invFreq)
      frequency /= factor;
    return result;
  }
  if (*kind != "llama3")
    return unsupported(config, key, *kind);
  DISTC_TRY(scaleLlama3(config, at, result.invFreq));
  return result;
}

// The factors of rope_freqs.weight, F32 [headDim / 2].
Status divideByTensor(const CheckpointIndex &index, const TensorEntry &tensor, std::vector<double> &frequencies) {
  const std::string &path = index.files[tensor.file].path;
  uint64_t expected = frequencies.size() * sizeof(float);
  if (tensor.dtype != plan::DType::F32 || tensor.bytes != expected)
    return dataLoss(path + ": tensor '" + tensor.name + "': expected " + std::to_string(frequencies.size()) +
                    " F32 factors, got " + std::to_string(tensor.bytes) + " bytes of " + tensor.dtypeName);
  DISTC_ASSIGN(MappedFile file, MappedFile::open(path));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    float factor;
    std::memcpy(&factor, file.bytes().data() + tensor.offset + i * sizeof factor, sizeof factor);
    if (!(factor > 0) || !std::isfinite(factor))
      return dataLoss(path + ": tensor '" + tensor.name + "': factor " + std::to_string(i) + " is not positive");
    frequencies[i] /= factor;
  }
  return {};
}

Result<RopeFrequencies> fromGguf(const ConfigSource &config, const CheckpointIndex &index, int64_t headDim) {
  DISTC_ASSIGN(double theta, positive(config, "{arch}.rope.freq_base", 10000));
  RopeFrequencies result{plainFrequencies(theta, headDim)};
  DISTC_ASSIGN(std::optional<int64_t> dims, config.integer("{arch}.rope.dimension_count"));
  if (dims && *dims != headDim)
    return invalidArgument(config.where("{arch}.rope.dimension_count") + " is " + std::to_string(*dims) +
                           ", expected the head size, " + std::to_string(headDim) +
                           ": rotary embedding of a part of a head is not supported");
  DISTC_ASSIGN(std::optional<std::string> kind, config.string("{arch}.rope.scaling.type"));
  if (kind && *kind != "none" && *kind != "linear")
    return unsupported(config, "{arch}.rope.scaling.type", *kind);
  DISTC_ASSIGN(double old, positive(config, "{arch}.rope.scale_linear", 1));
  DISTC_ASSIGN(double factor, positive(config, "{arch}.rope.scaling.factor", old));
  if (!kind || *kind == "linear")
    for (double &frequency : result.invFreq)
      frequency /= factor;
  if (const TensorEntry *factors = index.find("rope_freqs.weight"))
    DISTC_TRY(divideByTensor(index, *factors, result.invFreq));
  return result;
}

} // namespace

Result<RopeFrequencies> ropeFrequencies(Format format, const ConfigSource &config, const CheckpointIndex &index,
                                        int64_t headDim) {
  return format == Format::HuggingFace ? fromHuggingFace(config, headDim) : fromGguf(config, index, headDim);
}

} // namespace distc::import
