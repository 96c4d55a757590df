#include "compiler/Import/ModelConfig.h"

#include "runtime/base/File.h"

#include <cmath>
#include <filesystem>

namespace distc::import {

namespace {

/// The value of `key` if `matches` it, converted by nlohmann.
template <typename T, typename Matches>
Result<std::optional<T>> typed(const ConfigSource &config, const std::string &key, const char *expected,
                               Matches matches) {
  DISTC_ASSIGN(std::optional<Json> found, config.value(key));
  if (!found)
    return std::optional<T>();
  if (!matches(*found))
    return dataLoss(config.where(key) + " is " + show(*found) + ", expected " + expected);
  return std::optional<T>(found->get<T>());
}

bool fitsInteger(const Json &value) {
  return value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= uint64_t(INT64_MAX));
}

bool isFinite(const Json &value) { return value.is_number() && std::isfinite(value.get<double>()); }

struct ToJson {
  Json operator()(const GgufArray &array) const { return std::visit(*this, array); }
  template <typename T> Json operator()(const T &value) const { return value; }
};

} // namespace

Result<std::optional<int64_t>> ConfigSource::integer(const std::string &key) const {
  return typed<int64_t>(*this, key, "an integer", fitsInteger);
}

Result<std::optional<double>> ConfigSource::number(const std::string &key) const {
  return typed<double>(*this, key, "a finite number", isFinite);
}

Result<std::optional<bool>> ConfigSource::boolean(const std::string &key) const {
  return typed<bool>(*this, key, "true or false", [](const Json &value) { return value.is_boolean(); });
}

Result<std::optional<std::string>> ConfigSource::string(const std::string &key) const {
  return typed<std::string>(*this, key, "a string", [](const Json &value) { return value.is_string(); });
}

Result<HfConfig> HfConfig::open(const std::string &path) {
  std::error_code ignored;
  bool folder = std::filesystem::is_directory(path, ignored);
  std::string file = folder ? (std::filesystem::path(path) / "config.json").string() : path;
  if (folder && !std::filesystem::exists(file, ignored))
    return failedPrecondition(
        path + ": holds no config.json; expected a Hugging Face folder, with *.safetensors, or a .gguf file");
  DISTC_ASSIGN(std::string text, readFile(file));
  return parse(text, file);
}

Result<HfConfig> HfConfig::parse(std::string_view text, const std::string &name) {
  DISTC_ASSIGN(Json root, parseJson(text, name));
  if (!root.is_object())
    return dataLoss(name + ": is " + show(root) + ", expected an object");
  return HfConfig(name, std::move(root));
}

std::string HfConfig::where(const std::string &key) const { return path_ + ": key " + inQuotes(key); }

Result<std::optional<Json>> HfConfig::value(const std::string &key) const {
  const Json *value = &root_;
  for (size_t at = 0; at <= key.size();) {
    if (!value->is_object())
      return dataLoss(where(key.substr(0, at - 1)) + " is " + show(*value) + ", expected an object");
    size_t end = std::min(key.find('.', at), key.size());
    auto member = value->find(key.substr(at, end - at));
    if (member == value->end() || member->is_null())
      return std::optional<Json>();
    value = &*member;
    at = end + 1;
  }
  return std::optional<Json>(*value);
}

Result<GgufConfig> GgufConfig::open(const GgufMetadata &metadata, const std::string &path) {
  auto entry = metadata.find("general.architecture");
  if (entry == metadata.end())
    return dataLoss(path + ": has no key 'general.architecture'; not a model");
  const std::string *architecture = std::get_if<std::string>(&entry->second);
  if (!architecture)
    return dataLoss(path + ": key 'general.architecture' is not a string");
  return GgufConfig(metadata, path, *architecture);
}

std::string GgufConfig::expand(std::string key) const {
  constexpr std::string_view placeholder = "{arch}";
  if (size_t at = key.find(placeholder); at != key.npos)
    key.replace(at, placeholder.size(), architecture_);
  return key;
}

std::string GgufConfig::where(const std::string &key) const { return path_ + ": key " + inQuotes(expand(key)); }

Result<std::optional<Json>> GgufConfig::value(const std::string &key) const {
  auto entry = metadata_->find(expand(key));
  if (entry == metadata_->end())
    return std::optional<Json>();
  return std::optional<Json>(std::visit(ToJson(), entry->second));
}

} // namespace distc::import
