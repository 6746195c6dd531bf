#include "text/jinja/parser.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "text/jinja/expression_parser.h"

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
  // The value of "{{ ... }}". In a text that is written at once, "safe" changes nothing: escaping is off. Elsewhere it
  // changes what is joined to the text, and is refused.
  ExpressionPtr output() {
    ExpressionPtr value = tuple(true);
    if (value->kind == Expression::Kind::kFilter && value->name == "safe") {
      value = std::move(ExpressionPtr(std::move(value))->operands[0]);
      --safe_filters_;
    }
    if (safe_filters_ > 0) refuse("the filter \"safe\" is not supported here");
    return value;
  }

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
        statement.value = output();
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
    if (peek().kind != TokenKind::kName) refuse("expected a statement, found {}", found());
    if (accept_name("if")) {
      parse_if(statement);
    } else if (accept_name("for")) {
      parse_for(statement);
    } else if (accept_name("set")) {
      parse_set(statement);
    } else if (accept_name("macro")) {
      parse_macro(statement);
    } else if (accept_name("call")) {
      parse_call_block(statement);
    } else if (accept_name("filter")) {
      statement.kind = Statement::Kind::kFilterBlock;
      statement.value = filters_of_block(true);
      body_until("endfilter", "filter", statement);
    } else if (accept_name("with")) {
      parse_with(statement);
    } else if (accept_name("generation")) {
      statement.kind = Statement::Kind::kGeneration;
      function_body("endgeneration", "generation", statement);
    } else if (at_name("break") || at_name("continue")) {
      statement.kind = at_name("break") ? Statement::Kind::kBreak : Statement::Kind::kContinue;
      if (loops_ == 0) refuse("\"{}\" outside a loop", name);
      next();
      end_block();
    } else if (accept_name("print")) {
      statement.kind = Statement::Kind::kOutput;
      statement.value = expression();
      end_block();
    } else {
      refuse("the statement \"{}\" is not supported", name);
    }
    return true;
  }

  // The start of a block that statements() stopped at: consumes "{%" and the name.
  void enter_block(std::string_view opened, int line) {
    if (peek().kind == TokenKind::kEnd) fail("chat template, line {}: this \"{}\" has no end", line, opened);
    next();
  }

  // The rest of a statement that ends with the block `end`.
  void body_until(std::string_view end, std::string_view opened, Statement& statement) {
    end_block();
    statement.body = statements({end});
    enter_block(opened, statement.line);
    expect_name(end);
    end_block();
  }

  // The same where the body is a function of Python: it cannot end a loop around it.
  void function_body(std::string_view end, std::string_view opened, Statement& statement) {
    const int around = std::exchange(loops_, 0);
    body_until(end, opened, statement);
    loops_ = around;
  }

  void parse_if(Statement& statement) {
    statement.kind = Statement::Kind::kIf;
    bool otherwise = false;
    do {
      Statement::Branch branch;
      if (!otherwise) branch.condition = tuple(false);
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
    statement.target = targets();
    expect_name("in");
    statement.value = tuple(false);  // not a conditional: "if" filters the elements
    if (accept_name("if")) statement.filter = expression();
    statement.recursive = accept_name("recursive");
    end_block();
    ++loops_;
    statement.body = statements({"else", "endfor"});
    --loops_;
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
    statement.target = targets(true);
    if (accept_op("=")) {
      statement.kind = Statement::Kind::kSet;
      statement.value = tuple(true);
      end_block();
    } else {
      statement.kind = Statement::Kind::kSetBlock;
      if (at_op("|")) statement.value = filters_of_block(false);
      body_until("endset", "set", statement);
    }
  }

  // The filters of a block, on its text. The first stands without "|" where the block is "filter" itself.
  ExpressionPtr filters_of_block(bool first_is_bare) {
    ExpressionPtr text = make(Expression::Kind::kName, Statement::kBlockText);
    if (first_is_bare) text = filter(std::move(text));
    return filters(std::move(text));
  }

  void parse_with(Statement& statement) {
    statement.kind = Statement::Kind::kWith;
    while (peek().kind != TokenKind::kBlockEnd) {
      if (!statement.assignments.empty()) expect_op(",");
      Target target = single_target(false);
      expect_op("=");
      statement.assignments.emplace_back(std::move(target), expression());
    }
    body_until("endwith", "with", statement);
  }

  void parse_macro(Statement& statement) {
    statement.kind = Statement::Kind::kMacro;
    statement.macro.name = target_name();
    signature(statement.macro);
    macro_body("endmacro", "macro", statement);
  }

  void parse_call_block(Statement& statement) {
    statement.kind = Statement::Kind::kCallBlock;
    statement.macro.name = "caller";
    if (at_op("(")) signature(statement.macro);
    statement.value = expression();
    if (statement.value->kind != Expression::Kind::kCall && statement.value->kind != Expression::Kind::kMethod) {
      refuse("\"call\" needs a call");
    }
    macro_body("endcall", "call", statement);
  }

  void macro_body(std::string_view end, std::string_view opened, Statement& statement) {
    MacroHead& macro = statement.macro;
    const std::set<std::string, std::less<>> outer = std::exchange(names_, {});
    function_body(end, opened, statement);
    const auto is_parameter = [&](std::string_view name) {
      return std::any_of(macro.parameters.begin(), macro.parameters.end(),
                         [&](const auto& p) { return p.first == name; });
    };
    macro.takes_caller = names_.contains("caller") && !is_parameter("caller");
    macro.takes_more = names_.contains("varargs") && !is_parameter("varargs");
    macro.takes_more_named = names_.contains("kwargs") && !is_parameter("kwargs");
    names_.insert(outer.begin(), outer.end());
  }

  void signature(MacroHead& macro) {
    expect_op("(");
    while (!accept_op(")")) {
      if (!macro.parameters.empty()) expect_op(",");
      std::string name = target_name();
      const bool has_default = accept_op("=");
      if (!has_default && !macro.parameters.empty() && macro.parameters.back().second) {
        refuse("the parameter \"{}\" without a default follows one with a default", name);
      }
      macro.parameters.emplace_back(std::move(name), has_default ? expression() : nullptr);
    }
  }

  // name, name.attribute (of a namespace), or several of them, bracketed or not.
  Target targets(bool attributes = false) {
    Target first = single_target(attributes);
    if (!at_op(",")) return first;
    Target out;
    out.parts.push_back(std::move(first));
    while (accept_op(",")) {
      const bool another = (peek().kind == TokenKind::kName && !at_name("in")) || at_op("(");
      if (!another) break;  // a comma may end the list
      out.parts.push_back(single_target(attributes));
    }
    return out;
  }

  Target single_target(bool attributes) {
    const Level level(*this);
    if (accept_op("(")) {
      Target out = targets(attributes);
      expect_op(")");
      return out;
    }
    Target out;
    out.name = target_name();
    if (attributes && accept_op(".")) out.attribute = attribute_name();
    return out;
  }

  std::string target_name() {
    static const std::initializer_list<std::string_view> kReserved = {
        "true", "false", "none", "True", "False", "None", "and", "or", "not", "in", "is", "if", "else"};
    for (const std::string_view word : kReserved) {
      if (at_name(word)) refuse("\"{}\" cannot be assigned to", word);
    }
    return any_name("a name");
  }

  int loops_ = 0;  // around this place, within the same macro
};

}  // namespace

Template parse(std::string_view source) { return Parser(tokenize(source)).run(); }

}  // namespace cepe::jinja
