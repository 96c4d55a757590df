// A family's configuration values for one model.
#include "compiler/Import/Family.h"

#include <charconv>
#include <cmath>
#include <limits>

namespace distc::import {

namespace {

// No model comes near these; a file that says more is damaged or hostile, and nothing may be sized by it.
constexpr int64_t kMaxInteger = int64_t(1) << 24;
// Heads: what the plan's verifier takes; the head's size: a table of that length is in the plan.
const std::map<std::string, int64_t> kMaxima = {
    {"layers", 4096}, {"heads", 1 << 16}, {"kv_heads", 1 << 16}, {"head_dim", 1 << 16}, {"experts", 1 << 12}};

class ValueReader {
public:
  ValueReader(const Family &family, Format format, const ConfigSource &config, const CheckpointIndex &index)
      : family_(family), format_(format), config_(config), index_(index) {}

  Result<ModelValues> read() {
    for (const Refusal &refusal : family_.refusals) {
      const std::string &key = format_ == Format::HuggingFace ? refusal.hf : refusal.gguf;
      if (key.empty())
        continue;
      DISTC_ASSIGN(std::optional<Json> value, config_.value(key));
      if (value &&
          (refusal.unless.is_null() ? refusal.equals.is_null() || *value == refusal.equals : *value != refusal.unless))
        return invalidArgument(config_.where(key) + " is " + value->dump() + ": " + refusal.because);
    }
    for (const auto &[name, rule] : family_.config)
      DISTC_TRY(direct(name, rule));
    // Defaults may refer to other values: those that were given, then those of the round before.
    for (size_t round = 0; round < family_.config.size(); ++round)
      for (const auto &[name, rule] : family_.config)
        if (!known(name) && !fallbackOf(rule).is_null())
          DISTC_TRY(fallBack(name, rule));
    for (const auto &[name, rule] : family_.config)
      if (!known(name))
        return invalidArgument(missing(name, rule));
    for (const auto &[name, value] : values_.integers)
      DISTC_TRY(check(name, value));
    for (const auto &[name, value] : values_.numbers)
      if (!(value >= 0 && value <= double(std::numeric_limits<float>::max())))
        return invalidArgument(values_.origin[name] + " is " +
                               (std::isfinite(value) ? show(Json(value)) : std::to_string(value)) +
                               ", expected a number of at least 0 that fits into 32 bits");
    for (const auto &[name, rule] : family_.config)
      DISTC_TRY(restrict(name, rule));
    return values_;
  }

private:
  template <typename Rule> const std::vector<std::string> &keys(const Rule &rule) const {
    return format_ == Format::HuggingFace ? rule.hf : rule.gguf;
  }
  const Json &fallbackOf(const ConfigRule &rule) const {
    return format_ == Format::Gguf && !rule.ggufFallback.is_null() ? rule.ggufFallback : rule.fallback;
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

  // A literal, the name of another value, or a formula of two.
  Status fallBack(const std::string &name, const ConfigRule &rule) {
    const Json &fallback = fallbackOf(rule);
    if (rule.kind == ConfigRule::Activation)
      return activation(name, fallback.get<std::string>());
    if (fallback.is_boolean())
      values_.booleans[name] = fallback.get<bool>();
    else if (rule.kind == ConfigRule::Number && fallback.is_string())
      return calculated(name, fallback.get<std::string>());
    else if (rule.kind == ConfigRule::Number)
      values_.numbers[name] = fallback.get<double>();
    else if (fallback.is_number_integer())
      values_.integers[name] = fallback.get<int64_t>();
    else if (fallback.is_string())
      return derived(name, fallback.get<std::string>());
    return {};
  }

  // "a", "a / b" or "a ^ b", of numbers and names of values.
  Status calculated(const std::string &name, const std::string &formula) {
    std::optional<double> terms[2];
    std::string origin;
    const size_t at = std::min(formula.find(" / "), formula.find(" ^ "));
    for (bool second : {false, true}) {
      if (second && at == std::string::npos)
        break;
      const std::string text = second ? formula.substr(at + 3) : formula.substr(0, at);
      double literal;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), literal);
      if (error == std::errc() && end == text.data() + text.size())
        terms[second] = literal;
      else if (auto number = values_.numbers.find(text); number != values_.numbers.end())
        terms[second] = number->second;
      else if (auto integer = values_.integers.find(text); integer != values_.integers.end())
        terms[second] = static_cast<double>(integer->second);
      else
        return {}; // not known yet
      if (values_.origin.count(text))
        origin = values_.origin[text];
    }
    values_.origin[name] = origin + (at == std::string::npos ? "" : ": " + formula);
    values_.numbers[name] = at == std::string::npos  ? *terms[0]
                            : formula[at + 1] == '/' ? *terms[0] / *terms[1]
                                                     : std::pow(*terms[0], *terms[1]);
    return {};
  }

  // The name of another integer, "a / b", or "a * 4".
  Status derived(const std::string &name, const std::string &formula) {
    if (size_t star = formula.find(" * "); star != std::string::npos) {
      const std::string base = formula.substr(0, star);
      if (values_.integers.count(base)) {
        DISTC_TRY(check(base, values_.integers[base]));
        values_.integers[name] = values_.integers[base] * std::stoll(formula.substr(star + 3));
        values_.origin[name] = values_.origin[base] + formula.substr(star);
      }
      return {};
    }
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

  // To the layers in which it counts, if it counts at all.
  Status restrict(const std::string &name, const ConfigRule &rule) {
    if (!rule.condition.empty() && !values_.booleans.at(rule.condition)) {
      if (rule.kind == ConfigRule::Integer)
        values_.integers[name] = 0;
      else if (rule.kind == ConfigRule::Number)
        values_.numbers[name] = 0;
      else
        values_.booleans[name] = false;
    }
    if (rule.layers)
      DISTC_TRY(layersOf(*rule.layers, values_.layers[name]));
    return {};
  }

  Status layersOf(const LayerRule &rule, std::vector<bool> &out) {
    const int64_t layers = values_.integers.at("layers");
    for (const std::string &key : keys(rule)) {
      DISTC_ASSIGN(std::optional<Json> list, config_.value(key));
      if (!list)
        continue;
      if (!list->is_array() || list->size() != static_cast<size_t>(layers))
        return invalidArgument(config_.where(key) + " is " +
                               (list->is_array() ? "a list of " + std::to_string(list->size()) : show(*list)) +
                               ", expected a list of " + std::to_string(layers) + ", as many as there are layers (" +
                               values_.origin["layers"] + ")");
      for (const Json &entry : *list) {
        if (entry != rule.equals && entry != rule.otherwise)
          return invalidArgument(config_.where(key) + " holds " + show(entry) + ", expected " + show(rule.equals) +
                                 " or " + show(rule.otherwise));
        out.push_back(entry == rule.equals);
      }
      return {};
    }
    const Json &otherwise = rule.fallback;
    if (otherwise.is_string()) { // another value's
      auto other = family_.config.find(otherwise.get<std::string>());
      if (other == family_.config.end() || other->second.kind != ConfigRule::Boolean || !other->second.layers ||
          other->second.layers->fallback.is_string())
        return invalidArgument("family " + family_.name + ": no layers of '" + otherwise.get<std::string>() + "'");
      return layersOf(*other->second.layers, out);
    }
    auto count = [&](const char *member) {
      return otherwise[member].is_string() ? values_.integers.at(otherwise[member].get<std::string>())
                                           : otherwise[member].get<int64_t>();
    };
    for (int64_t layer = 0; layer < layers; ++layer)
      if (otherwise.is_boolean())
        out.push_back(otherwise.get<bool>());
      else if (otherwise.contains("from"))
        out.push_back(layer >= count("from"));
      else // the i-th of every n, from the end where i is negative
        out.push_back((layer - otherwise["at"].get<int64_t>()) % std::max<int64_t>(1, count("every")) == 0);
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
