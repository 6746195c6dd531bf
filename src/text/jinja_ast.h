// A parsed template. The parser bounds how deep both trees are, so they can be walked by recursion.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja_value.h"

namespace cepe::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind {
    kConstant,     // constant
    kName,         // name
    kList,         // operands
    kMap,          // operands: key, value, key, value, ...
    kAttribute,    // operands[0] . name
    kSubscript,    // operands[0] [ operands[1] ]
    kSlice,        // operands[0] [ operands[1] : operands[2] : operands[3] ], absent ones are the constant none
    kUnary,        // name ("not", "-", "+"), operands[0]
    kBinary,       // operands[0] name operands[1], name one of "and", "or", "+", "-", "*", "/", "//", "%", "~"
    kComparison,   // operands[0] comparisons[0] operands[1] comparisons[1] ... as in Python: each pair, joined by "and"
    kConditional,  // operands[1] if operands[0] else operands[2], the last may be absent
    kFilter,       // operands[0] | name(the other operands, named)
    kTest,         // operands[0] is name(the other operands); negated
    kCall,         // name(operands, named)
    kMethod,       // operands[0] . name(the other operands, named)
  };
  Kind kind;
  int line = 0;
  int depth = 1;  // of the tree below, this node included
  std::string name;
  Value constant;
  std::vector<ExpressionPtr> operands;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  std::vector<std::string> comparisons;  // "==", "!=", "<", "<=", ">", ">=", "in", "not in"
  bool negated = false;
};

struct Statement {
  enum class Kind {
    kText,    // text
    kOutput,  // value
    kIf,      // branches: the first whose condition holds; a null condition always does
    kFor,     // names in value, where filter (may be null) holds: body; otherwise, when there is none
    kSet,     // names[0] = value, or names[0].names[1] = value for an attribute of a namespace
  };
  struct Branch {
    ExpressionPtr condition;
    std::vector<Statement> body;
  };
  Kind kind;
  int line = 0;
  std::string text;
  ExpressionPtr value, filter;
  std::vector<Branch> branches;
  std::vector<std::string> names;
  std::vector<Statement> body, otherwise;
};

using Template = std::vector<Statement>;

}  // namespace cepe::jinja
