#include "compiler/Import/Family.h"

#include "compiler/Import/EmbeddedModels.h"

#include <algorithm>
#include <cctype>

namespace distc::import {

namespace {

// `x = add(x, linear(h, down))`, `a = attention(q, k, v, window=window)`
class ExpressionParser {
public:
  ExpressionParser(std::string_view text) : text_(text) {}

  bool statement(Statement &out) {
    return name(out.result) && symbol('=') && expression(out.expression) && (skip(), at_ == text_.size());
  }

private:
  bool expression(Expression &out) {
    if (!name(out.name))
      return false;
    if (!symbol('('))
      return true;
    out.call = true;
    if (symbol(')'))
      return true;
    do {
      Expression argument;
      if (!expression(argument))
        return false;
      if (!argument.call && symbol('=')) {
        if (!name(out.options[argument.name]))
          return false;
        continue;
      }
      out.arguments.push_back(std::move(argument));
    } while (symbol(','));
    return symbol(')');
  }
  bool name(std::string &out) {
    skip();
    size_t begin = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_'))
      ++at_;
    out = text_.substr(begin, at_ - begin);
    return !out.empty();
  }
  bool symbol(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c)
      return false;
    ++at_;
    return true;
  }
  void skip() {
    while (at_ < text_.size() && text_[at_] == ' ')
      ++at_;
  }

  std::string_view text_;
  size_t at_ = 0;
};

// The description is ours, but may be edited by anyone: every access says what it expected.
class DescriptionReader {
public:
  DescriptionReader(std::string name) : name_(std::move(name)) {}

  Status read(const Json &root, Family &out) {
    if (!root.is_object())
      return bad("", "an object", root);
    DISTC_TRY(text(root, "family", out.name));
    DISTC_TRY(names(root, "hf", out.hf));
    DISTC_TRY(names(root, "gguf", out.gguf));
    DISTC_TRY(text(root, "hf_prefix", out.hfPrefix, false));
    DISTC_TRY(text(root, "gguf_if", out.ggufIf, false));
    DISTC_TRY(object(root, "rope"));
    DISTC_TRY(text(root["rope"], "hf", out.hfRope));
    DISTC_TRY(text(root["rope"], "gguf", out.ggufRope));
    DISTC_TRY(object(root, "config"));
    for (const auto &[key, rule] : root["config"].items())
      DISTC_TRY(readRule(key, rule, out.config[key]));
    for (const auto &[member, weights] :
         {std::pair{"weights", &out.weights}, std::pair{"layer_weights", &out.layerWeights}}) {
      DISTC_TRY(object(root, member));
      for (const auto &[key, rule] : root[member].items())
        DISTC_TRY(readWeight(key, rule, (*weights)[key]));
    }
    for (const auto &[member, statements] :
         {std::pair{"begin", &out.begin}, std::pair{"layer", &out.layer}, std::pair{"end", &out.end}})
      DISTC_TRY(readStatements(root, member, *statements));
    for (const Json &refusal : root.value("refuse", Json::array())) {
      Refusal &entry = out.refusals.emplace_back();
      DISTC_TRY(text(refusal, "hf", entry.hf, false));
      DISTC_TRY(text(refusal, "gguf", entry.gguf, false));
      DISTC_TRY(text(refusal, "because", entry.because));
      entry.equals = refusal.value("equals", Json());
      entry.unless = refusal.value("unless", Json());
    }
    return {};
  }

private:
  Status bad(const std::string &where, const char *expected, const Json &actual) {
    return invalidArgument(name_ + ": " + where + ": expected " + expected + ", got " + kindOf(actual));
  }
  Status object(const Json &in, const char *key) {
    if (!in.is_object() || !in.contains(key) || !in[key].is_object())
      return bad(key, "an object", in.is_object() && in.contains(key) ? in[key] : Json());
    return {};
  }
  Status text(const Json &in, const char *key, std::string &out, bool required = true) {
    if (!in.is_object() || !in.contains(key))
      return required ? bad(key, "a string", Json()) : Status();
    if (!in[key].is_string())
      return bad(key, "a string", in[key]);
    out = in[key].get<std::string>();
    return {};
  }
  // A string, or a list of strings; absent is the empty list.
  Status names(const Json &in, const char *key, std::vector<std::string> &out) {
    if (!in.contains(key))
      return {};
    const Json list = in[key].is_string() ? Json::array({in[key]}) : in[key];
    for (const Json &entry : list) {
      if (!list.is_array() || !entry.is_string())
        return bad(key, "a string or a list of strings", in[key]);
      out.push_back(entry.get<std::string>());
    }
    return {};
  }
  Status readRule(const std::string &key, const Json &rule, ConfigRule &out) {
    if (!rule.is_object())
      return bad("config." + key, "an object", rule);
    std::string kind = "integer";
    DISTC_TRY(text(rule, "type", kind, false));
    if (kind == "integer")
      out.kind = ConfigRule::Integer;
    else if (kind == "number")
      out.kind = ConfigRule::Number;
    else if (kind == "boolean")
      out.kind = ConfigRule::Boolean;
    else if (kind == "activation")
      out.kind = ConfigRule::Activation;
    else
      return invalidArgument(name_ + ": config." + key + ": unknown type '" + kind + "'");
    DISTC_TRY(names(rule, "hf", out.hf));
    DISTC_TRY(names(rule, "gguf", out.gguf));
    DISTC_TRY(text(rule, "gguf_rows_of", out.ggufRowsOf, false));
    DISTC_TRY(text(rule, "gguf_with", out.ggufWith, false));
    DISTC_TRY(text(rule, "gguf_without", out.ggufWithout, false));
    if (rule.contains("min") && rule["min"].is_number_integer())
      out.minimum = rule["min"].get<int64_t>();
    out.fallback = rule.value("default", Json());
    out.ggufFallback = rule.value("gguf_default", Json());
    DISTC_TRY(text(rule, "if", out.condition, false));
    if (!rule.contains("layers"))
      return {};
    DISTC_TRY(object(rule, "layers"));
    return readLayers("config." + key + ".layers", rule["layers"], out.layers.emplace());
  }
  Status readLayers(const std::string &where, const Json &rule, LayerRule &out) {
    DISTC_TRY(names(rule, "hf", out.hf));
    DISTC_TRY(names(rule, "gguf", out.gguf));
    out.equals = rule.value("equals", Json());
    out.otherwise = rule.value("else", Json());
    out.fallback = rule.value("default", Json());
    const Json &otherwise = out.fallback;
    auto isCount = [&](const char *member) {
      return otherwise.contains(member) && (otherwise[member].is_string() || otherwise[member].is_number_integer());
    };
    const bool every =
        otherwise.is_object() && isCount("every") && otherwise.contains("at") && otherwise["at"].is_number_integer();
    if (!otherwise.is_boolean() && !otherwise.is_string() && !every && !(otherwise.is_object() && isCount("from")))
      return bad(where + ".default", R"(true, false, a value's name, {"from": n} or {"every": n, "at": i})", otherwise);
    return {};
  }
  Status readWeight(const std::string &key, const Json &rule, WeightRule &out) {
    DISTC_TRY(text(rule, "hf", out.hf));
    DISTC_TRY(text(rule, "gguf", out.gguf, false));
    DISTC_TRY(text(rule, "if", out.condition, false));
    DISTC_TRY(text(rule, "same_as", out.sameAs, false));
    DISTC_TRY(text(rule, "same_if", out.sameIf, false));
    DISTC_TRY(text(rule, "init", out.init, false));
    if (!rule.contains("shape") || !rule["shape"].is_array())
      return bad(key + ".shape", "a list", rule.value("shape", Json()));
    for (const Json &dim : rule["shape"])
      DISTC_TRY(names(Json{{"shape", dim}}, "shape", out.shape.emplace_back()));
    DISTC_TRY(names(rule, "of", out.of));
    const Json part = rule.value("part", Json(0)), transposed = rule.value("hf_transposed", Json(false));
    const int64_t number = part.is_number_integer() ? part.get<int64_t>() : -1;
    if (number < 0 || number >= std::max<int64_t>(static_cast<int64_t>(out.of.size()), 1) ||
        (!out.of.empty() && (out.shape.empty() || out.shape[0].empty() || out.of[number] != out.shape[0][0])))
      return bad(key + ".part", "the number of the entry of 'of' that its shape begins with", part);
    if (!transposed.is_boolean() || (transposed && out.shape.size() != 2))
      return bad(key + ".hf_transposed", "true or false, of two dimensions", transposed);
    out.part = static_cast<size_t>(number);
    out.hfTransposed = transposed.get<bool>();
    return {};
  }
  Status readStatements(const Json &root, const char *key, std::vector<Statement> &out) {
    std::vector<std::string> lines;
    DISTC_TRY(names(root, key, lines));
    for (const std::string &line : lines)
      if (!ExpressionParser(line).statement(out.emplace_back()))
        return invalidArgument(name_ + ": " + key + ": cannot read '" + line +
                               "', expected 'name = op(argument, …, option=value)'");
    return {};
  }

  std::string name_;
};

// A description that is like another one is that one with changes: members of objects are replaced or, by null, removed
// (RFC 7386).
Result<Json> readDescription(std::string_view text, const std::string &name, size_t depth = 0) {
  DISTC_ASSIGN(Json root, parseJson(text, name));
  if (!root.is_object() || !root.contains("like"))
    return root;
  for (const EmbeddedFile &file : kEmbeddedFamilies)
    if (root["like"] == file.name && depth < std::size(kEmbeddedFamilies)) {
      DISTC_ASSIGN(Json base,
                   readDescription(file.text, "models/families/" + std::string(file.name) + ".json", depth + 1));
      base.erase("like");
      root.erase("like");
      base.merge_patch(root);
      return base;
    }
  return invalidArgument(name + ": like: expected the name of another family, got " + root["like"].dump());
}

} // namespace

Result<Family> parseFamily(std::string_view text, const std::string &name) {
  DISTC_ASSIGN(Json root, readDescription(text, name));
  Family family;
  DISTC_TRY(DescriptionReader(name).read(root, family));
  return family;
}

const std::vector<Family> &families() {
  static const std::vector<Family> all = [] {
    std::vector<Family> list;
    for (const EmbeddedFile &file : kEmbeddedFamilies) {
      Result<Family> family = parseFamily(file.text, "models/families/" + std::string(file.name) + ".json");
      // A unit test reads every description, so a broken one does not reach a user.
      if (family.ok())
        list.push_back(family.take());
    }
    return list;
  }();
  return all;
}

Result<const Family *> findFamily(Format format, const std::string &architecture, const ConfigSource &config,
                                  const std::string &where) {
  std::string supported;
  const Family *found = nullptr;
  for (const Family &family : families()) {
    const std::vector<std::string> &names = format == Format::HuggingFace ? family.hf : family.gguf;
    if (std::find(names.begin(), names.end(), architecture) != names.end()) {
      if (format == Format::HuggingFace || family.ggufIf.empty()) {
        found = found ? found : &family;
      } else {
        DISTC_ASSIGN(const std::optional<int64_t> value, config.integer(family.ggufIf));
        if (value && *value > 0)
          return &family;
      }
    }
    for (const std::string &name : names)
      if (supported.find(name) == std::string::npos)
        supported += (supported.empty() ? "" : ", ") + name;
  }
  if (found)
    return found;
  return invalidArgument(where + ": architecture '" + architecture + "' is not supported; supported are " + supported);
}

const std::string_view *findShape(const std::string &name) {
  for (const EmbeddedFile &file : kEmbeddedShapes)
    if (file.name == name)
      return &file.text;
  return nullptr;
}

std::vector<std::string> shapeNames() {
  std::vector<std::string> names;
  for (const EmbeddedFile &file : kEmbeddedShapes)
    names.emplace_back(file.name);
  return names;
}

} // namespace distc::import
