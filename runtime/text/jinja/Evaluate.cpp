// Expressions.
#include "runtime/text/jinja/Interpreter.h"

#include <algorithm>

namespace distc::jinja {

void fail(std::string message) { throw TemplateError{Code::InvalidArgument, std::move(message)}; }

void requireDefined(const Value &value) {
  if (const Undefined *undefined = value.as<Undefined>())
    fail(undefined->what);
}

void Arguments::fail(const std::string &message) const { jinja::fail(callee_ + ": " + message); }

const Value *Arguments::find(size_t position, std::string_view name) {
  if (position < positional_.size()) {
    usedPositions_ = std::max(usedPositions_, position + 1);
    return &positional_[position];
  }
  for (size_t i = 0; i < named_.size(); ++i)
    if (!name.empty() && named_[i].first == name) {
      usedNames_[i] = true;
      return &named_[i].second;
    }
  return nullptr;
}

const Value &Arguments::require(size_t position, std::string_view name) {
  const Value *value = find(position, name);
  if (!value)
    fail("the argument '" + std::string(name) + "' is missing");
  return *value;
}

std::string Arguments::string(size_t position, std::string_view name, const char *fallback) {
  const Value *value = find(position, name);
  if (!value && fallback)
    return fallback;
  if (!value || !value->isString())
    fail("expected a string for '" + std::string(name) + "'" + (value ? ", got " + value->typeName() : ""));
  return *value->string();
}

int64_t Arguments::integer(size_t position, std::string_view name, int64_t fallback) {
  const Value *value = find(position, name);
  if (value && !value->isInteger())
    fail("expected an integer, got " + value->typeName());
  return value ? value->integer() : fallback;
}

bool Arguments::flag(size_t position, std::string_view name, bool fallback) {
  const Value *value = find(position, name);
  return value ? value->truth() : fallback;
}

Arguments Arguments::rest(size_t first, std::string callee) {
  Sequence positional;
  for (size_t i = first; i < positional_.size(); ++i)
    positional.push_back(positional_[i]);
  usedPositions_ = positional_.size();
  Entries named;
  for (size_t i = 0; i < named_.size(); ++i)
    if (!usedNames_[i]) {
      named.push_back(named_[i]);
      usedNames_[i] = true;
    }
  return Arguments(std::move(callee), std::move(positional), std::move(named));
}

void Arguments::finish() const {
  if (usedPositions_ < positional_.size())
    fail("at most " + std::to_string(usedPositions_) + " arguments are supported, got " +
         std::to_string(positional_.size()));
  for (size_t i = 0; i < named_.size(); ++i)
    if (!usedNames_[i])
      fail("the argument '" + named_[i].first + "' is not supported");
}

Value Interpreter::lookUp(const std::string &name) const {
  for (const Scope *scope = scope_.get(); scope; scope = scope->parent.get())
    if (const Value *value = findEntry(scope->variables, name))
      return *value;
  for (std::string_view builtin : {"namespace", "range", "dict", "raise_exception", "strftime_now"})
    if (name == builtin)
      return Value(Builtin{name});
  return Value(Undefined{"'" + name + "' is undefined"});
}

Value Interpreter::evaluate(const Expr &expression) {
  Deeper level(depth_);
  budget_.charge();
  return evaluateNode(expression);
}

Value Interpreter::evaluateNode(const Expr &expression) {
  auto operand = [&](size_t i) { return expression.operands[i] ? evaluate(*expression.operands[i]) : Value(); };
  switch (expression.kind) {
  case Expr::Literal:
    return expression.literal;
  case Expr::Name:
    return lookUp(expression.name);
  case Expr::ListItems:
  case Expr::TupleItems: {
    Sequence items;
    for (size_t i = 0; i < expression.operands.size(); ++i)
      items.push_back(operand(i));
    return Value::list(std::move(items), expression.kind == Expr::TupleItems);
  }
  case Expr::DictItems: {
    Entries entries;
    for (size_t i = 0; i < expression.operands.size(); i += 2) {
      Value key = operand(i);
      if (!key.isString())
        fail("only strings are supported as keys of a dict, got " + key.typeName());
      budget_.charge(entries.size());
      setEntry(entries, *key.string(), operand(i + 1));
    }
    return Value::dict(std::move(entries));
  }
  case Expr::Attribute:
    return getAttribute(operand(0), expression.name);
  case Expr::Index: {
    Value object = operand(0);
    return getItem(object, operand(1), budget_);
  }
  case Expr::Slice: {
    Value object = operand(0), start = operand(1), stop = operand(2);
    return getSlice(object, start, stop, operand(3), budget_);
  }
  case Expr::Call:
    return evaluateCall(expression);
  case Expr::Filter: {
    Value input = operand(0);
    Arguments arguments = evaluateArguments(expression, "filter '" + expression.name + "'");
    return applyFilter(expression.name, input, arguments, budget_);
  }
  case Expr::Test: {
    Value value = operand(0);
    Arguments arguments = evaluateArguments(expression, "test '" + expression.name + "'");
    return Value(applyTest(expression.name, value, arguments, budget_));
  }
  case Expr::Unary: {
    Value value = operand(0);
    if (expression.name == "not")
      return Value(!value.truth());
    requireDefined(value);
    if (!value.isNumber())
      fail("unary " + expression.name + " of " + value.typeName());
    if (expression.name == "+")
      return value;
    return binaryOperation("-", Value(int64_t(0)), value, budget_);
  }
  case Expr::Binary: {
    Value left = operand(0);
    if (expression.name == "and")
      return left.truth() ? operand(1) : left;
    if (expression.name == "or")
      return left.truth() ? left : operand(1);
    return binaryOperation(expression.name, left, operand(1), budget_);
  }
  case Expr::Compare: {
    Value left = operand(0);
    for (size_t i = 0; i < expression.comparisons.size(); ++i) {
      Value right = operand(i + 1);
      if (!compare(expression.comparisons[i], left, right, budget_))
        return Value(false);
      left = std::move(right);
    }
    return Value(true);
  }
  case Expr::Choice:
    if (operand(0).truth())
      return operand(1);
    return expression.operands[2] ? operand(2) : Value(Undefined{"the inline if without an else has no value"});
  }
  return Value();
}

Arguments Interpreter::evaluateArguments(const Expr &expression, std::string callee) {
  Sequence positional;
  Entries named;
  for (const Argument &argument : expression.arguments) {
    Value value = evaluate(*argument.value);
    if (argument.name.empty())
      positional.push_back(std::move(value));
    else if (findEntry(named, argument.name))
      fail(callee + ": the argument '" + argument.name + "' is given twice");
    else
      named.emplace_back(argument.name, std::move(value));
  }
  return Arguments(std::move(callee), std::move(positional), std::move(named));
}

Value Interpreter::evaluateCall(const Expr &expression) {
  const Expr &callee = *expression.operands[0];
  if (callee.kind != Expr::Attribute) {
    Value function = evaluate(callee);
    return call(function, evaluateArguments(expression, callee.name.empty() ? "a call" : callee.name + "()"));
  }
  Value object = evaluate(*callee.operands[0]);
  requireDefined(object);
  Arguments arguments = evaluateArguments(expression, callee.name + "()");
  if (object.is<Namespace>())
    return call(getAttribute(object, callee.name), std::move(arguments));
  if (const auto *loop = object.as<std::shared_ptr<const Loop>>(); loop && callee.name == "cycle") {
    if (arguments.positionalCount() == 0)
      fail("cycle() without arguments");
    Value chosen = *arguments.find((*loop)->index0 % arguments.positionalCount(), "");
    return chosen;
  }
  return callMethod(object, callee.name, arguments, budget_);
}

Value Interpreter::call(const Value &callee, Arguments arguments) {
  requireDefined(callee);
  if (const auto *macro = callee.as<std::shared_ptr<const Macro>>())
    return callMacro(**macro, arguments);
  if (const Builtin *builtin = callee.as<Builtin>())
    return callBuiltin(builtin->name, arguments);
  fail(callee.typeName() + " cannot be called");
}

} // namespace distc::jinja
