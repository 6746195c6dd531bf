// A place in a token stream, with what both parsers need of it.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "text/jinja/lexer.h"

namespace cepe::jinja {

constexpr int kMaxDepth = 200;  // of statements, of brackets and of an expression's tree

class TokenCursor {
 public:
  explicit TokenCursor(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  // Counts a level of recursion for as long as it lives.
  struct Level {
    explicit Level(TokenCursor& cursor) : cursor(cursor) {
      if (++cursor.depth_ > kMaxDepth) cursor.refuse("nested more than {} deep", kMaxDepth);
    }
    ~Level() { --cursor.depth_; }
    TokenCursor& cursor;
  };

  template <typename... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail("chat template, line {}: {}", peek().line, fmt::format(format, std::forward<Args>(args)...));
  }

  const Token& peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  const Token& next() {
    const Token& token = peek();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool at_name(std::string_view name) const { return peek().is(TokenKind::kName, name); }
  bool at_op(std::string_view op) const { return peek().is(TokenKind::kOperator, op); }
  bool accept_name(std::string_view name) { return at_name(name) && (next(), true); }
  bool accept_op(std::string_view op) { return at_op(op) && (next(), true); }
  void expect_op(std::string_view op) {
    if (!accept_op(op)) refuse("expected \"{}\", found {}", op, found());
  }
  void expect_name(std::string_view name) {
    if (!accept_name(name)) refuse("expected \"{}\", found {}", name, found());
  }
  std::string any_name(std::string_view what) {
    if (peek().kind != TokenKind::kName) refuse("expected {}, found {}", what, found());
    return next().text;
  }
  std::string found() const {
    switch (peek().kind) {
      case TokenKind::kEnd:
      case TokenKind::kText: return "the end of the tag";
      case TokenKind::kBlockEnd: return "\"%}\"";
      case TokenKind::kOutputEnd: return "\"}}\"";
      case TokenKind::kString: return "a string";
      default: return fmt::format("\"{}\"", peek().text);
    }
  }

 private:
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace cepe::jinja
