// The expressions of a template, from the loosest operator to the tightest.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>

#include "text/jinja/ast.h"
#include "text/jinja/cursor.h"

namespace cepe::jinja {

class ExpressionParser : public TokenCursor {
 public:
  using TokenCursor::TokenCursor;

 protected:
  ExpressionPtr expression();
  // One expression, or several with commas between, which are a tuple.
  ExpressionPtr tuple(bool with_conditional);
  // The filters and tests after a value; filter() reads one after its "|".
  ExpressionPtr filters(ExpressionPtr value);
  ExpressionPtr filter(ExpressionPtr value);
  ExpressionPtr make(Expression::Kind kind, std::string name = "") const;
  // Names that begin with an underscore lead into Python's objects; Jinja's sandbox refuses them too.
  std::string attribute_name();

  std::set<std::string, std::less<>> names_;  // all variables read so far
  int safe_filters_ = 0;                      // read so far in this output

 private:
  // An expression without "a if b else c" at its top.
  ExpressionPtr disjunction();
  void add(Expression& parent, ExpressionPtr child) const;
  ExpressionPtr binary(std::string name, ExpressionPtr left, ExpressionPtr right) const;
  ExpressionPtr constant(Value value) const;
  ExpressionPtr conjunction();
  ExpressionPtr negation();
  std::string comparison_operator();
  ExpressionPtr comparison();
  ExpressionPtr sum();
  ExpressionPtr concatenation();
  ExpressionPtr product();
  ExpressionPtr power();
  // A sign binds tighter than a filter: -1|abs is (-1)|abs.
  ExpressionPtr unary(bool with_filters);
  ExpressionPtr primary();
  ExpressionPtr integer();
  ExpressionPtr name();
  // (value), or a tuple.
  ExpressionPtr parenthesis();
  void items(Expression& list, std::string_view close);
  ExpressionPtr map();
  ExpressionPtr postfix(ExpressionPtr value);
  ExpressionPtr subscript(ExpressionPtr value);
  // After "(": positional, then named ones.
  void arguments(Expression& call);
  ExpressionPtr call(ExpressionPtr callee);
  ExpressionPtr test(ExpressionPtr value);
};

}  // namespace cepe::jinja
