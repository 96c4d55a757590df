// Filters that make text or numbers.
#include "runtime/text/jinja/Interpreter.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

namespace distc::jinja {

namespace {

/// Jinja's title: a capital at the start, and after blanks, hyphens and opening brackets.
std::string titledWords(const std::string &text) {
  std::string result, word;
  auto flush = [&] {
    result += capitalized(word);
    word.clear();
  };
  for (std::string_view character : characters(text)) {
    bool isBreak = std::string_view("-({[<").find(character) != std::string_view::npos ||
                   stripped(character, nullptr, true, false).empty();
    if (isBreak) {
      flush();
      result += character;
    } else {
      word += character;
    }
  }
  flush();
  return result;
}

std::string indented(const std::string &text, Arguments &arguments, Budget &budget) {
  const Value *width = arguments.find(0, "width");
  bool first = arguments.flag(1, "first", false), blank = arguments.flag(2, "blank", false);
  std::string indent =
      width && width->isString()
          ? *width->string()
          : std::string(static_cast<size_t>(std::clamp<int64_t>(width ? arguments.integer(0, "width", 4) : 4, 0, 1000)),
                        ' ');
  std::string result(first ? indent : "");
  bool isFirst = true;
  std::string closed = text + "\n"; // as Jinja has it, so that there is a first line
  for (std::string_view line : splitLines(closed, false)) {
    budget.chargeBytes(indent.size() + line.size());
    if (!isFirst)
      result.append("\n").append(blank || !line.empty() ? indent : "");
    isFirst = false;
    result += line;
  }
  return result;
}

std::optional<double> parseFloat(std::string text) {
  text = stripped(text, nullptr, true, true);
  if (text.starts_with('+'))
    text.erase(0, 1);
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return std::nullopt;
  return value;
}

std::optional<int64_t> truncated(double value) {
  if (!(std::fabs(value) < 9.2e18))
    return std::nullopt;
  return static_cast<int64_t>(value);
}

Value toInteger(const Value &input, Arguments &arguments) {
  const Value *given = arguments.find(0, "default");
  Value fallback = given ? *given : Value(int64_t(0));
  if (int64_t base = arguments.integer(1, "base", 10); base != 10)
    arguments.fail("base " + std::to_string(base) + " is not supported");
  if (input.isInteger())
    return Value(input.integer());
  std::optional<double> real;
  if (input.is<double>())
    real = input.number();
  if (const std::string *text = input.string()) {
    std::string plain = stripped(*text, nullptr, true, true);
    if (plain.starts_with('+'))
      plain.erase(0, 1);
    int64_t value = 0;
    auto [end, error] = std::from_chars(plain.data(), plain.data() + plain.size(), value);
    if (error == std::errc() && end == plain.data() + plain.size())
      return Value(value);
    real = parseFloat(*text);
  }
  std::optional<int64_t> integer = real ? truncated(*real) : std::nullopt;
  return integer ? Value(*integer) : fallback;
}

Value toFloat(const Value &input, Arguments &arguments) {
  const Value *given = arguments.find(0, "default");
  if (input.isNumber())
    return Value(input.number());
  std::optional<double> real = input.isString() ? parseFloat(*input.string()) : std::nullopt;
  return real ? Value(*real) : given ? *given : Value(0.0);
}

Value rounded(const Value &input, Arguments &arguments) {
  int64_t precision = arguments.integer(0, "precision", 0);
  std::string method = arguments.string(1, "method", "common");
  if (!input.isNumber() || precision < 0 || precision > 15)
    arguments.fail("expected a number and a precision of 0 to 15");
  double scale = std::pow(10.0, static_cast<double>(precision)), scaled = input.number() * scale;
  if (method == "common")
    return Value(std::nearbyint(scaled) / scale);
  if (method != "ceil" && method != "floor")
    arguments.fail("the method '" + method + "' is not supported");
  return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value json(const Value &input, Arguments &arguments, Budget &budget) {
  const Value *indent = arguments.find(0, "indent");
  bool sortKeys = arguments.flag(1, "sort_keys", false);
  arguments.find(2, "ensure_ascii"); // false, as transformers has it, is the only value that templates give
  int64_t width = indent && !indent->is<None>() ? arguments.integer(0, "indent", 0) : -1;
  if (width > 100)
    arguments.fail("an indent of " + std::to_string(width) + " is not supported");
  return Value(toJson(input, static_cast<int>(std::max<int64_t>(width, indent && !indent->is<None>() ? 0 : -1)),
                      sortKeys, budget));
}

} // namespace

bool applyTextFilter(const std::string &name, const Value &input, Arguments &arguments, Budget &budget, Value &result) {
  auto text = [&] { return toText(input, budget); };
  if (name == "trim")
    result = Value(stripped(text(), arguments.find(0, "chars"), true, true));
  else if (name == "upper" || name == "lower")
    result = Value(cased(text(), name == "upper"));
  else if (name == "capitalize")
    result = Value(capitalized(text()));
  else if (name == "title")
    result = Value(titledWords(text()));
  else if (name == "string" || name == "safe")
    result = name == "safe" ? input : Value(text());
  else if (name == "replace") {
    std::string from = toText(arguments.require(0, "old"), budget), to = toText(arguments.require(1, "new"), budget);
    const Value *count = arguments.find(2, "count");
    result =
        Value(replaced(text(), from, to, count && !count->is<None>() ? arguments.integer(2, "count", -1) : -1, budget));
  } else if (name == "indent")
    result = Value(indented(text(), arguments, budget));
  else if (name == "tojson")
    result = json(input, arguments, budget);
  else if (name == "int" || name == "float") {
    requireDefined(input);
    result = name == "int" ? toInteger(input, arguments) : toFloat(input, arguments);
  } else if (name == "round")
    result = rounded(input, arguments);
  else if (name == "abs") {
    if (!input.isNumber())
      arguments.fail("expected a number, got " + input.typeName());
    result = input.number() < 0 ? binaryOperation("-", Value(int64_t(0)), input, budget) : input;
  } else
    return false;
  return true;
}

} // namespace distc::jinja
