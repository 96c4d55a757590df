// A family's configuration values for one model.
#include "compiler/Import/Family.h"

#include <limits>

namespace distc::import {

namespace {

// No model comes near these; a file that says more is damaged or hostile, and nothing may be sized by it.
constexpr int64_t kMaxInteger = int64_t(1) << 24;
// Heads: what the plan's verifier takes; the head's size: a table of that length is in the plan.
const std::map<std::string, int64_t> kMaxima = {
    {"layers", 4096}, {"heads", 1 << 16}, {"kv_heads", 1 << 16}, {"head_dim", 1 << 16}};

class ValueReader {
public:
  ValueReader(const Family &family, Format format, const ConfigSource &config, const CheckpointIndex &index)
      : family_(family), format_(format), config_(config), index_(index) {}

  Result<ModelValues> read() {
    for (const Refusal &refusal : family_.refusals)
      if (format_ == Format::HuggingFace) {
        DISTC_ASSIGN(std::optional<Json> value, config_.value(refusal.hf));
        if (value && *value == refusal.equals)
          return invalidArgument(config_.where(refusal.hf) + " is " + value->dump() + ": " + refusal.because);
      }
    for (const auto &[name, rule] : family_.config)
      DISTC_TRY(direct(name, rule));
    // Defaults may refer to other values: those that were given, then those of the round before.
    for (size_t round = 0; round < family_.config.size(); ++round)
      for (const auto &[name, rule] : family_.config)
        if (!known(name) && !rule.fallback.is_null())
          DISTC_TRY(fallBack(name, rule));
    for (const auto &[name, rule] : family_.config)
      if (!known(name))
        return invalidArgument(missing(name, rule));
    for (const auto &[name, value] : values_.integers)
      DISTC_TRY(check(name, value));
    for (const auto &[name, value] : values_.numbers)
      if (value < 0 || value > double(std::numeric_limits<float>::max()))
        return invalidArgument(values_.origin[name] + " is " + show(Json(value)) +
                               ", expected a number of at least 0 that fits into 32 bits");
    return values_;
  }

private:
  const std::vector<std::string> &keys(const ConfigRule &rule) const {
    return format_ == Format::HuggingFace ? rule.hf : rule.gguf;
  }
  bool known(const std::string &name) const {
    return values_.integers.count(name) || values_.numbers.count(name) || values_.booleans.count(name) ||
           values_.activations.count(name);
  }

  Status direct(const std::string &name, const ConfigRule &rule) {
    for (const std::string &key : keys(rule)) {
      if (known(name))
        break;
      values_.origin[name] = config_.where(key);
      switch (rule.kind) {
      case ConfigRule::Integer: {
        DISTC_ASSIGN(std::optional<int64_t> value, config_.integer(key));
        if (value)
          values_.integers[name] = *value;
        break;
      }
      case ConfigRule::Number: {
        DISTC_ASSIGN(std::optional<double> value, config_.number(key));
        if (value)
          values_.numbers[name] = *value;
        break;
      }
      case ConfigRule::Boolean: {
        DISTC_ASSIGN(std::optional<bool> value, config_.boolean(key));
        if (value)
          values_.booleans[name] = *value;
        break;
      }
      case ConfigRule::Activation: {
        DISTC_ASSIGN(std::optional<std::string> value, config_.string(key));
        if (value)
          DISTC_TRY(activation(name, *value));
        break;
      }
      }
    }
    if (format_ != Format::Gguf)
      return {};
    if (!rule.ggufWith.empty())
      values_.booleans[name] = index_.find(rule.ggufWith) != nullptr;
    if (!rule.ggufWithout.empty())
      values_.booleans[name] = index_.find(rule.ggufWithout) == nullptr;
    if (!rule.ggufRowsOf.empty()) {
      const TensorEntry *tensor = index_.find(rule.ggufRowsOf);
      if (!tensor || tensor->shape.empty())
        return dataLoss((index_.files.empty() ? "" : index_.files[0].path + ": ") + "tensor '" + rule.ggufRowsOf +
                        "' is missing");
      values_.integers[name] = static_cast<int64_t>(std::min<uint64_t>(tensor->shape[0], INT64_MAX));
      values_.origin[name] = "tensor '" + tensor->name + "'";
    }
    return {};
  }

  Status activation(const std::string &name, const std::string &value) {
    static const std::map<std::string, std::string> known = {
        {"silu", "silu"},          {"swish", "silu"},          {"gelu", "gelu"}, {"gelu_pytorch_tanh", "gelu_tanh"},
        {"gelu_new", "gelu_tanh"}, {"gelu_tanh", "gelu_tanh"}, {"relu", "relu"}};
    auto it = known.find(value);
    if (it == known.end())
      return invalidArgument(values_.origin[name] + ": activation '" + value +
                             "' is not supported; supported are silu, gelu, gelu_pytorch_tanh, relu");
    values_.activations[name] = it->second;
    return {};
  }

  // A literal, the name of another integer, or "a / b".
  Status fallBack(const std::string &name, const ConfigRule &rule) {
    const Json &fallback = rule.fallback;
    if (rule.kind == ConfigRule::Activation)
      return activation(name, fallback.get<std::string>());
    if (fallback.is_boolean())
      values_.booleans[name] = fallback.get<bool>();
    else if (rule.kind == ConfigRule::Number)
      values_.numbers[name] = fallback.get<double>();
    else if (fallback.is_number_integer())
      values_.integers[name] = fallback.get<int64_t>();
    else if (fallback.is_string())
      return derived(name, fallback.get<std::string>());
    return {};
  }

  Status derived(const std::string &name, const std::string &formula) {
    size_t slash = formula.find(" / ");
    std::string left = formula.substr(0, slash), right = slash == std::string::npos ? "" : formula.substr(slash + 3);
    if (!values_.integers.count(left) || (!right.empty() && !values_.integers.count(right)))
      return {}; // not known yet
    DISTC_TRY(check(left, values_.integers[left]));
    if (right.empty()) {
      values_.integers[name] = values_.integers[left];
      values_.origin[name] = values_.origin[left];
      return {};
    }
    DISTC_TRY(check(right, values_.integers[right]));
    if (values_.integers[left] % values_.integers[right] != 0)
      return invalidArgument(values_.origin[left] + " is " + std::to_string(values_.integers[left]) +
                             ", which is not a multiple of " + std::to_string(values_.integers[right]) + " (" +
                             values_.origin[right] + ")");
    values_.integers[name] = values_.integers[left] / values_.integers[right];
    values_.origin[name] = values_.origin[left] + " divided by " + values_.origin[right];
    return {};
  }

  Status check(const std::string &name, int64_t value) {
    auto known = kMaxima.find(name);
    int64_t least = family_.config.at(name).minimum, most = known == kMaxima.end() ? kMaxInteger : known->second;
    if (value < least || value > most)
      return invalidArgument(values_.origin[name] + " is " + std::to_string(value) + ", expected " +
                             std::to_string(least) + " to " + std::to_string(most));
    return {};
  }

  std::string missing(const std::string &name, const ConfigRule &rule) {
    if (!keys(rule).empty())
      return config_.where(keys(rule)[0]) + " is missing";
    return "family " + family_.name + ": no value for '" + name + "'";
  }

  const Family &family_;
  Format format_;
  const ConfigSource &config_;
  const CheckpointIndex &index_;
  ModelValues values_;
};

} // namespace

Result<ModelValues> readValues(const Family &family, Format format, const ConfigSource &config,
                               const CheckpointIndex &index) {
  return ValueReader(family, format, config, index).read();
}

} // namespace distc::import
