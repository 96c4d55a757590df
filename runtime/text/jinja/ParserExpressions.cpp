#include "runtime/text/jinja/Parser.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

namespace distc::jinja {

ExprPtr Parser::node(Expr::Kind kind, int line) const {
  auto expression = std::make_unique<Expr>();
  expression->kind = kind;
  expression->line = line;
  return expression;
}

ExprPtr Parser::binary(std::string name, ExprPtr left, ExprPtr right, int line) const {
  ExprPtr expression = node(Expr::Binary, line);
  expression->name = std::move(name);
  expression->operands.push_back(std::move(left));
  expression->operands.push_back(std::move(right));
  return expression;
}

ExprPtr Parser::parseTupleOrExpression(bool withChoice) {
  int line = current().line;
  ExprPtr first = withChoice ? parseExpression() : parseOr();
  if (!current().isOperator(","))
    return first;
  ExprPtr tuple = node(Expr::TupleItems, line);
  tuple->operands.push_back(std::move(first));
  while (skipOperator(",") && current().kind != Token::BlockEnd && current().kind != Token::OutputEnd)
    tuple->operands.push_back(withChoice ? parseExpression() : parseOr());
  return tuple;
}

ExprPtr Parser::parseExpression() {
  Deeper level(*this);
  ExprPtr value = parseOr();
  while (current().isName("if")) {
    ExprPtr choice = node(Expr::Choice, take().line);
    choice->operands.push_back(parseOr());
    choice->operands.push_back(std::move(value));
    choice->operands.push_back(skipName("else") ? parseExpression() : nullptr);
    value = std::move(choice);
    chainLink();
  }
  return value;
}

ExprPtr Parser::parseOr() {
  ExprPtr left = parseAnd();
  while (current().isName("or")) {
    int line = take().line;
    left = binary("or", std::move(left), parseAnd(), line);
    chainLink();
  }
  return left;
}

ExprPtr Parser::parseAnd() {
  ExprPtr left = parseNot();
  while (current().isName("and")) {
    int line = take().line;
    left = binary("and", std::move(left), parseNot(), line);
    chainLink();
  }
  return left;
}

ExprPtr Parser::parseNot() {
  if (!current().isName("not"))
    return parseCompare();
  Deeper level(*this);
  ExprPtr negation = node(Expr::Unary, take().line);
  negation->name = "not";
  negation->operands.push_back(parseNot());
  return negation;
}

ExprPtr Parser::parseCompare() {
  ExprPtr first = parseSum();
  ExprPtr compare;
  for (;;) {
    std::string comparison;
    if (current().kind == Token::Operator) {
      for (std::string_view known : {"==", "!=", "<", "<=", ">", ">="})
        if (current().text == known)
          comparison = known;
    } else if (current().isName("in")) {
      comparison = "in";
    } else if (current().isName("not") && ahead().isName("in")) {
      comparison = "not in";
      take();
    }
    if (comparison.empty())
      return compare ? std::move(compare) : std::move(first);
    int line = take().line;
    if (!compare) {
      compare = node(Expr::Compare, line);
      compare->operands.push_back(std::move(first));
    }
    compare->comparisons.push_back(comparison);
    compare->operands.push_back(parseSum());
  }
}

ExprPtr Parser::parseSum() {
  ExprPtr left = parseConcat();
  while (current().isOperator("+") || current().isOperator("-")) {
    Token sign = take();
    left = binary(sign.text, std::move(left), parseConcat(), sign.line);
    chainLink();
  }
  return left;
}

ExprPtr Parser::parseConcat() {
  ExprPtr left = parseProduct();
  while (current().isOperator("~")) {
    int line = take().line;
    left = binary("~", std::move(left), parseProduct(), line);
    chainLink();
  }
  return left;
}

ExprPtr Parser::parseProduct() {
  ExprPtr left = parsePower();
  while (current().isOperator("*") || current().isOperator("/") || current().isOperator("//") ||
         current().isOperator("%")) {
    Token sign = take();
    left = binary(sign.text, std::move(left), parsePower(), sign.line);
    chainLink();
  }
  return left;
}

ExprPtr Parser::parsePower() {
  ExprPtr left = parseUnary(true);
  while (current().isOperator("**")) {
    int line = take().line;
    left = binary("**", std::move(left), parseUnary(true), line);
    chainLink();
  }
  return left;
}

ExprPtr Parser::parseUnary(bool withFilters) {
  Deeper level(*this);
  ExprPtr value;
  if (current().isOperator("-") || current().isOperator("+")) {
    Token sign = take();
    value = node(Expr::Unary, sign.line);
    value->name = sign.text;
    value->operands.push_back(parseUnary(false));
  } else {
    value = parsePrimary();
  }
  value = parsePostfix(std::move(value));
  return withFilters ? parseFilters(std::move(value)) : std::move(value);
}

ExprPtr Parser::parsePrimary() {
  Token token = current();
  ExprPtr literal = node(Expr::Literal, token.line);
  if (token.kind == Token::String) {
    std::string text;
    while (current().kind == Token::String)
      text += take().text;
    literal->literal = Value(std::move(text));
    return literal;
  }
  if (token.kind == Token::Integer || token.kind == Token::Float) {
    take();
    const char *begin = token.text.data(), *end = begin + token.text.size();
    int64_t integer = 0;
    double real = 0;
    bool isOk = token.kind == Token::Integer ? std::from_chars(begin, end, integer).ec == std::errc()
                                             : std::from_chars(begin, end, real).ec == std::errc();
    if (!isOk)
      fail("the number " + token.text + " is out of range", token.line);
    literal->literal = token.kind == Token::Integer ? Value(integer) : Value(real);
    return literal;
  }
  if (token.kind == Token::Name) {
    take();
    const std::string &name = token.text;
    if (name == "true" || name == "True" || name == "false" || name == "False") {
      literal->literal = Value(name == "true" || name == "True");
    } else if (name != "none" && name != "None") {
      literal->kind = Expr::Name;
      literal->name = name;
    }
    return literal;
  }
  auto items = [&](Expr::Kind kind, std::string_view close) {
    ExprPtr list = node(kind, token.line);
    while (!skipOperator(close)) {
      if (!list->operands.empty()) {
        expectOperator(",");
        if (skipOperator(close))
          break;
      }
      list->operands.push_back(parseExpression());
      if (kind == Expr::DictItems) {
        expectOperator(":");
        list->operands.push_back(parseExpression());
      }
    }
    return list;
  };
  if (skipOperator("["))
    return items(Expr::ListItems, "]");
  if (skipOperator("{"))
    return items(Expr::DictItems, "}");
  if (skipOperator("(")) {
    if (skipOperator(")"))
      return node(Expr::TupleItems, token.line);
    ExprPtr first = parseExpression();
    if (skipOperator(")"))
      return first;
    expectOperator(",");
    ExprPtr tuple = items(Expr::TupleItems, ")");
    tuple->operands.insert(tuple->operands.begin(), std::move(first));
    return tuple;
  }
  fail("expected an expression, got " + describe(token));
}

ExprPtr Parser::parsePostfix(ExprPtr value) {
  for (;;) {
    int line = current().line;
    if (skipOperator(".")) {
      ExprPtr attribute = node(Expr::Attribute, line);
      if (current().kind == Token::Integer) {
        attribute->kind = Expr::Index;
        attribute->operands.push_back(std::move(value));
        attribute->operands.push_back(parsePrimary());
      } else {
        attribute->name = takeName();
        attribute->operands.push_back(std::move(value));
      }
      value = std::move(attribute);
    } else if (skipOperator("[")) {
      value = parseSubscript(std::move(value), line);
    } else if (current().isOperator("(")) {
      value = parseCall(std::move(value));
    } else {
      return value;
    }
    chainLink();
  }
}

ExprPtr Parser::parseSubscript(ExprPtr value, int line) {
  ExprPtr index = node(Expr::Index, line);
  index->operands.push_back(std::move(value));
  auto endsHere = [&] { return current().isOperator(":") || current().isOperator("]"); };
  index->operands.push_back(endsHere() ? nullptr : parseExpression());
  if (current().isOperator(":")) {
    index->kind = Expr::Slice;
    for (int i = 0; i < 2; ++i)
      index->operands.push_back(skipOperator(":") && !endsHere() ? parseExpression() : nullptr);
  } else if (!index->operands[1]) {
    fail("expected an expression, got " + describe(current()));
  }
  expectOperator("]");
  return index;
}

ExprPtr Parser::parseCall(ExprPtr callee) {
  ExprPtr call = node(Expr::Call, current().line);
  call->operands.push_back(std::move(callee));
  parseArguments(call->arguments);
  return call;
}

void Parser::parseArguments(std::vector<Argument> &arguments) {
  expectOperator("(");
  while (!skipOperator(")")) {
    if (!arguments.empty()) {
      expectOperator(",");
      if (skipOperator(")"))
        break;
    }
    if (current().isOperator("*") || current().isOperator("**"))
      fail("arguments by " + current().text + " are not supported");
    Argument argument;
    if (current().kind == Token::Name && ahead().isOperator("=")) {
      argument.name = takeName();
      take();
    } else if (!arguments.empty() && !arguments.back().name.empty()) {
      fail("an argument by position follows one by name");
    }
    argument.value = parseExpression();
    arguments.push_back(std::move(argument));
  }
}

ExprPtr Parser::parseFilters(ExprPtr value) {
  for (;; chainLink()) {
    int line = current().line;
    if (skipOperator("|")) {
      ExprPtr filter = node(Expr::Filter, line);
      filter->name = takeName();
      filter->operands.push_back(std::move(value));
      if (current().isOperator("("))
        parseArguments(filter->arguments);
      value = std::move(filter);
    } else if (current().isName("is")) {
      value = parseTest(std::move(value));
    } else if (current().isOperator("(")) {
      value = parseCall(std::move(value));
    } else {
      return value;
    }
  }
}

ExprPtr Parser::parseTest(ExprPtr value) {
  int line = take().line;
  bool isNegated = skipName("not");
  ExprPtr test = node(Expr::Test, line);
  test->name = takeName();
  test->operands.push_back(std::move(value));
  const Token &next = current();
  bool startsArgument = next.kind == Token::String || next.kind == Token::Integer || next.kind == Token::Float ||
                        next.isOperator("[") || next.isOperator("{") ||
                        (next.kind == Token::Name && next.text != "else" && next.text != "or" && next.text != "and" &&
                         next.text != "if" && next.text != "in" && next.text != "not");
  if (next.isOperator("(")) {
    parseArguments(test->arguments);
  } else if (next.isName("is")) {
    fail("tests cannot be chained with 'is'");
  } else if (startsArgument) {
    Argument argument;
    argument.value = parsePostfix(parsePrimary());
    test->arguments.push_back(std::move(argument));
  }
  if (!isNegated)
    return test;
  ExprPtr negation = node(Expr::Unary, line);
  negation->name = "not";
  negation->operands.push_back(std::move(test));
  return negation;
}

} // namespace distc::jinja
