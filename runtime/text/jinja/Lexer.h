// Cuts a template into tokens, with the whitespace control of Jinja (-, +, trim_blocks and lstrip_blocks on).
#pragma once

#include "runtime/text/jinja/Value.h"

#include <string>
#include <string_view>
#include <vector>

namespace distc::jinja {

struct Token {
  enum Kind { Data, BlockBegin, BlockEnd, OutputBegin, OutputEnd, Name, String, Integer, Float, Operator, End } kind;
  std::string text; // of a string: without quotes, escapes resolved
  int line;

  bool isName(std::string_view name) const { return kind == Name && text == name; }
  bool isOperator(std::string_view name) const { return kind == Operator && text == name; }
};

/// Throws a TemplateError. The last token is End.
std::vector<Token> tokenize(std::string_view source);

} // namespace distc::jinja
