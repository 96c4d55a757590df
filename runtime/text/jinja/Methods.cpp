// Methods of str, dict and list. Those that change a list or a dict are not there: Jinja's sandbox forbids them.
#include "runtime/text/Utf8.h"
#include "runtime/text/jinja/Interpreter.h"

#include <utf8proc.h>

#include <algorithm>

namespace distc::jinja {

namespace {

constexpr std::string_view kStringMethods[] = {
    "strip",   "lstrip",  "rstrip",  "split",   "rsplit",  "splitlines", "startswith", "endswith",     "upper",
    "lower",   "title",   "replace", "join",    "find",    "rfind",      "count",      "removeprefix", "removesuffix",
    "isdigit", "isalpha", "isalnum", "isspace", "isupper", "islower",    "capitalize"};
constexpr std::string_view kDictMethods[] = {"get", "items", "keys", "values"};
constexpr std::string_view kListMethods[] = {"index", "count"};

template <size_t N> bool has(const std::string_view (&names)[N], std::string_view name) {
  return std::find(names, names + N, name) != names + N;
}

bool hasAffix(const std::string &text, const Value &affix, bool atStart) {
  if (const Sequence *any = affix.sequence(); any && affix.as<List>()->isTuple)
    return std::any_of(any->begin(), any->end(), [&](const Value &one) { return hasAffix(text, one, atStart); });
  requireDefined(affix);
  if (!affix.isString())
    fail("expected a string or a tuple of strings, got " + affix.typeName());
  return atStart ? text.starts_with(*affix.string()) : text.ends_with(*affix.string());
}

Value split(const std::string &text, Arguments &arguments, bool fromRight, Budget &budget) {
  const Value *separator = arguments.find(0, "sep");
  int64_t limit = arguments.integer(1, "maxsplit", -1);
  std::vector<std::string_view> parts;
  std::string_view rest = text;
  const auto take = [&](std::string_view part) {
    budget.chargeTexts(1);
    parts.push_back(part);
  };
  bool byBlanks = !separator || separator->is<None>();
  if (!byBlanks && (!separator->isString() || separator->string()->empty()))
    arguments.fail("the separator must be a string that is not empty");
  if (byBlanks) {
    budget.charge(text.size()); // of characters
    // At whole runs of blanks, none at the ends; what a limited split leaves keeps its blanks but the next ones.
    std::vector<std::string_view> all = characters(text);
    auto isBlank = [](std::string_view c) { return stripped(c, nullptr, true, false).empty(); };
    if (fromRight)
      std::reverse(all.begin(), all.end());
    size_t i = 0;
    auto offset = [&](size_t at) { // into the text, of the edge before character `at` in the order of the scan
      if (fromRight)
        return at == 0 ? text.size() : static_cast<size_t>(all[at - 1].data() - text.data());
      return at == all.size() ? text.size() : static_cast<size_t>(all[at].data() - text.data());
    };
    while (true) {
      while (i < all.size() && isBlank(all[i]))
        ++i;
      if (i == all.size())
        break;
      size_t begin = i;
      bool isLast = limit >= 0 && static_cast<int64_t>(parts.size()) == limit;
      while (i < all.size() && (isLast || !isBlank(all[i])))
        ++i;
      size_t a = offset(begin), b = offset(i);
      take(std::string_view(text).substr(std::min(a, b), std::max(a, b) - std::min(a, b)));
    }
  } else {
    const std::string &by = *separator->string();
    while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
      size_t found = fromRight ? rest.rfind(by) : rest.find(by);
      if (found == std::string_view::npos)
        break;
      take(fromRight ? rest.substr(found + by.size()) : rest.substr(0, found));
      rest = fromRight ? rest.substr(0, found) : rest.substr(found + by.size());
    }
    take(rest);
  }
  if (fromRight)
    std::reverse(parts.begin(), parts.end());
  Sequence values(parts.begin(), parts.end());
  return Value::list(std::move(values));
}

/// Python's str.title: a capital after everything that is not a letter.
std::string titled(std::string_view text) {
  std::string result;
  bool inWord = false;
  for (std::string_view character : characters(text)) {
    std::string lower = cased(character, false), upper = cased(character, true);
    bool isLetter = lower != upper;
    result += inWord ? lower : upper;
    inWord = isLetter;
  }
  return result;
}

bool isAll(const std::string &text, std::string_view property) {
  if (text.empty())
    return false;
  bool anyCased = false;
  for (std::string_view character : characters(text)) {
    auto c = static_cast<utf8proc_int32_t>(text::stepUtf8(character).codePoint);
    utf8proc_category_t category = utf8proc_category(c);
    bool isLetter = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
    bool isUpper = category == UTF8PROC_CATEGORY_LU, isLower = category == UTF8PROC_CATEGORY_LL;
    bool isDigit = category == UTF8PROC_CATEGORY_ND;
    bool isNumeric = isDigit || category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_NO;
    anyCased = anyCased || isUpper || isLower;
    bool fits = property == "isdigit"   ? isDigit
                : property == "isalpha" ? isLetter
                : property == "isalnum" ? isLetter || isNumeric
                : property == "isspace" ? stripped(character, nullptr, true, false).empty()
                : property == "isupper" ? !isLower
                                        : !isUpper;
    if (!fits)
      return false;
  }
  return anyCased || (property != "isupper" && property != "islower");
}

int64_t find(const std::string &text, const std::string &part, bool fromRight) {
  size_t found = fromRight ? text.rfind(part) : text.find(part);
  return found == std::string::npos ? -1
                                    : static_cast<int64_t>(characters(std::string_view(text).substr(0, found)).size());
}

int64_t countOf(const std::string &text, const std::string &part) {
  if (part.empty())
    return static_cast<int64_t>(characters(text).size()) + 1;
  int64_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size())
    ++count;
  return count;
}

Value stringMethod(const std::string &text, const std::string &name, Arguments &arguments, Budget &budget) {
  budget.charge(text.size() / 4 + 1);
  if (name == "strip" || name == "lstrip" || name == "rstrip")
    return Value(stripped(text, arguments.find(0, "chars"), name != "rstrip", name != "lstrip"));
  if (name == "split" || name == "rsplit")
    return split(text, arguments, name == "rsplit", budget);
  if (name == "splitlines") {
    std::vector<std::string_view> lines = splitLines(text, arguments.flag(0, "keepends", false));
    return Value::list(Sequence(lines.begin(), lines.end()));
  }
  if (name == "startswith" || name == "endswith")
    return Value(hasAffix(text, arguments.require(0, "prefix"), name == "startswith"));
  if (name == "upper" || name == "lower")
    return Value(cased(text, name == "upper"));
  if (name == "title")
    return Value(titled(text));
  if (name == "capitalize")
    return Value(capitalized(text));
  if (name == "replace") {
    std::string from = arguments.string(0, "old", nullptr), to = arguments.string(1, "new", nullptr);
    return Value(replaced(text, from, to, arguments.integer(2, "count", -1), budget));
  }
  if (name == "join") {
    std::string result;
    bool isFirst = true;
    for (const Value &item : iterate(arguments.require(0, "iterable"), budget)) {
      if (!item.isString())
        fail("join() needs strings, got " + item.typeName());
      budget.chargeBytes(text.size() + item.string()->size());
      result.append(isFirst ? "" : text).append(*item.string());
      isFirst = false;
    }
    return Value(std::move(result));
  }
  if (name == "find" || name == "rfind")
    return Value(find(text, arguments.string(0, "sub", nullptr), name == "rfind"));
  if (name == "count")
    return Value(countOf(text, arguments.string(0, "sub", nullptr)));
  if (name == "removeprefix" || name == "removesuffix") {
    std::string affix = arguments.string(0, "affix", nullptr);
    bool atStart = name == "removeprefix";
    bool isThere = atStart ? text.starts_with(affix) : text.ends_with(affix);
    return Value(!isThere ? text : atStart ? text.substr(affix.size()) : text.substr(0, text.size() - affix.size()));
  }
  return Value(isAll(text, name));
}

Value dictMethod(const Entries &entries, const std::string &name, Arguments &arguments, Budget &budget) {
  budget.charge(entries.size());
  if (name == "get") {
    std::string key = arguments.string(0, "key", nullptr);
    const Value *fallback = arguments.find(1, "default");
    const Value *value = findEntry(entries, key);
    return value ? *value : fallback ? *fallback : Value();
  }
  Sequence items;
  for (const auto &[key, value] : entries)
    items.push_back(name == "items" ? Value::list({Value(key), value}, true) : name == "keys" ? Value(key) : value);
  return Value::list(std::move(items));
}

Value listMethod(const Sequence &items, const std::string &name, Arguments &arguments, Budget &budget) {
  const Value &wanted = arguments.require(0, "value");
  auto is = [&](const Value &item) { return equal(item, wanted, budget); };
  if (name == "count")
    return Value(static_cast<int64_t>(std::count_if(items.begin(), items.end(), is)));
  auto found = std::find_if(items.begin(), items.end(), is);
  if (found == items.end())
    fail("index(): no such item in the list");
  return Value(static_cast<int64_t>(found - items.begin()));
}

} // namespace

bool isMethod(const Value &object, std::string_view name) {
  return (object.isString() && has(kStringMethods, name)) || (object.is<Dict>() && has(kDictMethods, name)) ||
         (object.is<List>() && has(kListMethods, name));
}

Value callMethod(const Value &object, const std::string &name, Arguments &arguments, Budget &budget) {
  if (!isMethod(object, name)) {
    const Value *value = object.entries() ? findEntry(*object.entries(), name) : nullptr;
    if (value)
      fail("'" + name + "' of " + object.typeName() + " is " + value->typeName() + ", which cannot be called");
    fail("the method '" + name + "' of " + object.typeName() + " is not supported");
  }
  Value result = object.isString()   ? stringMethod(*object.string(), name, arguments, budget)
                 : object.is<Dict>() ? dictMethod(*object.entries(), name, arguments, budget)
                                     : listMethod(*object.sequence(), name, arguments, budget);
  arguments.finish();
  return result;
}

} // namespace distc::jinja
