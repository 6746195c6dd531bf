#include "text/jinja_evaluator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "text/jinja_builtins.h"

namespace cepe::jinja {
namespace {

using ExprKind = Expression::Kind;

// Steps and copied elements: seconds at most, and a thousand times what a long conversation takes.
constexpr size_t kMaxWork = 20'000'000;

int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a % b < 0) != (b < 0) ? 1 : 0); }

Value integer_arithmetic(const std::string& op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else {
    require(b != 0, "division by zero");
    if (op == "/") return static_cast<double>(a) / static_cast<double>(b);
    if (b == -1) {  // the one quotient that can overflow
      overflow = __builtin_sub_overflow(int64_t{0}, a, &result);
      if (op == "%") return int64_t{0};
    } else {
      result = op == "//" ? floor_divide(a, b) : a - floor_divide(a, b) * b;
    }
  }
  require(!overflow, "the result of \"{}\" does not fit into 64 bits", op);
  return result;
}

Value float_arithmetic(const std::string& op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  require(b != 0, "division by zero");
  if (op == "/") return a / b;
  if (op == "//") return std::floor(a / b);
  const double rest = std::fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

std::string concatenate(const std::string& a, const std::string& b) {
  require_text_size(a.size() + b.size());
  return a + b;
}

Value arithmetic(const std::string& op, const Value& a, const Value& b) {
  for (const Value* side : {&a, &b}) {
    if (side->is(Kind::kUndefined)) fail("{}", side->undefined().what);
  }
  if (a.is_integral() && b.is_integral()) return integer_arithmetic(op, a.integer(), b.integer());
  if (a.is_number() && b.is_number()) return float_arithmetic(op, a.number(), b.number());
  if (op == "+" && a.is(Kind::kString) && b.is(Kind::kString)) return concatenate(a.string(), b.string());
  if (op == "+" && a.is(Kind::kList) && b.is(Kind::kList)) {
    require_element_count(a.list().size() + b.list().size());
    List out = a.list();
    out.insert(out.end(), b.list().begin(), b.list().end());
    return out;
  }
  fail("\"{}\" of {} and {} is not supported", op, kind_name(a.kind()), kind_name(b.kind()));
}

bool compare(const std::string& op, const Value& a, const Value& b) {
  if (op == "==") return equal(a, b);
  if (op == "!=") return !equal(a, b);
  if (op == "in") return contains(b, a);
  if (op == "not in") return !contains(b, a);
  for (const Value* side : {&a, &b}) {
    if (side->is(Kind::kUndefined)) fail("{}", side->undefined().what);
  }
  if (op == "<") return less(a, b);
  if (op == ">") return less(b, a);
  return op == "<=" ? !less(b, a) : !less(a, b);
}

class Evaluator {
 public:
  explicit Evaluator(const std::map<std::string, Value>& variables) { scopes_.push_back(variables); }

  std::string run(const Template& parsed) {
    try {
      execute(parsed);
    } catch (const Error& error) {
      fail("chat template, line {}: {}", line_, error.what());
    }
    return std::move(out_);
  }

 private:
  void work(size_t amount) {
    work_ += amount;
    require(work_ <= kMaxWork, "the template does too much work");
  }

  // Statements

  void execute(const std::vector<Statement>& statements) {
    for (const Statement& statement : statements) {
      line_ = statement.line;
      work(1);
      switch (statement.kind) {
        case Statement::Kind::kText: write(statement.text); break;
        case Statement::Kind::kOutput: write(to_text(evaluate(*statement.value))); break;
        case Statement::Kind::kIf: execute_if(statement); break;
        case Statement::Kind::kFor: execute_for(statement); break;
        case Statement::Kind::kSet: execute_set(statement); break;
      }
    }
  }

  void write(const std::string& text) {
    work(1 + text.size() / 16);
    require_text_size(out_.size() + text.size());
    out_ += text;
  }

  void execute_if(const Statement& statement) {
    for (const Statement::Branch& branch : statement.branches) {
      if (!branch.condition || evaluate(*branch.condition).truthy()) {
        execute(branch.body);
        return;
      }
    }
  }

  void assign_targets(const Statement& statement, const Value& item) {
    auto& scope = scopes_.back();
    if (statement.names.size() == 1) {
      scope[statement.names[0]] = item;
      return;
    }
    const List parts = elements(item);
    require(parts.size() == statement.names.size(), "a loop over {} names meets {} values", statement.names.size(),
            parts.size());
    for (size_t i = 0; i < parts.size(); ++i) scope[statement.names[i]] = parts[i];
  }

  void execute_for(const Statement& statement) {
    List items = elements(evaluate(*statement.value));
    work(items.size());
    if (statement.filter) {
      List kept;
      scopes_.emplace_back();
      for (Value& item : items) {
        assign_targets(statement, item);
        if (evaluate(*statement.filter).truthy()) kept.push_back(std::move(item));
      }
      scopes_.pop_back();
      items = std::move(kept);
    }
    scopes_.emplace_back();  // what the loop sets is gone after it, and after each round
    for (size_t i = 0; i < items.size(); ++i) {
      work(16);  // the entries of "loop"
      scopes_.back().clear();
      assign_targets(statement, items[i]);
      scopes_.back()["loop"] = loop_state(items, i);
      execute(statement.body);
    }
    scopes_.back().clear();
    if (items.empty()) execute(statement.otherwise);
    scopes_.pop_back();
  }

  static Value loop_state(const List& items, size_t i) {
    const auto size = static_cast<int64_t>(items.size()), at = static_cast<int64_t>(i);
    const Value out = Value::new_namespace();
    Namespace& loop = out.name_space();
    loop["index"] = at + 1;
    loop["index0"] = at;
    loop["revindex"] = size - at;
    loop["revindex0"] = size - at - 1;
    loop["first"] = at == 0;
    loop["last"] = at + 1 == size;
    loop["length"] = size;
    loop["previtem"] = i > 0 ? items[i - 1] : Value(Undefined{"there is no previous item"});
    loop["nextitem"] = i + 1 < items.size() ? items[i + 1] : Value(Undefined{"there is no next item"});
    return out;
  }

  void execute_set(const Statement& statement) {
    Value value = evaluate(*statement.value);
    line_ = statement.line;
    if (statement.names.size() == 1) {
      scopes_.back()[statement.names[0]] = std::move(value);
      return;
    }
    const Value target = look_up(statement.names[0]);
    require(target.is(Kind::kNamespace), "an attribute of {} cannot be set, only one of a namespace",
            kind_name(target.kind()));
    require(!value.is(Kind::kNamespace), "a namespace inside a namespace is not supported");
    target.name_space()[statement.names[1]] = std::move(value);
  }

  // Expressions

  Value look_up(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const auto found = scope->find(name); found != scope->end()) return found->second;
    }
    if (is_function(name)) return Function{name};
    return Undefined{fmt::format("\"{}\" is undefined", name)};
  }

  Value evaluate(const Expression& e) {
    line_ = e.line;
    Value out = compute(e);
    work(1 + (e.kind == ExprKind::kName || e.kind == ExprKind::kConstant ? 0 : out.size()));
    return out;
  }

  Value compute(const Expression& e) {
    switch (e.kind) {
      case ExprKind::kConstant: return e.constant;
      case ExprKind::kName: return look_up(e.name);
      case ExprKind::kList: return operands(e, 0);
      case ExprKind::kMap: return map(e);
      case ExprKind::kAttribute: return attribute(evaluate(*e.operands[0]), e.name);
      case ExprKind::kSubscript: return subscript_of(e);
      case ExprKind::kSlice: {
        const List parts = operands(e, 0);
        work(parts[0].size());
        return slice(parts[0], {parts[1], parts[2], parts[3]});
      }
      case ExprKind::kUnary: return unary(e);
      case ExprKind::kBinary: return binary(e);
      case ExprKind::kComparison: return comparison(e);
      case ExprKind::kConditional:
        if (evaluate(*e.operands[0]).truthy()) return evaluate(*e.operands[1]);
        if (e.operands.size() > 2) return evaluate(*e.operands[2]);
        return Undefined{"an \"if\" without \"else\" gave no value"};
      case ExprKind::kTest: return test(e);
      case ExprKind::kFilter:
      case ExprKind::kCall:
      case ExprKind::kMethod: return call(e);
    }
    fail("an expression of an unknown kind");
  }

  List operands(const Expression& e, size_t from) {
    List out;
    for (size_t i = from; i < e.operands.size(); ++i) out.push_back(evaluate(*e.operands[i]));
    return out;
  }

  Value map(const Expression& e) {
    Map out;
    for (size_t i = 0; i < e.operands.size(); i += 2) {
      const Value key = evaluate(*e.operands[i]);
      require(key.is(Kind::kString), "{} as the key of a mapping is not supported", kind_name(key.kind()));
      Value value = evaluate(*e.operands[i + 1]);
      const auto same =
          std::find_if(out.begin(), out.end(), [&](const auto& entry) { return entry.first == key.string(); });
      if (same != out.end()) {
        same->second = std::move(value);
      } else {
        out.emplace_back(key.string(), std::move(value));
      }
    }
    return out;
  }

  Value attribute(const Value& object, const std::string& name) const {
    if (object.is(Kind::kUndefined)) fail("{}", object.undefined().what);
    require(!names_method(object, name), "the method \"{}\" without a call is not supported", name);
    if (object.is(Kind::kMap) || object.is(Kind::kNamespace)) {
      if (const Value* found = object.find(name)) return *found;
    }
    return Undefined{fmt::format("{} has no attribute \"{}\"", kind_name(object.kind()), name)};
  }

  Value subscript_of(const Expression& e) {
    const List parts = operands(e, 0);
    if (parts[1].is(Kind::kString)) {
      // Python looks for an element first, then for an attribute.
      const bool element = parts[0].is(Kind::kMap) && parts[0].find(parts[1].string());
      if (!element) return attribute(parts[0], parts[1].string());
    }
    work(parts[0].is(Kind::kString) ? parts[0].size() : 0);
    return subscript(parts[0], parts[1]);
  }

  Value unary(const Expression& e) {
    const Value value = evaluate(*e.operands[0]);
    if (e.name == "not") return !value.truthy();
    if (value.is(Kind::kUndefined)) fail("{}", value.undefined().what);
    require(value.is_number(), "the sign \"{}\" of {} is not supported", e.name, kind_name(value.kind()));
    if (e.name == "+") return value.is(Kind::kBool) ? Value(value.integer()) : value;
    if (value.is(Kind::kFloat)) return -value.number();
    return integer_arithmetic("-", 0, value.integer());
  }

  Value binary(const Expression& e) {
    Value left = evaluate(*e.operands[0]);
    if (e.name == "and") return left.truthy() ? evaluate(*e.operands[1]) : left;
    if (e.name == "or") return left.truthy() ? left : evaluate(*e.operands[1]);
    const Value right = evaluate(*e.operands[1]);
    line_ = e.line;
    work(left.size() + right.size());
    if (e.name == "~") return concatenate(to_text(left), to_text(right));
    return arithmetic(e.name, left, right);
  }

  Value comparison(const Expression& e) {
    Value left = evaluate(*e.operands[0]);
    for (size_t i = 0; i < e.comparisons.size(); ++i) {
      Value right = evaluate(*e.operands[i + 1]);
      line_ = e.line;
      work(left.size() + right.size());
      if (!compare(e.comparisons[i], left, right)) return false;
      left = std::move(right);
    }
    return true;
  }

  Value test(const Expression& e) {
    const List values = operands(e, 0);
    return apply_test(e.name, values[0], List(values.begin() + 1, values.end())) != e.negated;
  }

  Value call(const Expression& e) {
    const bool has_subject = e.kind != ExprKind::kCall;
    const Value subject = has_subject ? evaluate(*e.operands[0]) : Value();
    Arguments arguments;
    arguments.positional = operands(e, has_subject ? 1 : 0);
    for (const auto& [name, value] : e.named) arguments.named.emplace_back(name, evaluate(*value));
    line_ = e.line;
    work(subject.size() * 4);
    if (e.kind == ExprKind::kFilter) return apply_filter(e.name, subject, arguments);
    if (e.kind == ExprKind::kMethod) return call_method(e.name, subject, arguments);
    require(look_up(e.name).is(Kind::kFunction), "\"{}\" is not a function here", e.name);
    return call_function(e.name, arguments);
  }

  std::vector<std::map<std::string, Value>> scopes_;
  std::string out_;
  int line_ = 1;  // of what is being evaluated, for messages
  size_t work_ = 0;
};

}  // namespace

std::string render(const Template& parsed, const std::map<std::string, Value>& variables) {
  return Evaluator(variables).run(parsed);
}

}  // namespace cepe::jinja
