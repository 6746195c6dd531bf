#include "text/jinja/evaluator.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "text/jinja/arithmetic.h"
#include "text/jinja/builtins.h"
#include "text/jinja/loop.h"

namespace cepe::jinja {
namespace {

using ExprKind = Expression::Kind;

// Steps and copied elements: seconds at most, and a thousand times what a long conversation takes.
constexpr size_t kMaxWork = 20'000'000;
// Statements and expressions within one another, macros' bodies included: 8 MB of stack hold them, under the address
// sanitizer too.
constexpr int kMaxLevels = 400;
constexpr const char* kCall = "()";  // the entry of an object that is called itself

// Variables, seen from the inside out. A macro keeps the scope that it was defined in.
struct Scope {
  std::map<std::string, Value> names;
  std::shared_ptr<Scope> parent;
};

class Evaluator {
 public:
  explicit Evaluator(const std::map<std::string, Value>& variables)
      : scope_(std::make_shared<Scope>(Scope{variables, nullptr})) {}
  // A scope that holds a macro that keeps the scope would never be freed.
  ~Evaluator() {
    for (const auto& scope : kept_) scope->names.clear();
  }
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  std::string run(const Template& parsed) {
    try {
      execute(parsed);
    } catch (const Error& error) {
      fail("chat template, line {}: {}", line_, error.what());
    }
    return std::move(out_);
  }

 private:
  enum class Flow { next, end_loop, next_round };

  // Counts a level for as long as it lives.
  struct Level {
    explicit Level(Evaluator& evaluator) : evaluator(evaluator) {
      require(++evaluator.levels_ <= kMaxLevels, "macros and loops are nested too deep");
    }
    ~Level() { --evaluator.levels_; }
    Evaluator& evaluator;
  };

  void work(size_t amount) {
    work_ += amount;
    require(work_ <= kMaxWork, "the template does too much work");
  }

  // The work of comparing a value with others: all that is in it. A list may hold one text a million times, and itself
  // in a thousand others, so the walk ends where the work is too much.
  void work_through(const Value& value) {
    work(1 + value.size());
    if (value.is(Kind::kList)) {
      for (const Value& item : value.list()) work_through(item);
    } else if (value.is(Kind::kMap)) {
      for (const auto& [key, item] : value.map()) work_through(item);
    }
  }

  // Statements

  Flow execute(const std::vector<Statement>& statements) {
    const Level level(*this);
    for (const Statement& statement : statements) {
      line_ = statement.line;
      work(1);
      const Flow flow = execute(statement);
      if (flow != Flow::next) return flow;
    }
    return Flow::next;
  }

  Flow execute(const Statement& statement) {
    switch (statement.kind) {
      case Statement::Kind::kText: write(statement.text); break;
      case Statement::Kind::kOutput: write(to_text(evaluate(*statement.value))); break;
      case Statement::Kind::kIf: return execute_if(statement);
      case Statement::Kind::kFor: return execute_for(statement);
      case Statement::Kind::kSet: assign(statement.target, evaluate(*statement.value), statement.line); break;
      case Statement::Kind::kSetBlock:
      case Statement::Kind::kFilterBlock: return execute_block(statement);
      case Statement::Kind::kWith: return execute_with(statement);
      case Statement::Kind::kGeneration: return in_scope(scope_, [&] { return execute(statement.body); });
      case Statement::Kind::kMacro: scope_->names[statement.macro.name] = make_macro(statement); break;
      case Statement::Kind::kCallBlock: {
        const Value caller = make_macro(statement);
        write(to_text(call(*statement.value, &caller)));
        break;
      }
      case Statement::Kind::kBreak: return Flow::end_loop;
      case Statement::Kind::kContinue: return Flow::next_round;
    }
    return Flow::next;
  }

  void write(const std::string& text) {
    work(1 + text.size() / 16);
    require_text_size(out_.size() + text.size());
    out_ += text;
  }

  // Runs something in a new scope inside `parent`.
  template <typename Action>
  std::invoke_result_t<Action> in_scope(const std::shared_ptr<Scope>& parent, const Action& action) {
    const auto outer = std::exchange(scope_, std::make_shared<Scope>(Scope{{}, parent}));
    auto result = action();
    scope_ = outer;
    return result;
  }

  // What something writes.
  template <typename Action>
  std::string written(const Action& action) {
    std::string outer = std::exchange(out_, {});
    action();
    return std::exchange(out_, std::move(outer));
  }

  Flow execute_if(const Statement& statement) {
    for (const Statement::Branch& branch : statement.branches) {
      if (!branch.condition || evaluate(*branch.condition).truthy()) return execute(branch.body);
    }
    return Flow::next;
  }

  void assign(const Target& target, const Value& value, int line) {
    line_ = line;
    if (!target.parts.empty()) {
      const List parts = elements(value);
      require(parts.size() == target.parts.size(), "an assignment to {} names meets {} values", target.parts.size(),
              parts.size());
      for (size_t i = 0; i < parts.size(); ++i) assign(target.parts[i], parts[i], line);
      return;
    }
    if (target.attribute.empty()) {
      scope_->names[target.name] = value;
      return;
    }
    const Value object = look_up(target.name);
    require(object.is(Kind::kNamespace) && object.name_space().settable,
            "an attribute of {} cannot be set, only one of a namespace", kind_name(object.kind()));
    require(!value.is(Kind::kNamespace), "a namespace inside a namespace is not supported");
    object.name_space().entries[target.attribute] = value;
  }

  Flow execute_with(const Statement& statement) {
    List values;
    for (const auto& [target, value] : statement.assignments) values.push_back(evaluate(*value));
    return in_scope(scope_, [&] {
      for (size_t i = 0; i < values.size(); ++i) assign(statement.assignments[i].first, values[i], statement.line);
      return execute(statement.body);
    });
  }

  // A block whose text becomes a variable, or goes through filters.
  Flow execute_block(const Statement& statement) {
    Value result;
    const Flow flow = in_scope(scope_, [&] {
      Flow inner = Flow::next;
      std::string text = written([&] { inner = execute(statement.body); });
      if (statement.value) scope_->names[Statement::kBlockText] = Value(std::move(text));
      if (inner == Flow::next) result = statement.value ? evaluate(*statement.value) : Value(std::move(text));
      return inner;
    });
    if (flow != Flow::next) return flow;
    if (statement.kind == Statement::Kind::kSetBlock) {
      assign(statement.target, result, statement.line);
    } else {
      write(to_text(result));
    }
    return Flow::next;
  }

  // Loops

  Flow execute_for(const Statement& statement) {
    rounds(statement, elements(evaluate(*statement.value)), 0);
    return Flow::next;
  }

  List filtered(const Statement& statement, List items) {
    List kept;
    for (Value& item : items) {
      const bool holds = in_scope(scope_, [&] {
        assign(statement.target, item, statement.line);
        return evaluate(*statement.filter).truthy();
      });
      if (holds) kept.push_back(std::move(item));
    }
    return kept;
  }

  void rounds(const Statement& statement, List items, int64_t depth) {
    work(items.size());
    if (statement.filter) items = filtered(statement, std::move(items));
    const auto at = std::make_shared<size_t>(0);
    const Value loop = new_loop(statement, at, depth);
    bool whole_round = false;  // Jinja's "else" is for loops of which no round came to its end
    for (; *at < items.size(); ++*at) {
      work(16);                                 // the entries of "loop"
      const Flow flow = in_scope(scope_, [&] {  // what a round sets is gone after it
        assign(statement.target, items[*at], statement.line);
        update_loop(loop.name_space(), items, *at);
        scope_->names["loop"] = loop;
        return execute(statement.body);
      });
      whole_round = whole_round || flow == Flow::next;
      if (flow == Flow::end_loop) break;
    }
    if (!whole_round && !statement.otherwise.empty()) {
      in_scope(scope_, [&] { return execute(statement.otherwise); });
    }
  }

  // The variable "loop", with what does not change from round to round.
  Value new_loop(const Statement& statement, const std::shared_ptr<size_t>& at, int64_t depth) {
    const std::shared_ptr<Namespace> object = new_loop_object(at, depth);
    if (!statement.recursive) return Value(object);
    kept_.push_back(scope_);
    object->entries[kCall] =
        Function{"loop", [this, &statement, depth, around = scope_](const Arguments& arguments) -> Value {
                   require(arguments.positional.size() == 1, "\"loop\" takes one value");
                   const Level level(*this);
                   return written([&] {
                     const auto outer = std::exchange(scope_, around);
                     rounds(statement, elements(arguments.positional[0]), depth + 1);
                     scope_ = outer;
                   });
                 }};
    return Value(object);
  }

  // Macros

  Value make_macro(const Statement& statement) {
    kept_.push_back(scope_);
    return Function{statement.macro.name, [this, &statement, around = scope_](const Arguments& arguments) -> Value {
                      return in_scope(around, [&] {
                        bind(statement.macro, arguments);
                        return written([&] { execute(statement.body); });
                      });
                    }};
  }

  // The parameters of a macro as variables of the current scope.
  void bind(const MacroHead& macro, const Arguments& arguments) {
    auto& names = scope_->names;
    auto rest = arguments.named;
    const auto take = [&](const std::string& name, std::string missing) -> Value {
      const auto found = std::find_if(rest.begin(), rest.end(), [&](const auto& entry) { return entry.first == name; });
      if (found == rest.end()) return Undefined{std::move(missing)};
      Value value = std::move(found->second);
      rest.erase(found);
      return value;
    };
    const List& given = arguments.positional;
    const size_t count = macro.parameters.size();
    std::vector<const Expression*> defaults(count);
    for (size_t i = 0; i < count; ++i) {
      const auto& [name, fallback] = macro.parameters[i];
      const bool named = std::any_of(rest.begin(), rest.end(), [&](const auto& entry) { return entry.first == name; });
      if (i >= given.size() && !named) defaults[i] = fallback.get();
      names[name] =
          i < given.size() ? given[i] : take(name, fmt::format("the parameter \"{}\" was not provided", name));
    }
    if (macro.takes_caller) names["caller"] = take("caller", "no caller is defined");
    if (macro.takes_more_named) names["kwargs"] = Map(rest);
    require(macro.takes_more_named || rest.empty(), "the macro \"{}\" takes no argument \"{}\"", macro.name,
            rest.empty() ? "" : rest[0].first);
    require(macro.takes_more || given.size() <= count, "the macro \"{}\" takes at most {} arguments, found {}",
            macro.name, count, given.size());
    if (macro.takes_more) {
      const auto first = static_cast<ptrdiff_t>(std::min(count, given.size()));
      names["varargs"] = Value(List(given.begin() + first, given.end()), Sequence::tuple);
    }
    for (size_t i = 0; i < count; ++i) {
      if (defaults[i]) names[macro.parameters[i].first] = evaluate(*defaults[i]);
    }
  }

  // Expressions

  Value look_up(const std::string& name) const {
    for (const Scope* scope = scope_.get(); scope; scope = scope->parent.get()) {
      if (const auto found = scope->names.find(name); found != scope->names.end()) return found->second;
    }
    if (is_function(name)) {
      return Function{name, [name](const Arguments& arguments) { return call_function(name, arguments); }};
    }
    return Undefined{fmt::format("\"{}\" is undefined", name)};
  }

  Value evaluate(const Expression& e) {
    const Level level(*this);
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
      case ExprKind::kTuple: return Value(operands(e, 0), Sequence::tuple);
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
    return negative(value);
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
      work_through(left);
      const bool looks_up_key = right.is(Kind::kMap) && e.comparisons[i].ends_with("in");
      if (!looks_up_key) work_through(right);
      if (!compare(e.comparisons[i], left, right)) return false;
      left = std::move(right);
    }
    return true;
  }

  Value test(const Expression& e) {
    const List values = operands(e, 0);
    return apply_test(e.name, values[0], List(values.begin() + 1, values.end())) != e.negated;
  }

  // A call, a method's call or a filter; with `caller` for the macro where a call block makes it.
  Value call(const Expression& e, const Value* caller = nullptr) {
    const Value subject = evaluate(*e.operands[0]);
    Arguments arguments{operands(e, 1), {}};
    if (e.more_positional) {
      const List more = elements(evaluate(*e.more_positional));
      arguments.positional.insert(arguments.positional.end(), more.begin(), more.end());
    }
    for (const auto& [name, value] : e.named) arguments.named.emplace_back(name, evaluate(*value));
    if (e.more_named) {
      const Value more = evaluate(*e.more_named);
      require(more.is(Kind::kMap), "\"**\" needs a mapping, found {}", kind_name(more.kind()));
      arguments.named.insert(arguments.named.end(), more.map().begin(), more.map().end());
    }
    if (caller) arguments.named.emplace_back("caller", *caller);
    line_ = e.line;
    work(subject.size() * 4);
    if (compares_elements(e, subject)) work_through(subject);
    if (e.kind == ExprKind::kFilter) return apply_filter(e.name, subject, arguments);
    if (e.kind == ExprKind::kCall) return call_value(subject, arguments);
    const bool has_entries = subject.is(Kind::kMap) || subject.is(Kind::kNamespace);
    const Value* entry = has_entries && !names_method(subject, e.name) ? subject.find(e.name) : nullptr;
    return entry ? call_value(*entry, arguments) : call_method(e.name, subject, arguments);
  }

  // Of a method: count and index of a list.
  static bool compares_elements(const Expression& e, const Value& subject) {
    if (e.kind == ExprKind::kMethod) return subject.is(Kind::kList);
    if (e.kind != ExprKind::kFilter) return false;
    for (const char* name :
         {"dictsort", "max", "min", "reject", "rejectattr", "select", "selectattr", "sort", "unique"}) {
      if (e.name == name) return true;
    }
    return false;
  }

  static Value call_value(const Value& callee, const Arguments& arguments) {
    if (callee.is(Kind::kUndefined)) fail("{}", callee.undefined().what);
    const Value* own = callee.is(Kind::kNamespace) ? callee.find(kCall) : &callee;
    require(own && own->is(Kind::kFunction), "{} cannot be called", kind_name(callee.kind()));
    return own->function().call(arguments);
  }

  std::shared_ptr<Scope> scope_;
  std::vector<std::shared_ptr<Scope>> kept_;  // by macros
  std::string out_;
  int line_ = 1;  // of what is being evaluated, for messages
  int levels_ = 0;
  size_t work_ = 0;
};

}  // namespace

std::string render(const Template& parsed, const std::map<std::string, Value>& variables) {
  return Evaluator(variables).run(parsed);
}

}  // namespace cepe::jinja
