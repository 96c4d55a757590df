// The values of a template, as Python has them: what a template can see of them is what Python would show.
#pragma once

#include "distc/Status.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace distc::jinja {

/// Thrown inside the interpreter only; renderChat catches it.
struct TemplateError {
  Code code;
  std::string message;
};

/// Counts work, in units of about one value or 16 bytes made, so that no template can take more time or memory than
/// suits what it is given.
class Budget {
public:
  explicit Budget(size_t units) : left_(units) {}
  void charge(size_t units = 1) {
    if (units > left_)
      throw TemplateError{Code::ResourceExhausted, "the template does too much work"};
    left_ -= units;
  }
  void chargeBytes(size_t bytes) { charge(bytes / 16 + 1); }
  /// Each with memory of its own, whatever its length.
  void chargeTexts(size_t count) { charge(8 * count); }

private:
  size_t left_;
};

class Value;
struct Macro;
struct Loop;
using Sequence = std::vector<Value>;
using Entries = std::vector<std::pair<std::string, Value>>; // in the order of insertion, keys unique

struct Undefined {
  std::string what; // for the error that its use would be
};
struct None {};
struct List {
  std::shared_ptr<const Sequence> items;
  bool isTuple = false;
};
struct Dict {
  std::shared_ptr<const Entries> entries;
};
/// Owned by the interpreter, which lets a namespace hold itself without a leak.
struct Namespace {
  Entries *entries;
};
struct Builtin {
  std::string name;
};

class Value {
public:
  using Storage = std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const std::string>, List, Dict,
                               Namespace, Builtin, std::shared_ptr<const Macro>, std::shared_ptr<const Loop>>;

  Value() : storage_(None()) {}
  Value(Undefined undefined) : storage_(std::move(undefined)) {}
  Value(None none) : storage_(none) {}
  Value(bool value) : storage_(value) {}
  Value(int64_t value) : storage_(value) {}
  Value(double value) : storage_(value) {}
  Value(std::string value) : storage_(std::make_shared<const std::string>(std::move(value))) {}
  Value(std::string_view value) : Value(std::string(value)) {}
  Value(const char *value) : Value(std::string(value)) {}
  Value(Namespace value) : storage_(value) {}
  Value(Builtin value) : storage_(std::move(value)) {}
  Value(std::shared_ptr<const Macro> macro) : storage_(std::move(macro)) {}
  Value(std::shared_ptr<const Loop> loop) : storage_(std::move(loop)) {}
  static Value list(Sequence items, bool isTuple = false);
  static Value dict(Entries entries);

  template <typename T> bool is() const { return std::holds_alternative<T>(storage_); }
  template <typename T> const T *as() const { return std::get_if<T>(&storage_); }
  bool isString() const { return is<std::shared_ptr<const std::string>>(); }
  /// Null: not a string.
  const std::string *string() const;
  /// Null: neither a list nor a tuple.
  const Sequence *sequence() const;
  /// Null: not a dict.
  const Entries *entries() const;
  /// bool and int, as Python counts them.
  bool isInteger() const { return is<int64_t>() || is<bool>(); }
  bool isNumber() const { return isInteger() || is<double>(); }
  int64_t integer() const { return is<bool>() ? *as<bool>() : *as<int64_t>(); }
  double number() const { return is<double>() ? *as<double>() : static_cast<double>(integer()); }

  bool truth() const;
  /// "'list object'", for errors.
  std::string typeName() const;
  /// Levels of lists and dicts inside; bounded, since values are walked and freed by recursion.
  unsigned depth() const { return depth_; }

private:
  Storage storage_;
  unsigned depth_ = 0;
};

const Value *findEntry(const Entries &entries, std::string_view key);
void setEntry(Entries &entries, std::string_view key, Value value);

/// Python's str() and repr().
std::string toText(const Value &value, Budget &budget);
std::string toRepr(const Value &value, Budget &budget);
/// Python's json.dumps(value, ensure_ascii=False, indent=indent); indent < 0: None.
std::string toJson(const Value &value, int indent, bool sortKeys, Budget &budget);
bool equal(const Value &a, const Value &b, Budget &budget);
/// a < b; an error if Python does not order the two.
bool less(const Value &a, const Value &b, Budget &budget);
/// Python's repr() of a float.
std::string floatText(double value);

/// The characters of valid UTF-8.
std::vector<std::string_view> characters(std::string_view text);

/// What a for loop or list() goes through: items, keys, characters. An error if it is not iterable.
Sequence iterate(const Value &value, Budget &budget);

} // namespace distc::jinja
