// A parsed template. The parser bounds how deep both trees are, so they can be walked by recursion.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace cepe::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind {
    kConstant,     // constant
    kName,         // name
    kList,         // operands
    kTuple,        // operands
    kMap,          // operands: key, value, key, value, ...
    kAttribute,    // operands[0] . name
    kSubscript,    // operands[0] [ operands[1] ]
    kSlice,        // operands[0] [ operands[1] : operands[2] : operands[3] ], absent ones are the constant none
    kUnary,        // name ("not", "-", "+"), operands[0]
    kBinary,       // operands[0] name operands[1], name one of "and", "or", "+", "-", "*", "/", "//", "%", "**", "~"
    kComparison,   // operands[0] comparisons[0] operands[1] comparisons[1] ... as in Python: each pair, joined by "and"
    kConditional,  // operands[1] if operands[0] else operands[2], the last may be absent
    kFilter,       // operands[0] | name(the other operands, named)
    kTest,         // operands[0] is name(the other operands); negated
    kCall,         // operands[0](the other operands, named)
    kMethod,       // operands[0] . name(the other operands, named)
  };
  Kind kind;
  int line = 0;
  int depth = 1;  // of the tree below, this node included
  std::string name;
  Value constant;
  std::vector<ExpressionPtr> operands;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr more_positional, more_named;  // *value and **value of a call, or null
  std::vector<std::string> comparisons;       // "==", "!=", "<", "<=", ">", ">=", "in", "not in"
  bool negated = false;
};

// What is assigned to: name, name.attribute, or several targets at once.
struct Target {
  std::string name, attribute;
  std::vector<Target> parts;
};

// The head of a macro, or of a call block, whose body is a macro without a name.
struct MacroHead {
  std::string name;
  std::vector<std::pair<std::string, ExpressionPtr>> parameters;            // with the default, or null
  bool takes_caller = false, takes_more = false, takes_more_named = false;  // its body uses caller, varargs, kwargs
};

struct Statement {
  enum class Kind {
    kText,         // text
    kOutput,       // value
    kIf,           // branches: the first whose condition holds; a null condition always does
    kFor,          // target in value, where filter (may be null) holds: body; otherwise, when there is none
    kSet,          // target = value
    kSetBlock,     // target = body's text, which value (may be null) finds in kBlockText
    kFilterBlock,  // value, with body's text in kBlockText
    kWith,         // assignments, then body
    kMacro,        // macro, body
    kCallBlock,    // value, a call, gets macro with body as "caller"
    kGeneration,   // body: what an assistant wrote, for training; its own scope
    kBreak,
    kContinue,
  };
  // The name of a variable that no template can spell.
  static constexpr const char* kBlockText = "text of the block";
  struct Branch {
    ExpressionPtr condition;
    std::vector<Statement> body;
  };
  Kind kind;
  int line = 0;
  std::string text;
  ExpressionPtr value, filter;
  std::vector<Branch> branches;
  Target target;
  std::vector<std::pair<Target, ExpressionPtr>> assignments;
  MacroHead macro;
  bool recursive = false;  // of a loop: "loop" can be called
  std::vector<Statement> body, otherwise;
};

using Template = std::vector<Statement>;

}  // namespace cepe::jinja
