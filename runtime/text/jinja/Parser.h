// Tokens to tree: recursive descent, with the precedence of Jinja's own parser.
#pragma once

#include "runtime/text/jinja/Ast.h"
#include "runtime/text/jinja/Lexer.h"

#include <algorithm>
#include <initializer_list>

namespace distc::jinja {

class Parser {
public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  /// Statements up to one of the tags in `ends`, whose name is then current; empty: up to the end of the template.
  Block parseBlock(std::initializer_list<std::string_view> ends);
  [[noreturn]] void fail(const std::string &message, int line = 0) const;

private:
  const Token &current() const { return tokens_[at_]; }
  const Token &ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take();
  bool skipOperator(std::string_view name);
  bool skipName(std::string_view name);
  void expectOperator(std::string_view name);
  void expectName(std::string_view name);
  void expect(Token::Kind kind, const char *what);
  std::string takeName();
  std::string describe(const Token &token) const;

  // Statements (ParserStatements.cpp).
  void parseStatement(Block &block);
  std::unique_ptr<Stmt> make(Stmt::Kind kind, int line) const;
  void parseIf(Block &block, int line);
  void parseFor(Block &block, int line);
  void parseSet(Block &block, int line);
  void parseMacro(Block &block, int line);
  void endTag(std::string_view name);

  // Expressions (ParserExpressions.cpp), loosest first.
  ExprPtr parseTupleOrExpression(bool withChoice);
  ExprPtr parseExpression();
  ExprPtr parseOr();
  ExprPtr parseAnd();
  ExprPtr parseNot();
  ExprPtr parseCompare();
  ExprPtr parseSum();
  ExprPtr parseConcat();
  ExprPtr parseProduct();
  ExprPtr parsePower();
  ExprPtr parseUnary(bool withFilters);
  ExprPtr parsePrimary();
  ExprPtr parsePostfix(ExprPtr value);
  ExprPtr parseFilters(ExprPtr value);
  ExprPtr parseSubscript(ExprPtr value, int line);
  ExprPtr parseTest(ExprPtr value);
  ExprPtr parseCall(ExprPtr callee);
  void parseArguments(std::vector<Argument> &arguments);
  /// Every link makes the tree one level deeper without a level of the parser's recursion.
  void chainLink();
  ExprPtr node(Expr::Kind kind, int line) const;
  ExprPtr binary(std::string name, ExprPtr left, ExprPtr right, int line) const;

  /// Counts levels of recursion while it lives.
  struct Deeper {
    explicit Deeper(Parser &parser);
    ~Deeper() { --parser.depth_; }
    Parser &parser;
  };

  std::vector<Token> tokens_;
  size_t at_ = 0;
  unsigned depth_ = 0;
  unsigned loops_ = 0;
  unsigned links_ = 0; // in the current tag
};

} // namespace distc::jinja
