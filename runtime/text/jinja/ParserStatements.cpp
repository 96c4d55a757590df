#include "runtime/text/jinja/Parser.h"

#include <algorithm>

namespace distc::jinja {

namespace {
// Levels of blocks and of expressions inside each other. An expression level takes a dozen frames of the stack.
constexpr unsigned kMaxDepth = 200;
constexpr unsigned kMaxLinks = 500;
} // namespace

Parser::Deeper::Deeper(Parser &parser) : parser(parser) {
  if (++parser.depth_ > kMaxDepth)
    parser.fail("the template is nested too deep");
}

void Parser::chainLink() {
  if (++links_ > kMaxLinks)
    fail("an expression is too long");
}

void Parser::fail(const std::string &message, int line) const {
  throw TemplateError{Code::InvalidArgument, "line " + std::to_string(line ? line : current().line) + ": " + message};
}

std::string Parser::describe(const Token &token) const {
  switch (token.kind) {
  case Token::Name:
  case Token::Operator:
  case Token::Integer:
  case Token::Float:
    return "'" + token.text + "'";
  case Token::String:
    return "a string";
  case Token::BlockEnd:
    return "'%}'";
  case Token::OutputEnd:
    return "'}}'";
  default:
    return "the end of the template";
  }
}

Token Parser::take() {
  Token token = current();
  if (at_ + 1 < tokens_.size())
    ++at_;
  return token;
}

bool Parser::skipOperator(std::string_view name) {
  bool isIt = current().isOperator(name);
  if (isIt)
    take();
  return isIt;
}

bool Parser::skipName(std::string_view name) {
  bool isIt = current().isName(name);
  if (isIt)
    take();
  return isIt;
}

void Parser::expectOperator(std::string_view name) {
  if (!skipOperator(name))
    fail("expected '" + std::string(name) + "', got " + describe(current()));
}

void Parser::expectName(std::string_view name) {
  if (!skipName(name))
    fail("expected '" + std::string(name) + "', got " + describe(current()));
}

void Parser::expect(Token::Kind kind, const char *what) {
  if (current().kind != kind)
    fail(std::string("expected ") + what + ", got " + describe(current()));
  take();
}

std::string Parser::takeName() {
  if (current().kind != Token::Name)
    fail("expected a name, got " + describe(current()));
  return take().text;
}

std::unique_ptr<Stmt> Parser::make(Stmt::Kind kind, int line) const {
  auto statement = std::make_unique<Stmt>();
  statement->kind = kind;
  statement->line = line;
  return statement;
}

Block Parser::parseBlock(std::initializer_list<std::string_view> ends) {
  Deeper level(*this);
  Block block;
  for (;;) {
    int line = current().line;
    links_ = 0;
    if (current().kind == Token::Data) {
      block.push_back(make(Stmt::Text, line));
      block.back()->text = take().text;
    } else if (current().kind == Token::OutputBegin) {
      take();
      block.push_back(make(Stmt::Output, line));
      block.back()->value = parseTupleOrExpression(true);
      expect(Token::OutputEnd, "'}}'");
    } else if (current().kind == Token::BlockBegin) {
      take();
      if (current().kind == Token::Name && std::find(ends.begin(), ends.end(), current().text) != ends.end())
        return block;
      parseStatement(block);
    } else {
      if (ends.size() > 0)
        fail("the template ends where {% " + std::string(*(ends.end() - 1)) + " %} is expected");
      return block;
    }
  }
}

void Parser::endTag(std::string_view name) {
  expectName(name);
  expect(Token::BlockEnd, "'%}'");
}

void Parser::parseStatement(Block &block) {
  int line = current().line;
  std::string name = takeName();
  if (name == "if")
    return parseIf(block, line);
  if (name == "for")
    return parseFor(block, line);
  if (name == "set")
    return parseSet(block, line);
  if (name == "macro")
    return parseMacro(block, line);
  if (name == "generation") {
    // It marks what the assistant says for training, and writes nothing itself.
    expect(Token::BlockEnd, "'%}'");
    Block body = parseBlock({"endgeneration"});
    endTag("endgeneration");
    std::move(body.begin(), body.end(), std::back_inserter(block));
    return;
  }
  if (name == "break" || name == "continue") {
    if (loops_ == 0)
      fail("'" + name + "' outside a loop", line);
    block.push_back(make(name == "break" ? Stmt::Break : Stmt::Continue, line));
    return expect(Token::BlockEnd, "'%}'");
  }
  fail("the tag '" + name + "' is not supported here", line);
}

void Parser::parseIf(Block &block, int line) {
  // elif is an if in the otherwise of the one before. By a loop, so that a long chain needs no deep stack.
  Block *into = &block;
  for (unsigned branches = 1;; ++branches) {
    into->push_back(make(Stmt::If, line));
    Stmt &branch = *into->back();
    branch.value = parseTupleOrExpression(true);
    expect(Token::BlockEnd, "'%}'");
    branch.body = parseBlock({"elif", "else", "endif"});
    line = current().line;
    if (skipName("elif")) {
      into = &branch.otherwise;
      links_ = 0;
      if (branches > kMaxDepth)
        fail("too many elif branches");
      continue;
    }
    if (skipName("else")) {
      expect(Token::BlockEnd, "'%}'");
      branch.otherwise = parseBlock({"endif"});
    }
    return endTag("endif");
  }
}

void Parser::parseFor(Block &block, int line) {
  auto loop = make(Stmt::For, line);
  bool inBrackets = skipOperator("(");
  do
    loop->targets.push_back(takeName());
  while (skipOperator(",") && !current().isName("in"));
  if (inBrackets)
    expectOperator(")");
  expectName("in");
  loop->value = parseTupleOrExpression(false);
  if (skipName("if"))
    loop->condition = parseExpression();
  if (current().isName("recursive"))
    fail("recursive loops are not supported");
  expect(Token::BlockEnd, "'%}'");
  ++loops_;
  loop->body = parseBlock({"else", "endfor"});
  --loops_;
  if (skipName("else")) {
    expect(Token::BlockEnd, "'%}'");
    loop->otherwise = parseBlock({"endfor"});
  }
  endTag("endfor");
  block.push_back(std::move(loop));
}

void Parser::parseSet(Block &block, int line) {
  auto set = make(Stmt::Set, line);
  set->targets.push_back(takeName());
  if (skipOperator("."))
    set->attribute = takeName();
  else
    while (skipOperator(","))
      set->targets.push_back(takeName());
  if (skipOperator("=")) {
    set->value = parseTupleOrExpression(true);
    expect(Token::BlockEnd, "'%}'");
  } else {
    if (set->targets.size() != 1 || current().kind != Token::BlockEnd)
      fail("expected '=', got " + describe(current()));
    set->kind = Stmt::SetBlock;
    take();
    set->body = parseBlock({"endset"});
    endTag("endset");
  }
  block.push_back(std::move(set));
}

void Parser::parseMacro(Block &block, int line) {
  auto macro = make(Stmt::Macro, line);
  macro->text = takeName();
  expectOperator("(");
  while (!skipOperator(")")) {
    if (!macro->parameters.empty())
      expectOperator(",");
    Parameter parameter{takeName(), nullptr};
    if (skipOperator("="))
      parameter.fallback = parseExpression();
    else if (!macro->parameters.empty() && macro->parameters.back().fallback)
      fail("parameter '" + parameter.name + "' without a default follows one with a default");
    macro->parameters.push_back(std::move(parameter));
  }
  expect(Token::BlockEnd, "'%}'");
  unsigned loops = std::exchange(loops_, 0);
  macro->body = parseBlock({"endmacro"});
  loops_ = loops;
  endTag("endmacro");
  block.push_back(std::move(macro));
}

Block parseTemplate(std::string_view source) { return Parser(tokenize(source)).parseBlock({}); }

} // namespace distc::jinja
