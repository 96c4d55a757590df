#include "runtime/text/jinja/Value.h"

#include "runtime/text/Utf8.h"

#include <algorithm>

namespace distc::jinja {

namespace {

constexpr unsigned kMaxDepth = 100;

unsigned deeper(unsigned depth) {
  if (depth >= kMaxDepth)
    throw TemplateError{Code::ResourceExhausted, "values are nested too deep"};
  return depth + 1;
}

} // namespace

Value Value::list(Sequence items, bool isTuple) {
  Value value;
  for (const Value &item : items)
    value.depth_ = std::max(value.depth_, item.depth_);
  value.depth_ = deeper(value.depth_);
  value.storage_ = List{std::make_shared<const Sequence>(std::move(items)), isTuple};
  return value;
}

Value Value::dict(Entries entries) {
  Value value;
  for (const auto &[key, item] : entries)
    value.depth_ = std::max(value.depth_, item.depth_);
  value.depth_ = deeper(value.depth_);
  value.storage_ = Dict{std::make_shared<const Entries>(std::move(entries))};
  return value;
}

const std::string *Value::string() const {
  const auto *text = as<std::shared_ptr<const std::string>>();
  return text ? text->get() : nullptr;
}

const Sequence *Value::sequence() const {
  const List *list = as<List>();
  return list ? list->items.get() : nullptr;
}

const Entries *Value::entries() const {
  const Dict *dict = as<Dict>();
  return dict ? dict->entries.get() : nullptr;
}

bool Value::truth() const {
  if (is<Undefined>() || is<None>())
    return false;
  if (isNumber())
    return number() != 0;
  if (const std::string *text = string())
    return !text->empty();
  if (const Sequence *items = sequence())
    return !items->empty();
  if (const Entries *dict = entries())
    return !dict->empty();
  return true;
}

std::string Value::typeName() const {
  if (is<Undefined>())
    return as<Undefined>()->what;
  if (is<None>())
    return "none";
  if (is<bool>())
    return "'bool object'";
  if (is<int64_t>())
    return "'int object'";
  if (is<double>())
    return "'float object'";
  if (isString())
    return "'str object'";
  if (const List *list = as<List>())
    return list->isTuple ? "'tuple object'" : "'list object'";
  if (is<Dict>())
    return "'dict object'";
  return is<Namespace>() ? "a namespace" : is<std::shared_ptr<const Loop>>() ? "the loop" : "a function";
}

const Value *findEntry(const Entries &entries, std::string_view key) {
  for (const auto &[name, value] : entries)
    if (name == key)
      return &value;
  return nullptr;
}

void setEntry(Entries &entries, std::string_view key, Value value) {
  for (auto &[name, old] : entries)
    if (name == key) {
      old = std::move(value);
      return;
    }
  entries.emplace_back(key, std::move(value));
}

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> all;
  all.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    size_t length = text::stepUtf8(text.substr(i)).length;
    all.push_back(text.substr(i, length));
    i += length;
  }
  return all;
}

Sequence iterate(const Value &value, Budget &budget) {
  Sequence items;
  if (const Sequence *list = value.sequence()) {
    budget.charge(list->size());
    return *list;
  }
  if (const std::string *text = value.string()) {
    budget.chargeTexts(text->size());
    for (std::string_view character : characters(*text))
      items.emplace_back(character);
    return items;
  }
  if (const Entries *entries = value.entries()) {
    budget.chargeTexts(entries->size());
    for (const auto &[key, item] : *entries)
      items.emplace_back(key);
    return items;
  }
  if (value.is<Undefined>())
    return items;
  throw TemplateError{Code::InvalidArgument, value.typeName() + " cannot be iterated over"};
}

bool equal(const Value &a, const Value &b, Budget &budget) {
  budget.charge();
  if (a.isNumber() && b.isNumber())
    return a.isInteger() && b.isInteger() ? a.integer() == b.integer() : a.number() == b.number();
  if (a.isString() && b.isString()) {
    budget.chargeBytes(std::min(a.string()->size(), b.string()->size()));
    return *a.string() == *b.string();
  }
  if (a.is<List>() && b.is<List>() && a.as<List>()->isTuple == b.as<List>()->isTuple)
    return std::equal(a.sequence()->begin(), a.sequence()->end(), b.sequence()->begin(), b.sequence()->end(),
                      [&](const Value &x, const Value &y) { return equal(x, y, budget); });
  if (a.is<Dict>() && b.is<Dict>()) {
    if (a.entries()->size() != b.entries()->size())
      return false;
    budget.charge(a.entries()->size() * b.entries()->size());
    return std::all_of(a.entries()->begin(), a.entries()->end(), [&](const auto &entry) {
      const Value *other = findEntry(*b.entries(), entry.first);
      return other && equal(entry.second, *other, budget);
    });
  }
  if (a.is<Namespace>() && b.is<Namespace>())
    return a.as<Namespace>()->entries == b.as<Namespace>()->entries;
  return (a.is<None>() && b.is<None>()) || (a.is<Undefined>() && b.is<Undefined>());
}

bool less(const Value &a, const Value &b, Budget &budget) {
  budget.charge();
  if (a.isNumber() && b.isNumber())
    return a.isInteger() && b.isInteger() ? a.integer() < b.integer() : a.number() < b.number();
  if (a.isString() && b.isString()) {
    budget.chargeBytes(std::min(a.string()->size(), b.string()->size()));
    return *a.string() < *b.string(); // UTF-8 sorts as its code points do
  }
  if (a.is<List>() && b.is<List>() && a.as<List>()->isTuple == b.as<List>()->isTuple)
    return std::lexicographical_compare(a.sequence()->begin(), a.sequence()->end(), b.sequence()->begin(),
                                        b.sequence()->end(),
                                        [&](const Value &x, const Value &y) { return less(x, y, budget); });
  throw TemplateError{Code::InvalidArgument, "cannot compare " + a.typeName() + " and " + b.typeName()};
}

} // namespace distc::jinja
