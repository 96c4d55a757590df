// Statements, scopes, macros, and the functions that every template has.
#include "runtime/text/jinja/Interpreter.h"

#include <ctime>

namespace distc::jinja {

namespace {

// A level of evaluation takes a few hundred bytes of stack, several times that under a sanitizer.
constexpr unsigned kMaxDepth = 500;
constexpr size_t kMaxOutput = size_t(64) << 20;
constexpr int64_t kMaxRange = 100'000; // as Jinja's sandbox has it

TemplateError atLine(const TemplateError &error, int line) {
  // The innermost place has named itself already.
  if (error.message.starts_with("line "))
    return error;
  return {error.code, "line " + std::to_string(line) + ": " + error.message};
}

} // namespace

Interpreter::Deeper::Deeper(unsigned &depth) : depth(depth) {
  if (++depth > kMaxDepth) {
    --depth;
    throw TemplateError{Code::ResourceExhausted, "the template recurses too deep"};
  }
}

Interpreter::Interpreter(Entries variables, Budget budget) : budget_(budget), scope_(std::make_shared<Scope>()) {
  scope_->variables = std::move(variables);
}

std::string Interpreter::run(const Block &block) {
  execute(block);
  return std::move(output_);
}

void Interpreter::write(std::string_view text) {
  budget_.chargeBytes(text.size());
  if (text.size() > kMaxOutput - output_.size())
    throw TemplateError{Code::ResourceExhausted, "the template writes too much"};
  output_ += text;
}

Interpreter::Flow Interpreter::execute(const Block &block) {
  Deeper level(depth_);
  for (const std::unique_ptr<Stmt> &statement : block) {
    budget_.charge();
    Flow flow = Flow::Normal;
    try {
      switch (statement->kind) {
      case Stmt::Text:
        write(statement->text);
        break;
      case Stmt::Output:
        write(toText(evaluate(*statement->value), budget_));
        break;
      case Stmt::If:
        flow = execute(evaluate(*statement->value).truth() ? statement->body : statement->otherwise);
        break;
      case Stmt::For:
        flow = executeFor(*statement);
        break;
      case Stmt::Set:
      case Stmt::SetBlock:
        executeSet(*statement);
        break;
      case Stmt::Macro:
        setEntry(scope_->variables, statement->text,
                 Value(std::make_shared<const Macro>(Macro{statement.get(), scope_})));
        break;
      case Stmt::Break:
        return Flow::Break;
      case Stmt::Continue:
        return Flow::Continue;
      }
    } catch (const TemplateError &error) {
      throw atLine(error, statement->line);
    }
    if (flow != Flow::Normal)
      return flow;
  }
  return Flow::Normal;
}

namespace {

/// Enters a new scope, and leaves it however the block is left.
class ScopeGuard {
public:
  ScopeGuard(std::shared_ptr<Scope> &current, std::shared_ptr<Scope> parent) : current_(current), saved_(current) {
    current_ = std::make_shared<Scope>(Scope{std::move(parent), {}});
  }
  ~ScopeGuard() { current_ = saved_; }
  ScopeGuard(const ScopeGuard &) = delete;

private:
  std::shared_ptr<Scope> &current_;
  std::shared_ptr<Scope> saved_;
};

} // namespace

Interpreter::Flow Interpreter::executeFor(const Stmt &loop) {
  Value source = evaluate(*loop.value);
  Sequence items = iterate(source, budget_);
  if (loop.condition) {
    Sequence kept;
    for (Value &item : items) {
      ScopeGuard guard(scope_, scope_);
      bind(loop.targets, item);
      if (evaluate(*loop.condition).truth())
        kept.push_back(std::move(item));
    }
    items = std::move(kept);
  }
  for (size_t i = 0; i < items.size(); ++i) {
    budget_.charge();
    ScopeGuard guard(scope_, scope_);
    Value none = Undefined{"there is no item there"};
    setEntry(scope_->variables, "loop",
             Value(std::make_shared<const Loop>(
                 Loop{i, items.size(), i > 0 ? items[i - 1] : none, i + 1 < items.size() ? items[i + 1] : none})));
    bind(loop.targets, items[i]);
    if (execute(loop.body) == Flow::Break)
      break;
  }
  return items.empty() ? execute(loop.otherwise) : Flow::Normal;
}

void Interpreter::executeSet(const Stmt &set) {
  Value value = set.kind == Stmt::SetBlock ? Value(capture(set.body, scope_)) : evaluate(*set.value);
  if (set.attribute.empty())
    return bind(set.targets, std::move(value));
  Value target = lookUp(set.targets[0]);
  const Namespace *space = target.as<Namespace>();
  if (!space)
    fail("only attributes of a namespace can be set, '" + set.targets[0] + "' is none");
  setEntry(*space->entries, set.attribute, std::move(value));
}

void Interpreter::bind(const std::vector<std::string> &targets, Value value) {
  if (targets.size() == 1)
    return setEntry(scope_->variables, targets[0], std::move(value));
  Sequence parts = iterate(value, budget_);
  if (parts.size() != targets.size())
    fail(std::to_string(parts.size()) + " values for " + std::to_string(targets.size()) + " names");
  for (size_t i = 0; i < targets.size(); ++i)
    setEntry(scope_->variables, targets[i], std::move(parts[i]));
}

std::string Interpreter::capture(const Block &block, std::shared_ptr<Scope> parent) {
  ScopeGuard guard(scope_, std::move(parent));
  std::string saved = std::exchange(output_, {});
  execute(block);
  return std::exchange(output_, std::move(saved));
}

Value Interpreter::callMacro(const Macro &macro, Arguments &arguments) {
  std::shared_ptr<Scope> parent = macro.scope.lock();
  if (!parent)
    fail("the macro '" + macro.statement->text + "' is called after the block that defines it");
  ScopeGuard guard(scope_, parent);
  const auto &parameters = macro.statement->parameters;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Value *given = arguments.find(i, parameters[i].name);
    Value value = given ? *given
                  : parameters[i].fallback
                      ? evaluate(*parameters[i].fallback)
                      : Value(Undefined{"parameter '" + parameters[i].name + "' was not provided"});
    setEntry(scope_->variables, parameters[i].name, std::move(value));
  }
  arguments.finish();
  return Value(capture(macro.statement->body, scope_));
}

Value Interpreter::makeNamespace(const Arguments &arguments, const Value *base) {
  namespaces_.push_back(std::make_unique<Entries>());
  Entries &entries = *namespaces_.back();
  if (base) {
    if (!base->entries())
      fail("namespace() takes a dict or arguments by name");
    entries = *base->entries();
  }
  for (const auto &[name, value] : arguments.named())
    setEntry(entries, name, value);
  return Value(Namespace{&entries});
}

Value Interpreter::callBuiltin(const std::string &name, Arguments &arguments) {
  if (name == "raise_exception")
    throw TemplateError{Code::InvalidArgument,
                        "the template refuses: " + toText(arguments.require(0, "message"), budget_)};
  if (name == "namespace" || name == "dict") {
    if (arguments.positionalCount() > 1)
      fail(name + "() takes a dict or arguments by name");
    const Value *base = arguments.find(0, "");
    if (name == "namespace")
      return makeNamespace(arguments, base);
    if (base && !base->entries())
      fail("dict() takes a dict or arguments by name");
    Entries entries = base ? *base->entries() : Entries();
    budget_.charge(entries.size() * (arguments.named().size() + 1) + 1);
    for (const auto &[key, value] : arguments.named())
      setEntry(entries, key, value);
    return Value::dict(std::move(entries));
  }
  if (name == "range") {
    bool hasStart = arguments.positionalCount() > 1;
    int64_t first = arguments.integer(0, "", 0), second = arguments.integer(1, "", 0);
    int64_t step = arguments.integer(2, "", 1);
    arguments.finish();
    int64_t start = hasStart ? first : 0, stop = hasStart ? second : first;
    if (step == 0)
      fail("range() with a step of 0");
    Sequence items;
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
      if (static_cast<int64_t>(items.size()) == kMaxRange)
        fail("range() of more than " + std::to_string(kMaxRange) + " numbers");
      budget_.charge();
      items.emplace_back(i);
      if (__builtin_add_overflow(i, step, &i))
        break;
    }
    return Value::list(std::move(items));
  }
  // strftime_now
  std::string format = arguments.string(0, "format", nullptr);
  arguments.finish();
  if (format.empty())
    return Value("");
  std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char text[1024];
  size_t length = std::strftime(text, sizeof text, format.c_str(), &local);
  if (length == 0)
    fail("strftime_now(): the format '" + format.substr(0, 64) + "' gives nothing, or too much");
  return Value(std::string(text, length));
}

} // namespace distc::jinja
