// The values that describe a model, from Hugging Face's config.json or GGUF's metadata, under one interface.
#pragma once

#include "compiler/Import/CheckpointIndex.h"
#include "compiler/Import/Json.h"

#include <cstdint>
#include <optional>
#include <string>

namespace distc::import {

/// Absent and null are nothing; a value of another kind than asked for is an error that names file, key, the expected
/// kind and the actual value.
class ConfigSource {
public:
  virtual ~ConfigSource() = default;

  /// The value of any kind.
  virtual Result<std::optional<Json>> value(const std::string &key) const = 0;

  /// Where a key's value stands, to lead an error: "models/x/config.json: key 'hidden_size'".
  virtual std::string where(const std::string &key) const = 0;

  /// Integers must be written as such: neither 4096.0 nor 4e3.
  Result<std::optional<int64_t>> integer(const std::string &key) const;
  /// Integers are numbers too.
  Result<std::optional<double>> number(const std::string &key) const;
  Result<std::optional<bool>> boolean(const std::string &key) const;
  Result<std::optional<std::string>> string(const std::string &key) const;
};

/// A config.json. A key is a path, "rope_parameters.rope_theta"; what it goes through must be objects, or is absent.
class HfConfig final : public ConfigSource {
public:
  /// `path`: a JSON file, or a folder with a config.json.
  static Result<HfConfig> open(const std::string &path);

  Result<std::optional<Json>> value(const std::string &key) const override;
  std::string where(const std::string &key) const override;
  const std::string &path() const { return path_; }

private:
  HfConfig(std::string path, Json root) : path_(std::move(path)), root_(std::move(root)) {}

  std::string path_;
  Json root_;
};

/// The metadata of a GGUF file. "{arch}" in a key stands for the value of general.architecture.
class GgufConfig final : public ConfigSource {
public:
  /// `metadata` must outlive the configuration; `path` leads every error.
  static Result<GgufConfig> open(const GgufMetadata &metadata, const std::string &path);

  Result<std::optional<Json>> value(const std::string &key) const override;
  std::string where(const std::string &key) const override;
  const std::string &architecture() const { return architecture_; }

private:
  GgufConfig(const GgufMetadata &metadata, std::string path, std::string architecture)
      : metadata_(&metadata), path_(std::move(path)), architecture_(std::move(architecture)) {}

  std::string expand(std::string key) const;

  const GgufMetadata *metadata_;
  std::string path_;
  std::string architecture_;
};

} // namespace distc::import
