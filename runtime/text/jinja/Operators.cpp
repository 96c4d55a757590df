// Operators, attributes, subscripts.
#include "runtime/text/jinja/Interpreter.h"

#include <algorithm>
#include <cmath>

namespace distc::jinja {

namespace {

[[noreturn]] void unsupported(const std::string &name, const Value &left, const Value &right) {
  fail("operator " + name + " is not supported for " + left.typeName() + " and " + right.typeName());
}

Value integerOperation(const std::string &name, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflows = false;
  if (name == "+")
    overflows = __builtin_add_overflow(a, b, &result);
  else if (name == "-")
    overflows = __builtin_sub_overflow(a, b, &result);
  else if (name == "*")
    overflows = __builtin_mul_overflow(a, b, &result);
  else if (name == "**") {
    if (b < 0)
      return Value(std::pow(static_cast<double>(a), static_cast<double>(b)));
    if (a >= -1 && a <= 1)
      return Value(b == 0 || (a == -1 && b % 2 == 0) ? int64_t(1) : a);
    result = 1;
    for (int64_t i = 0; i < b && !overflows; ++i) // at most 63 times, then it overflows
      overflows = __builtin_mul_overflow(result, a, &result);
  } else {
    if (b == 0)
      fail("division by zero");
    if (name == "/")
      return Value(static_cast<double>(a) / static_cast<double>(b));
    if (b == -1) { // INT64_MIN / -1 traps
      if (name == "%")
        return Value(int64_t(0));
      overflows = __builtin_sub_overflow(int64_t(0), a, &result);
    } else {
      int64_t quotient = a / b, remainder = a % b;
      if (remainder != 0 && (remainder < 0) != (b < 0)) {
        remainder += b;
        --quotient;
      }
      result = name == "//" ? quotient : remainder;
    }
  }
  if (overflows)
    fail("operator " + name + " goes beyond 64 bits");
  return Value(result);
}

Value floatOperation(const std::string &name, double a, double b) {
  if (name == "+")
    return Value(a + b);
  if (name == "-")
    return Value(a - b);
  if (name == "*")
    return Value(a * b);
  if (name == "**")
    return Value(std::pow(a, b));
  if (b == 0)
    fail("division by zero");
  if (name == "/")
    return Value(a / b);
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0))
    remainder += b;
  return name == "%" ? Value(remainder) : Value(std::floor((a - remainder) / b + 0.5));
}

Value repeated(const Value &value, int64_t count, Budget &budget) {
  auto times = static_cast<uint64_t>(std::max<int64_t>(count, 0));
  if (const std::string *text = value.string()) {
    if (times > 0 && text->size() > (uint64_t(1) << 30) / times)
      throw TemplateError{Code::ResourceExhausted, "a string of more than 1 GiB"};
    budget.chargeBytes(text->size() * times);
    std::string result;
    for (uint64_t i = 0; i < (text->empty() ? 0 : times); ++i)
      result += *text;
    return Value(std::move(result));
  }
  const Sequence &items = *value.sequence();
  if (times > 0 && items.size() > (uint64_t(1) << 30) / times)
    throw TemplateError{Code::ResourceExhausted, "a list of more than 2^30 items"};
  budget.charge(items.size() * times);
  Sequence result;
  for (uint64_t i = 0; i < (items.empty() ? 0 : times); ++i)
    result.insert(result.end(), items.begin(), items.end());
  return Value::list(std::move(result), value.as<List>()->isTuple);
}

} // namespace

Value binaryOperation(const std::string &name, const Value &left, const Value &right, Budget &budget) {
  if (name == "~")
    return Value(toText(left, budget) + toText(right, budget));
  requireDefined(left);
  requireDefined(right);
  if (left.isNumber() && right.isNumber())
    return left.isInteger() && right.isInteger() ? integerOperation(name, left.integer(), right.integer())
                                                 : floatOperation(name, left.number(), right.number());
  if (name == "+" && left.isString() && right.isString()) {
    budget.chargeBytes(left.string()->size() + right.string()->size());
    return Value(*left.string() + *right.string());
  }
  if (name == "+" && left.is<List>() && right.is<List>() && left.as<List>()->isTuple == right.as<List>()->isTuple) {
    Sequence items = *left.sequence();
    budget.charge(items.size() + right.sequence()->size());
    items.insert(items.end(), right.sequence()->begin(), right.sequence()->end());
    return Value::list(std::move(items), left.as<List>()->isTuple);
  }
  if (name == "*" && (left.isString() || left.is<List>()) && right.isInteger())
    return repeated(left, right.integer(), budget);
  if (name == "*" && left.isInteger() && (right.isString() || right.is<List>()))
    return repeated(right, left.integer(), budget);
  unsupported(name, left, right);
}

bool contains(const Value &container, const Value &item, Budget &budget) {
  if (const std::string *text = container.string()) {
    requireDefined(item);
    if (!item.isString())
      fail("'in' a string needs a string, got " + item.typeName());
    budget.chargeBytes(text->size());
    return text->find(*item.string()) != std::string::npos;
  }
  if (const Entries *entries = container.entries()) {
    budget.charge(entries->size());
    return item.isString() && findEntry(*entries, *item.string());
  }
  if (const Sequence *items = container.sequence())
    return std::any_of(items->begin(), items->end(), [&](const Value &other) { return equal(other, item, budget); });
  if (container.is<Undefined>())
    return false;
  fail("'in' needs a string, a list or a dict, got " + container.typeName());
}

bool compare(const std::string &name, const Value &left, const Value &right, Budget &budget) {
  if (name == "==")
    return equal(left, right, budget);
  if (name == "!=")
    return !equal(left, right, budget);
  if (name == "in")
    return contains(right, left, budget);
  if (name == "not in")
    return !contains(right, left, budget);
  requireDefined(left);
  requireDefined(right);
  if (left.isNumber() && right.isNumber() && (std::isnan(left.number()) || std::isnan(right.number())))
    return false;
  if (name == "<")
    return less(left, right, budget);
  if (name == ">")
    return less(right, left, budget);
  return name == "<=" ? !less(right, left, budget) : !less(left, right, budget);
}

Value getAttribute(const Value &object, std::string_view name) {
  requireDefined(object);
  if (const Namespace *space = object.as<Namespace>()) {
    if (const Value *value = findEntry(*space->entries, name))
      return *value;
  } else if (const auto *loop = object.as<std::shared_ptr<const Loop>>()) {
    const Loop &state = **loop;
    auto number = [](size_t value) { return Value(static_cast<int64_t>(value)); };
    if (name == "index" || name == "index0")
      return number(state.index0 + (name == "index"));
    if (name == "revindex" || name == "revindex0")
      return number(state.length - state.index0 - (name == "revindex0"));
    if (name == "first")
      return Value(state.index0 == 0);
    if (name == "last")
      return Value(state.index0 + 1 == state.length);
    if (name == "length")
      return number(state.length);
    if (name == "previtem")
      return state.previous;
    if (name == "nextitem")
      return state.next;
    fail("loop." + std::string(name) + " is not supported");
  } else if (isMethod(object, name)) {
    // A method hides a key of the same name, here as in Jinja.
    fail("the method '" + std::string(name) + "' of " + object.typeName() + " is not called");
  } else if (const Entries *entries = object.entries()) {
    if (const Value *value = findEntry(*entries, name))
      return *value;
  }
  return Value(Undefined{object.typeName() + " has no attribute '" + std::string(name) + "'"});
}

Value getItem(const Value &object, const Value &index, Budget &budget) {
  requireDefined(object);
  if (const std::string *key = index.string()) {
    const Entries *entries = object.entries();
    if (const Value *value = entries ? findEntry(*entries, *key) : nullptr)
      return *value;
    return getAttribute(object, *key);
  }
  if (index.isInteger() && (object.is<List>() || object.isString())) {
    int64_t at = index.integer();
    auto pick = [&](const auto &items) -> Value {
      auto size = static_cast<int64_t>(items.size());
      if (at < -size || at >= size)
        return Value(Undefined{object.typeName() + " has no element " + std::to_string(at)});
      return Value(items[static_cast<size_t>(at < 0 ? at + size : at)]);
    };
    if (const Sequence *items = object.sequence())
      return pick(*items);
    budget.charge(object.string()->size());
    return pick(characters(*object.string()));
  }
  return Value(Undefined{object.typeName() + " has no element " + index.typeName()});
}

Value getSlice(const Value &object, const Value &start, const Value &stop, const Value &step, Budget &budget) {
  requireDefined(object);
  for (const Value *bound : {&start, &stop, &step})
    if (!bound->is<None>() && !bound->isInteger())
      fail("a slice needs integers, got " + bound->typeName());
  int64_t by = step.is<None>() ? 1 : step.integer();
  if (by == 0)
    fail("a slice with a step of 0");
  auto slice = [&](const auto &items, auto take) {
    auto size = static_cast<int64_t>(items.size());
    budget.charge(items.size());
    // As Python clamps: below the first item there is one more place for a backward slice to stop at.
    auto bound = [&](const Value &value, int64_t absent) {
      if (value.is<None>())
        return absent;
      int64_t at = value.integer();
      at = at < 0 ? (at < -size ? -1 : at + size) : at;
      return by > 0 ? std::clamp<int64_t>(at, 0, size) : std::clamp<int64_t>(at, -1, size - 1);
    };
    int64_t from = bound(start, by > 0 ? 0 : size - 1), to = bound(stop, by > 0 ? size : -1);
    for (int64_t i = from; by > 0 ? i < to : i > to;) {
      take(items[static_cast<size_t>(i)]);
      if (__builtin_add_overflow(i, by, &i))
        break;
    }
  };
  if (const Sequence *items = object.sequence()) {
    Sequence result;
    slice(*items, [&](const Value &item) { result.push_back(item); });
    return Value::list(std::move(result), object.as<List>()->isTuple);
  }
  if (!object.isString())
    fail(object.typeName() + " cannot be sliced");
  std::string result;
  slice(characters(*object.string()), [&](std::string_view character) { result += character; });
  return Value(std::move(result));
}

} // namespace distc::jinja
