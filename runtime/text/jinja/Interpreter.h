// Evaluates a parsed template. Everything here throws a TemplateError on failure.
#pragma once

#include "runtime/text/jinja/Ast.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace distc::jinja {

/// The arguments of one call. What a callee does not ask for is an error in finish().
class Arguments {
public:
  Arguments(std::string callee, Sequence positional, Entries named)
      : callee_(std::move(callee)), positional_(std::move(positional)), named_(std::move(named)),
        usedNames_(named_.size()) {}

  /// By position or by name; null: not given.
  const Value *find(size_t position, std::string_view name);
  const Value &require(size_t position, std::string_view name);
  std::string string(size_t position, std::string_view name, const char *fallback);
  int64_t integer(size_t position, std::string_view name, int64_t fallback);
  bool flag(size_t position, std::string_view name, bool fallback);
  /// Takes the positional arguments from `first` on, as a call of `callee`.
  Arguments rest(size_t first, std::string callee);
  size_t positionalCount() const { return positional_.size(); }
  const Entries &named() const { return named_; }
  const std::string &callee() const { return callee_; }
  void finish() const;
  [[noreturn]] void fail(const std::string &message) const;

private:
  std::string callee_;
  Sequence positional_;
  Entries named_;
  size_t usedPositions_ = 0; // as many of the first
  std::vector<bool> usedNames_;
};

struct Scope {
  std::shared_ptr<Scope> parent;
  Entries variables;
};

struct Macro {
  const Stmt *statement;
  std::weak_ptr<Scope> scope; // weak: the scope holds the macro
};

struct Loop {
  size_t index0;
  size_t length;
  Value previous;
  Value next;
};

[[noreturn]] void fail(std::string message);
/// The error that Jinja makes of the use of an undefined value.
void requireDefined(const Value &value);

/// The filter or test `name`; an unknown one is an error.
Value applyFilter(const std::string &name, const Value &input, Arguments &arguments, Budget &budget);
bool applyTest(const std::string &name, const Value &value, Arguments &arguments, Budget &budget);
/// The filters that work on text; returns false if `name` is none.
bool applyTextFilter(const std::string &name, const Value &input, Arguments &arguments, Budget &budget, Value &result);

/// object.name(arguments) for the methods of str, dict and list.
Value callMethod(const Value &object, const std::string &name, Arguments &arguments, Budget &budget);
bool isMethod(const Value &object, std::string_view name);

Value getAttribute(const Value &object, std::string_view name);
Value getItem(const Value &object, const Value &index, Budget &budget);
Value getSlice(const Value &object, const Value &start, const Value &stop, const Value &step, Budget &budget);
Value binaryOperation(const std::string &name, const Value &left, const Value &right, Budget &budget);
bool compare(const std::string &name, const Value &left, const Value &right, Budget &budget);
bool contains(const Value &container, const Value &item, Budget &budget);

// Python's functions on text.
std::string stripped(std::string_view text, const Value *characters, bool left, bool right);
std::string replaced(std::string_view text, std::string_view from, std::string_view to, int64_t count, Budget &budget);
std::string cased(std::string_view text, bool upper);
std::string capitalized(std::string_view text);
std::vector<std::string_view> splitLines(std::string_view text, bool keepEnds);

class Interpreter {
public:
  Interpreter(Entries variables, Budget budget);
  std::string run(const Block &block);

private:
  enum class Flow { Normal, Break, Continue };

  Flow execute(const Block &block);
  Flow executeFor(const Stmt &loop);
  void executeSet(const Stmt &set);
  void write(std::string_view text);
  std::string capture(const Block &block, std::shared_ptr<Scope> scope);
  void bind(const std::vector<std::string> &targets, Value value);

  Value evaluate(const Expr &expression);
  Value evaluateNode(const Expr &expression);
  Value evaluateCall(const Expr &expression);
  Arguments evaluateArguments(const Expr &expression, std::string callee);
  Value lookUp(const std::string &name) const;
  Value call(const Value &callee, Arguments arguments);
  Value callMacro(const Macro &macro, Arguments &arguments);
  Value callBuiltin(const std::string &name, Arguments &arguments);
  Value makeNamespace(const Arguments &arguments, const Value *base);

  /// Counts levels of evaluation while it lives.
  struct Deeper {
    explicit Deeper(unsigned &depth);
    ~Deeper() { --depth; }
    unsigned &depth;
  };

  Budget budget_;
  std::shared_ptr<Scope> scope_;
  std::vector<std::unique_ptr<Entries>> namespaces_;
  std::string output_;
  unsigned depth_ = 0;
};

} // namespace distc::jinja
