#include "text/jinja_parser.h"

#include <initializer_list>

#include "text/jinja_expression_parser.h"

namespace cepe::jinja {
namespace {

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Template run() {
    Template out = statements({});
    if (peek().kind != TokenKind::kEnd) refuse("\"{}\" closes nothing", statement_name());
    return out;
  }

 private:
  std::string statement_name() const { return peek(1).kind == TokenKind::kName ? peek(1).text : ""; }

  void end_block() {
    if (peek().kind != TokenKind::kBlockEnd) refuse("expected \"%}}\", found {}", found());
    next();
  }

  // Up to a block whose name is among `ends`, which is left for the caller, or the end of the template.
  std::vector<Statement> statements(std::initializer_list<std::string_view> ends) {
    const Level level(*this);
    std::vector<Statement> out;
    while (peek().kind != TokenKind::kEnd) {
      Statement statement;
      statement.line = peek().line;
      if (peek().kind == TokenKind::kText) {
        statement.kind = Statement::Kind::kText;
        statement.text = next().text;
      } else if (peek().kind == TokenKind::kOutputBegin) {
        next();
        statement.kind = Statement::Kind::kOutput;
        statement.value = expression();
        if (peek().kind != TokenKind::kOutputEnd) refuse("expected \"}}}}\", found {}", found());
        next();
      } else {
        for (const std::string_view end : ends) {
          if (statement_name() == end) return out;
        }
        if (!block(statement)) return out;
      }
      out.push_back(std::move(statement));
    }
    return out;
  }

  // A block statement; false for the end of one that is not open, which the caller reports.
  bool block(Statement& statement) {
    const std::string name = statement_name();
    if (name.rfind("end", 0) == 0 || name == "else" || name == "elif") return false;
    next();
    if (accept_name("if")) {
      parse_if(statement);
    } else if (accept_name("for")) {
      parse_for(statement);
    } else if (accept_name("set")) {
      parse_set(statement);
    } else if (peek().kind == TokenKind::kName) {
      refuse("the statement \"{}\" is not supported", name);
    } else {
      refuse("expected a statement, found {}", found());
    }
    return true;
  }

  // The start of a block that statements() stopped at: consumes "{%" and the name.
  void enter_block(std::string_view opened, int line) {
    if (peek().kind == TokenKind::kEnd) fail("chat template, line {}: this \"{}\" has no end", line, opened);
    next();
  }

  void parse_if(Statement& statement) {
    statement.kind = Statement::Kind::kIf;
    bool otherwise = false;
    do {
      Statement::Branch branch;
      if (!otherwise) branch.condition = expression();
      end_block();
      branch.body = otherwise ? statements({"endif"}) : statements({"elif", "else", "endif"});
      statement.branches.push_back(std::move(branch));
      enter_block("if", statement.line);
      if (otherwise) break;
      otherwise = at_name("else");
    } while (accept_name("elif") || accept_name("else"));
    expect_name("endif");
    end_block();
  }

  void parse_for(Statement& statement) {
    statement.kind = Statement::Kind::kFor;
    const bool bracket = accept_op("(");
    do {
      statement.names.push_back(target_name());
    } while (accept_op(","));
    if (bracket) expect_op(")");
    expect_name("in");
    statement.value = disjunction();  // not a conditional: "if" filters the elements
    if (accept_name("if")) statement.filter = expression();
    if (at_name("recursive")) refuse("a recursive \"for\" is not supported");
    end_block();
    statement.body = statements({"else", "endfor"});
    enter_block("for", statement.line);
    if (accept_name("else")) {
      end_block();
      statement.otherwise = statements({"endfor"});
      enter_block("for", statement.line);
    }
    expect_name("endfor");
    end_block();
  }

  void parse_set(Statement& statement) {
    statement.kind = Statement::Kind::kSet;
    statement.names.push_back(target_name());
    if (accept_op(".")) statement.names.push_back(attribute_name());
    if (at_op(",")) refuse("\"set\" of several names is not supported");
    if (!at_op("=")) refuse("\"set\" without \"=\" is not supported");
    next();
    statement.value = expression();
    end_block();
  }

  std::string target_name() {
    static const std::initializer_list<std::string_view> kReserved = {
        "true", "false", "none", "True", "False", "None", "and", "or", "not", "in", "is", "if", "else"};
    for (const std::string_view word : kReserved) {
      if (at_name(word)) refuse("\"{}\" cannot be assigned to", word);
    }
    return any_name("a name");
  }
};

}  // namespace

Template parse(std::string_view source) { return Parser(tokenize(source)).run(); }

}  // namespace cepe::jinja
