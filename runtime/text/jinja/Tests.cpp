// What may follow "is".
#include "runtime/text/jinja/Interpreter.h"

namespace distc::jinja {

namespace {

/// The comparison that a test stands for; empty: none.
std::string comparisonOf(const std::string &name) {
  static constexpr std::pair<std::string_view, std::string_view> names[] = {
      {"equalto", "=="}, {"eq", "=="}, {"==", "=="}, {"ne", "!="}, {"!=", "!="},         {"lt", "<"},
      {"lessthan", "<"}, {"le", "<="}, {"gt", ">"},  {"ge", ">="}, {"greaterthan", ">"}, {"in", "in"}};
  for (const auto &[test, comparison] : names)
    if (name == test)
      return std::string(comparison);
  return {};
}

bool isSameObject(const Value &a, const Value &b) {
  if (a.is<bool>() && b.is<bool>())
    return *a.as<bool>() == *b.as<bool>();
  if (a.is<List>() && b.is<List>())
    return a.sequence() == b.sequence();
  if (a.is<Dict>() && b.is<Dict>())
    return a.entries() == b.entries();
  if (a.is<None>() && b.is<None>())
    return true;
  fail("test 'sameas' is supported for true, false, none, lists and dicts only");
}

bool check(const std::string &name, const Value &value, Arguments &arguments, Budget &budget) {
  if (name == "defined")
    return !value.is<Undefined>();
  if (name == "undefined")
    return value.is<Undefined>();
  if (name == "none")
    return value.is<None>();
  if (name == "string")
    return value.isString();
  if (name == "mapping")
    return value.is<Dict>();
  if (name == "iterable" || name == "sequence") // Jinja's undefined is both
    return value.isString() || value.is<List>() || value.is<Dict>() || value.is<Undefined>();
  if (name == "number")
    return value.isNumber();
  if (name == "integer")
    return value.is<int64_t>();
  if (name == "float")
    return value.is<double>();
  if (name == "boolean")
    return value.is<bool>();
  if (name == "true" || name == "false")
    return value.is<bool>() && value.truth() == (name == "true");
  if (name == "callable")
    return value.is<Builtin>() || value.is<std::shared_ptr<const Macro>>();
  if (name == "sameas")
    return isSameObject(value, arguments.require(0, "other"));
  if (std::string comparison = comparisonOf(name); !comparison.empty())
    return compare(comparison, value, arguments.require(0, "other"), budget);
  if (name == "odd" || name == "even" || name == "divisibleby") {
    requireDefined(value);
    int64_t by = name == "divisibleby" ? arguments.integer(0, "num", 0) : 2;
    Value remainder = binaryOperation("%", value, Value(by), budget);
    return remainder.truth() == (name == "odd");
  }
  if (name == "lower" || name == "upper") {
    std::string text = toText(value, budget);
    return text != cased(text, name == "lower") && text == cased(text, name == "upper");
  }
  fail("the test '" + name + "' is not supported");
}

} // namespace

bool applyTest(const std::string &name, const Value &value, Arguments &arguments, Budget &budget) {
  bool result = check(name, value, arguments, budget);
  arguments.finish();
  return result;
}

} // namespace distc::jinja
