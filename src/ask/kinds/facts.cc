// Statements of many forms strewn into text, and questions for what they say.
#include <algorithm>
#include <set>

#include "ask/kinds/draft.h"
#include "ask/sources/sentences.h"

namespace cepe {
namespace {

constexpr int64_t kStatementTokens = 28, kMostFacts = 48;

enum class Mix { any, one_relation, one_form, one_entity };

struct Stated {
  AskFact fact;
  const AskRelation* relation;
  size_t document = 0;
};

bool is_generic(const AskRelation& relation) { return relation.questions.front().find("{r}") != std::string::npos; }

const std::vector<std::string>& statements_of(const AskRelation& relation, bool held_forms) {
  return held_forms ? relation.held_statements : relation.statements;
}

class FactMaker {
 public:
  FactMaker(const AskSources& sources, AskRequest& request)
      : sources_(sources), request_(request), random_(request.random) {}

  AskDraft make() {
    const int64_t most = std::clamp<int64_t>(request_.tokens() / (2 * kStatementTokens), 1, kMostFacts);
    const int64_t count = random_.chance(0.4) ? random_.between((most + 1) / 2, most) : random_.log_between(1, most);
    choose_mix();
    for (int64_t i = 0; i < count; ++i) state();
    const bool alone = count >= 4 && random_.chance(0.1);  // a list of nothing but facts
    AskDraft draft;
    if (!alone) {
      draft.documents = draw_haystack(sources_, request_, request_.tokens() - count * kStatementTokens);
    }
    const std::vector<size_t> hidden_in = hide_statements(draft.documents, statements_, random_);
    for (size_t i = 0; i < stated_.size(); ++i) stated_[i].document = hidden_in[i];
    random_.shuffle(stated_);
    std::string all;
    for (const AskDocument& document : draft.documents) all += document.text + "\n";
    for (const Stated& stated : stated_) {
      draft.turns.push_back(ask(stated, all));
      draft.turns.back().document = stated.document;
    }
    return draft;
  }

 private:
  void choose_mix() {
    mix_ = static_cast<Mix>(random_.weighted({0.5, 0.25, 0.15, 0.1}));
    wrapped_ = random_.chance(0.5) ? 0 : random_.chance(0.5) ? 1 : 0.4;
    relation_ = &draw_relation();
    if (mix_ == Mix::one_entity) {
      for (const AskRelation& relation : sources_.forms.relations) {
        if (is_generic(relation) && usable(relation)) relation_ = &relation;
      }
      if (!is_generic(*relation_)) mix_ = Mix::any;
    }
    form_ = &random_.pick(statements_of(*relation_, request_.held_forms));
    wrapper_ = &random_.pick(sources_.forms.wrappers);
    entity_ = sources_.words.draw(relation_->entity, random_);
  }

  bool usable(const AskRelation& relation) const {
    return !statements_of(relation, request_.held_forms).empty() && (request_.held_forms || !relation.held);
  }

  const AskRelation& draw_relation() {
    for (;;) {  // the reader saw to it that there is one: forms.txt without S is an error, without H see maker.cc
      const AskRelation& relation = random_.pick(sources_.forms.relations);
      if (usable(relation)) return relation;
    }
  }

  // Entities differ, whatever the relation: two facts about one could answer the same question.
  void state() {
    const AskRelation& relation = mix_ == Mix::any ? draw_relation() : *relation_;
    AskFact fact{entity_, "", ""};
    if (mix_ != Mix::one_entity) fact.entity = sources_.words.draw(relation.entity, random_);
    std::string kind = relation.value;
    if (is_generic(relation)) {
      // "dentist:name": a name of the relation, and the kind of value that it has.
      fact.relation = sources_.words.draw("relation", random_);
      const size_t colon = fact.relation.find(':');
      if (colon != std::string::npos) kind = fact.relation.substr(colon + 1);
      fact.relation.resize(std::min(colon, fact.relation.size()));
    }
    fact.value = sources_.words.draw(kind, random_);
    const std::string key = mix_ == Mix::one_entity ? fact.relation : fact.entity;
    if (!keys_.insert(key).second || fact.value == fact.entity) return;
    const std::string& form =
        mix_ == Mix::one_form ? *form_ : random_.pick(statements_of(relation, request_.held_forms));
    std::string statement = fill_form(form, fact);
    if (random_.chance(wrapped_)) statement = wrap(statement);
    statements_.push_back(std::move(statement));
    stated_.push_back({std::move(fact), &relation});
  }

  std::string wrap(const std::string& statement) {
    const std::string& wrapper = wrapped_ == 1 ? *wrapper_ : random_.pick(sources_.forms.wrappers);
    const size_t at = wrapper.find("{s}");
    return sources_.words.expand(wrapper.substr(0, at), "a wrapper", random_) + statement +
           sources_.words.expand(wrapper.substr(at + 3), "a wrapper", random_);
  }

  AskTurn ask(const Stated& stated, const std::string& all) {
    const AskFact& fact = stated.fact;
    const auto& reverse = stated.relation->reverse_questions;
    // For the entity only where the value says which, and stands nowhere else.
    const bool unique = count_occurrences(all, fact.value) == 1 && fact.value.size() > 2;
    if (!reverse.empty() && unique && random_.chance(0.2)) {
      return {fill_form(random_.pick(reverse), fact), fact.entity};
    }
    return {fill_form(random_.pick(stated.relation->questions), fact), fact.value};
  }

  const AskSources& sources_;
  AskRequest& request_;
  AskRandom& random_;
  Mix mix_ = Mix::any;
  double wrapped_ = 0;
  const AskRelation* relation_ = nullptr;
  const std::string *form_ = nullptr, *wrapper_ = nullptr;
  std::string entity_;
  std::set<std::string> keys_;
  std::vector<std::string> statements_;
  std::vector<Stated> stated_;
};

}  // namespace

AskDraft make_facts(const AskSources& sources, AskRequest& request) { return FactMaker(sources, request).make(); }

}  // namespace cepe
