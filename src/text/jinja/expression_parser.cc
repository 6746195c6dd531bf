#include "text/jinja/expression_parser.h"

#include <charconv>
#include <cstdlib>

#include "text/jinja/builtins.h"

namespace cepe::jinja {
namespace {

using ExprKind = Expression::Kind;

}  // namespace

std::string ExpressionParser::attribute_name() {
  std::string name = any_name("the name of an attribute");
  if (name[0] == '_') refuse("the attribute \"{}\" is not supported", name);
  return name;
}

ExpressionPtr ExpressionParser::make(ExprKind kind, std::string name) const {
  auto out = std::make_unique<Expression>();
  out->kind = kind;
  out->name = std::move(name);
  out->line = peek().line;
  return out;
}

void ExpressionParser::add(Expression& parent, ExpressionPtr child) const {
  parent.depth = std::max(parent.depth, child->depth + 1);
  if (parent.depth > kMaxDepth) refuse("an expression is nested more than {} deep", kMaxDepth);
  parent.operands.push_back(std::move(child));
}

ExpressionPtr ExpressionParser::binary(std::string name, ExpressionPtr left, ExpressionPtr right) const {
  auto out = make(ExprKind::kBinary, std::move(name));
  add(*out, std::move(left));
  add(*out, std::move(right));
  return out;
}

ExpressionPtr ExpressionParser::constant(Value value) const {
  auto out = make(ExprKind::kConstant);
  out->constant = std::move(value);
  return out;
}

ExpressionPtr ExpressionParser::expression() {
  const Level level(*this);
  ExpressionPtr value = disjunction();
  while (accept_name("if")) {
    auto out = make(ExprKind::kConditional);
    add(*out, disjunction());
    add(*out, std::move(value));
    if (accept_name("else")) add(*out, expression());
    value = std::move(out);
  }
  return value;
}

ExpressionPtr ExpressionParser::tuple(bool with_conditional) {
  const auto item = [&] { return with_conditional ? expression() : disjunction(); };
  ExpressionPtr first = item();
  if (!at_op(",")) return first;
  auto out = make(ExprKind::kTuple);
  add(*out, std::move(first));
  while (accept_op(",")) {
    if (peek().kind == TokenKind::kOutputEnd || peek().kind == TokenKind::kBlockEnd) break;
    add(*out, item());
  }
  return out;
}

ExpressionPtr ExpressionParser::disjunction() {
  ExpressionPtr left = conjunction();
  while (accept_name("or")) left = binary("or", std::move(left), conjunction());
  return left;
}

ExpressionPtr ExpressionParser::conjunction() {
  ExpressionPtr left = negation();
  while (accept_name("and")) left = binary("and", std::move(left), negation());
  return left;
}

ExpressionPtr ExpressionParser::negation() {
  const Level level(*this);
  if (!accept_name("not")) return comparison();
  auto out = make(ExprKind::kUnary, "not");
  add(*out, negation());
  return out;
}

std::string ExpressionParser::comparison_operator() {
  for (const char* op : {"==", "!=", "<=", ">=", "<", ">"}) {
    if (accept_op(op)) return op;
  }
  if (accept_name("in")) return "in";
  if (at_name("not") && peek(1).is(TokenKind::kName, "in")) {
    next();
    next();
    return "not in";
  }
  return "";
}

ExpressionPtr ExpressionParser::comparison() {
  ExpressionPtr first = sum();
  std::string op = comparison_operator();
  if (op.empty()) return first;
  auto out = make(ExprKind::kComparison);
  add(*out, std::move(first));
  for (; !op.empty(); op = comparison_operator()) {
    out->comparisons.push_back(op);
    add(*out, sum());
  }
  return out;
}

ExpressionPtr ExpressionParser::sum() {
  ExpressionPtr left = concatenation();
  while (at_op("+") || at_op("-")) {
    std::string op = next().text;
    left = binary(std::move(op), std::move(left), concatenation());
  }
  return left;
}

ExpressionPtr ExpressionParser::concatenation() {
  ExpressionPtr left = product();
  while (accept_op("~")) left = binary("~", std::move(left), product());
  return left;
}

ExpressionPtr ExpressionParser::product() {
  ExpressionPtr left = power();
  while (at_op("*") || at_op("/") || at_op("//") || at_op("%")) {
    std::string op = next().text;
    left = binary(std::move(op), std::move(left), power());
  }
  return left;
}

// From the left, unlike Python's, and looser than a sign: both as in Jinja.
ExpressionPtr ExpressionParser::power() {
  ExpressionPtr left = unary(true);
  while (accept_op("**")) left = binary("**", std::move(left), unary(true));
  return left;
}

ExpressionPtr ExpressionParser::unary(bool with_filters) {
  const Level level(*this);
  ExpressionPtr out;
  if (at_op("-") || at_op("+")) {
    out = make(ExprKind::kUnary, next().text);
    add(*out, unary(false));
  } else {
    out = postfix(primary());
  }
  return with_filters ? filters(std::move(out)) : std::move(out);
}

ExpressionPtr ExpressionParser::primary() {
  const Token& token = peek();
  switch (token.kind) {
    case TokenKind::kName: return name();
    case TokenKind::kString: {
      std::string text;
      while (peek().kind == TokenKind::kString) text += next().text;  // neighbours are one string
      return constant(Value(std::move(text)));
    }
    case TokenKind::kInteger: return integer();
    case TokenKind::kFloat: return constant(Value(std::strtod(next().text.c_str(), nullptr)));
    default: break;
  }
  if (accept_op("(")) return parenthesis();
  if (accept_op("[")) {
    auto out = make(ExprKind::kList);
    items(*out, "]");
    return out;
  }
  if (accept_op("{")) return map();
  refuse("expected a value, found {}", found());
}

ExpressionPtr ExpressionParser::integer() {
  std::string_view text = peek().text;
  int base = 10;
  if (text.size() > 2 && text[0] == '0' && text[1] > '9') {
    base = (text[1] | 0x20) == 'x' ? 16 : (text[1] | 0x20) == 'o' ? 8 : 2;
    text.remove_prefix(2);
  }
  int64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (result.ec != std::errc()) refuse("the integer {} does not fit into 64 bits", peek().text);
  next();
  return constant(Value(value));
}

ExpressionPtr ExpressionParser::name() {
  for (const char* word : {"and", "or", "not", "in", "is", "if", "else"}) {
    if (at_name(word)) refuse("expected a value, found \"{}\"", word);
  }
  if (accept_name("true") || accept_name("True")) return constant(Value(true));
  if (accept_name("false") || accept_name("False")) return constant(Value(false));
  if (accept_name("none") || accept_name("None")) return constant(Value(None{}));
  if (at_name("lipsum")) refuse("\"lipsum\" is not supported");
  auto out = make(ExprKind::kName, next().text);
  names_.insert(out->name);
  return out;
}

ExpressionPtr ExpressionParser::parenthesis() {
  auto tuple = make(ExprKind::kTuple);
  if (accept_op(")")) return tuple;
  ExpressionPtr first = expression();
  if (accept_op(")")) return first;
  add(*tuple, std::move(first));
  expect_op(",");
  items(*tuple, ")");
  return tuple;
}

void ExpressionParser::items(Expression& list, std::string_view close) {
  while (!accept_op(close)) {
    add(list, expression());
    if (!at_op(close)) expect_op(",");
  }
}

ExpressionPtr ExpressionParser::map() {
  auto out = make(ExprKind::kMap);
  while (!accept_op("}")) {
    add(*out, expression());
    expect_op(":");
    add(*out, expression());
    if (!at_op("}")) expect_op(",");
  }
  return out;
}

ExpressionPtr ExpressionParser::postfix(ExpressionPtr value) {
  while (true) {
    if (at_op(".") && peek(1).kind == TokenKind::kInteger) {  // a.0 is a[0]
      next();
      auto out = make(ExprKind::kSubscript);
      add(*out, std::move(value));
      add(*out, integer());
      value = std::move(out);
    } else if (accept_op(".")) {
      auto out = make(ExprKind::kAttribute, attribute_name());
      add(*out, std::move(value));
      if (at_op("(")) {
        if (is_refused_method(out->name)) refuse("the method \"{}\" is not supported", out->name);
        next();
        out->kind = ExprKind::kMethod;
        arguments(*out);
      }
      value = std::move(out);
    } else if (accept_op("[")) {
      value = subscript(std::move(value));
    } else if (at_op("(")) {
      value = call(std::move(value));
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::call(ExpressionPtr callee) {
  auto out = make(ExprKind::kCall);
  add(*out, std::move(callee));
  expect_op("(");
  arguments(*out);
  return out;
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr value) {
  auto out = make(ExprKind::kSubscript);
  add(*out, std::move(value));
  if (!at_op(":")) add(*out, expression());
  if (accept_op("]")) return out;
  if (!at_op(":")) refuse("expected \"]\", found {}", found());
  out->kind = ExprKind::kSlice;
  if (out->operands.size() == 1) add(*out, constant(Value(None{})));
  while (out->operands.size() < 4) {
    const bool present = accept_op(":") && !at_op(":") && !at_op("]");
    add(*out, present ? expression() : constant(Value(None{})));
  }
  expect_op("]");
  return out;
}

void ExpressionParser::arguments(Expression& call) {
  const Level level(*this);
  while (!accept_op(")")) {
    if (accept_op("*")) {
      if (call.more_positional || call.more_named) refuse("\"*\" before an argument does not fit here");
      call.more_positional = expression();
      call.depth = std::max(call.depth, call.more_positional->depth + 1);
    } else if (accept_op("**")) {
      if (call.more_named) refuse("\"**\" before an argument does not fit here");
      call.more_named = expression();
      call.depth = std::max(call.depth, call.more_named->depth + 1);
    } else if (peek().kind == TokenKind::kName && peek(1).is(TokenKind::kOperator, "=")) {
      if (call.more_named) refuse("an argument follows \"**\"");
      std::string name = next().text;
      next();
      ExpressionPtr value = expression();
      call.depth = std::max(call.depth, value->depth + 1);
      call.named.emplace_back(std::move(name), std::move(value));
    } else {
      if (!call.named.empty()) refuse("a positional argument follows a named one");
      if (call.more_positional || call.more_named) refuse("a positional argument follows \"*\"");
      add(call, expression());
    }
    if (!at_op(")")) expect_op(",");
  }
  if (call.depth > kMaxDepth) refuse("an expression is nested more than {} deep", kMaxDepth);
}

ExpressionPtr ExpressionParser::filter(ExpressionPtr value) {
  auto out = make(ExprKind::kFilter, any_name("the name of a filter"));
  add(*out, std::move(value));
  if (accept_op("(")) arguments(*out);
  const bool written_at_once = out->name == "safe" && out->operands.size() == 1 && peek().kind == TokenKind::kOutputEnd;
  if (written_at_once) ++safe_filters_;
  if (!is_filter(out->name) && !written_at_once) refuse("the filter \"{}\" is not supported", out->name);
  return out;
}

ExpressionPtr ExpressionParser::filters(ExpressionPtr value) {
  while (true) {
    if (accept_op("|")) {
      value = filter(std::move(value));
    } else if (accept_name("is")) {
      value = test(std::move(value));
    } else if (at_op("(")) {
      value = call(std::move(value));
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::test(ExpressionPtr value) {
  const bool negated = accept_name("not");
  std::string name = any_name("the name of a test");
  const int operands = test_operands(name);
  if (operands < 0) refuse("the test \"{}\" is not supported", name);
  auto out = make(ExprKind::kTest, std::move(name));
  out->negated = negated;
  add(*out, std::move(value));
  if (accept_op("(")) {
    arguments(*out);
  } else if (operands > 0) {
    add(*out, postfix(primary()));
  }
  if (out->more_positional || out->more_named) refuse("\"*\" before an argument of a test is not supported");
  if (static_cast<int>(out->operands.size()) != operands + 1 || !out->named.empty()) {
    refuse("the test \"{}\" takes {} values, found {}", out->name, operands,
           out->operands.size() - 1 + out->named.size());
  }
  if (at_name("is")) refuse("a test of a test's result needs brackets");
  return out;
}

}  // namespace cepe::jinja
