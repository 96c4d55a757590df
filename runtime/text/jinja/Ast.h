// A parsed template.
#pragma once

#include "runtime/text/jinja/Value.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace distc::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Argument {
  std::string name; // empty: by position
  ExprPtr value;
};

struct Expr {
  enum Kind {
    Literal,   // literal
    Name,      // name
    ListItems, // operands
    TupleItems,
    DictItems, // operands: key, value, key, value, …
    Attribute, // operands[0].name
    Index,     // operands[0][operands[1]]
    Slice,     // operands[0][operands[1]:operands[2]:operands[3]], each may be null
    Call,      // operands[0](arguments)
    Filter,    // operands[0] | name(arguments)
    Test,      // operands[0] is name(arguments)
    Unary,     // name operands[0]; name is one of - + not
    Binary,    // operands[0] name operands[1]; and, or, and arithmetic
    Compare,   // operands[0] comparisons[0] operands[1] comparisons[1] operands[2] …
    Choice,    // operands[1] if operands[0] else operands[2]; operands[2] may be null
  } kind;
  int line;
  std::string name;
  Value literal;
  std::vector<ExprPtr> operands;
  std::vector<Argument> arguments;
  std::vector<std::string> comparisons;
};

struct Stmt;
using Block = std::vector<std::unique_ptr<Stmt>>;

struct Parameter {
  std::string name;
  ExprPtr fallback; // null: none
};

struct Stmt {
  enum Kind {
    Text,     // text
    Output,   // value
    If,       // if value: body, else: otherwise
    For,      // for targets in value if condition: body, else: otherwise
    Set,      // targets = value; one target may be name.attribute
    SetBlock, // targets[0] = what body writes
    Macro,    // text(parameters): body
    Break,
    Continue,
  } kind;
  int line;
  std::string text;
  std::vector<std::string> targets;
  std::string attribute; // of the only target; empty: none
  ExprPtr value;
  ExprPtr condition;
  std::vector<Parameter> parameters;
  Block body;
  Block otherwise;
};

/// Throws a TemplateError that names the line.
Block parseTemplate(std::string_view source);

} // namespace distc::jinja
