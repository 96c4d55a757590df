// Filters that work on lists and dicts, and the way to all filters.
#include "runtime/text/jinja/Interpreter.h"

#include <algorithm>
#include <charconv>

namespace distc::jinja {

namespace {

/// "a.b.0": attribute of attribute, as map and selectattr name it. Undefined where one is missing.
Value attributeOf(const Value &item, const Value &path, Budget &budget) {
  if (path.isInteger())
    return getItem(item, path, budget);
  if (!path.isString())
    fail("the attribute must be a string, got " + path.typeName());
  Value value = item;
  std::string_view rest = *path.string();
  while (true) {
    size_t dot = rest.find('.');
    std::string_view name = rest.substr(0, dot);
    int64_t index = 0;
    bool isIndex = !name.empty() && std::from_chars(name.data(), name.data() + name.size(), index).ptr == name.end();
    budget.charge();
    value = getItem(value, isIndex ? Value(index) : Value(name), budget);
    if (dot == std::string_view::npos)
      return value;
    rest.remove_prefix(dot + 1);
  }
}

Value join(const Value &input, Arguments &arguments, Budget &budget) {
  const Value *separator = arguments.find(0, "d"), *attribute = arguments.find(1, "attribute");
  std::string by = separator ? toText(*separator, budget) : "", result;
  bool isFirst = true;
  for (const Value &item : iterate(input, budget)) {
    budget.chargeBytes(by.size());
    result += isFirst ? "" : by;
    result += toText(attribute && !attribute->is<None>() ? attributeOf(item, *attribute, budget) : item, budget);
    isFirst = false;
  }
  return Value(std::move(result));
}

Value map(const Value &input, Arguments &arguments, Budget &budget) {
  Sequence result;
  if (arguments.positionalCount() == 0) {
    Value path = arguments.require(0, "attribute");
    const Value *fallback = arguments.find(1, "default");
    for (const Value &item : iterate(input, budget)) {
      Value value = attributeOf(item, path, budget);
      result.push_back(value.is<Undefined>() && fallback ? *fallback : value);
    }
  } else {
    std::string filter = arguments.string(0, "", nullptr);
    Arguments rest = arguments.rest(1, "filter '" + filter + "'");
    for (const Value &item : iterate(input, budget)) {
      Arguments own = rest;
      result.push_back(applyFilter(filter, item, own, budget));
    }
  }
  return Value::list(std::move(result));
}

/// select, reject, selectattr, rejectattr.
Value select(const Value &input, Arguments &arguments, bool byAttribute, bool wanted, Budget &budget) {
  Value path = byAttribute ? arguments.require(0, "attribute") : Value();
  size_t first = byAttribute ? 1 : 0;
  const Value *given = arguments.find(first, "");
  std::string test = given ? arguments.string(first, "", nullptr) : "";
  Arguments rest = arguments.rest(first + (given ? 1 : 0), "test '" + test + "'");
  Sequence result;
  for (const Value &item : iterate(input, budget)) {
    Value value = byAttribute ? attributeOf(item, path, budget) : item;
    Arguments own = rest;
    if ((given ? applyTest(test, value, own, budget) : value.truth()) == wanted)
      result.push_back(item);
  }
  return Value::list(std::move(result));
}

/// What sort, unique, min and max compare: the attribute if one is named, in small letters unless case_sensitive.
Value keyOf(const Value &item, const Value *attribute, bool caseSensitive, Budget &budget) {
  Value key = attribute && !attribute->is<None>() ? attributeOf(item, *attribute, budget) : item;
  return key.isString() && !caseSensitive ? Value(cased(*key.string(), false)) : key;
}

Value sorted(const Value &input, Arguments &arguments, Budget &budget) {
  bool reverse = arguments.flag(0, "reverse", false), caseSensitive = arguments.flag(1, "case_sensitive", false);
  const Value *attribute = arguments.find(2, "attribute");
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value &item : iterate(input, budget))
    keyed.emplace_back(keyOf(item, attribute, caseSensitive, budget), item);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto &a, const auto &b) {
    return reverse ? less(b.first, a.first, budget) : less(a.first, b.first, budget);
  });
  Sequence result;
  for (auto &[key, item] : keyed)
    result.push_back(std::move(item));
  return Value::list(std::move(result));
}

Value unique(const Value &input, Arguments &arguments, Budget &budget) {
  bool caseSensitive = arguments.flag(0, "case_sensitive", false);
  const Value *attribute = arguments.find(1, "attribute");
  Sequence seen, result;
  for (const Value &item : iterate(input, budget)) {
    Value key = keyOf(item, attribute, caseSensitive, budget);
    if (std::any_of(seen.begin(), seen.end(), [&](const Value &other) { return equal(other, key, budget); }))
      continue;
    seen.push_back(std::move(key));
    result.push_back(item);
  }
  return Value::list(std::move(result));
}

Value extreme(const Value &input, Arguments &arguments, bool largest, Budget &budget) {
  bool caseSensitive = arguments.flag(0, "case_sensitive", false);
  const Value *attribute = arguments.find(1, "attribute");
  Value best = Undefined{"there is no item"}, bestKey;
  for (const Value &item : iterate(input, budget)) {
    Value key = keyOf(item, attribute, caseSensitive, budget);
    if (best.is<Undefined>() || (largest ? less(bestKey, key, budget) : less(key, bestKey, budget))) {
      best = item;
      bestKey = std::move(key);
    }
  }
  return best;
}

Value sum(const Value &input, Arguments &arguments, Budget &budget) {
  const Value *attribute = arguments.find(0, "attribute"), *start = arguments.find(1, "start");
  Value total = start ? *start : Value(int64_t(0));
  for (const Value &item : iterate(input, budget))
    total = binaryOperation("+", total,
                            attribute && !attribute->is<None>() ? attributeOf(item, *attribute, budget) : item, budget);
  return total;
}

Value items(const Value &input, bool isSorted, Arguments &arguments, Budget &budget) {
  if (input.is<Undefined>() && !isSorted)
    return Value::list({});
  if (!input.entries())
    arguments.fail("expected a dict, got " + input.typeName());
  Entries entries = *input.entries();
  budget.charge(entries.size());
  if (isSorted)
    std::stable_sort(entries.begin(), entries.end(),
                     [](const auto &a, const auto &b) { return cased(a.first, false) < cased(b.first, false); });
  Sequence result;
  for (const auto &[key, value] : entries)
    result.push_back(Value::list({Value(key), value}, true));
  return Value::list(std::move(result));
}

Value lengthOf(const Value &input, Arguments &arguments, Budget &budget) {
  if (const std::string *text = input.string())
    budget.charge(text->size());
  size_t length = input.isString()        ? characters(*input.string()).size()
                  : input.is<List>()      ? input.sequence()->size()
                  : input.is<Dict>()      ? input.entries()->size()
                  : input.is<Undefined>() ? 0
                                          : (arguments.fail(input.typeName() + " has no length"), 0);
  return Value(static_cast<int64_t>(length));
}

Value apply(const std::string &name, const Value &input, Arguments &arguments, Budget &budget) {
  if (Value result; applyTextFilter(name, input, arguments, budget, result))
    return result;
  if (name == "length" || name == "count")
    return lengthOf(input, arguments, budget);
  if (name == "default" || name == "d") {
    const Value *fallback = arguments.find(0, "default_value");
    bool alsoFalse = arguments.flag(1, "boolean", false);
    return input.is<Undefined>() || (alsoFalse && !input.truth()) ? (fallback ? *fallback : Value("")) : input;
  }
  if (name == "join")
    return join(input, arguments, budget);
  if (name == "list")
    return Value::list(iterate(input, budget));
  if (name == "first" || name == "last") {
    Sequence all = iterate(input, budget);
    return all.empty() ? Value(Undefined{"there is no item"}) : name == "first" ? all.front() : all.back();
  }
  if (name == "reverse") {
    Sequence all = iterate(input, budget);
    std::reverse(all.begin(), all.end());
    if (!input.isString())
      return Value::list(std::move(all));
    std::string text;
    for (const Value &character : all)
      text += *character.string();
    return Value(std::move(text));
  }
  if (name == "map")
    return map(input, arguments, budget);
  if (name == "select" || name == "reject" || name == "selectattr" || name == "rejectattr")
    return select(input, arguments, name.ends_with("attr"), name.starts_with("select"), budget);
  if (name == "items" || name == "dictsort")
    return items(input, name == "dictsort", arguments, budget);
  if (name == "sort")
    return sorted(input, arguments, budget);
  if (name == "unique")
    return unique(input, arguments, budget);
  if (name == "min" || name == "max")
    return extreme(input, arguments, name == "max", budget);
  if (name == "sum")
    return sum(input, arguments, budget);
  fail("the filter '" + name + "' is not supported");
}

} // namespace

Value applyFilter(const std::string &name, const Value &input, Arguments &arguments, Budget &budget) {
  Value result = apply(name, input, arguments, budget);
  arguments.finish();
  return result;
}

} // namespace distc::jinja
