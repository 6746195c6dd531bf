// Sequences that are written together, each against what it gets alone.
#include "generate/engine.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "generate/many_requests.h"
#include "model/fixtures.h"

namespace cepe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

class Engines : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(23);
    model_ = open_fixture("cepe-mha", at::kDouble).model;  // so exact that a batch's rounding changes no token
  }
  std::shared_ptr<const Context> context_of_chunks(int64_t chunks) const {
    const at::Tensor ids = at::randint(vocabulary(), {1, chunks, 16}, at::kLong);
    return std::make_shared<const Context>(Context{encode(model_, {ids, {}}), {}});
  }
  int64_t vocabulary() const { return model_.config.decoder.vocab_size; }
  std::vector<TokenId> random_prompt(int64_t length) const {
    const at::Tensor ids = at::randint(vocabulary(), {length}, at::kLong);
    const auto* data = ids.const_data_ptr<int64_t>();
    return {data, data + length};
  }
  // One that notes how it ends.
  Request request(int64_t prompt, int64_t tokens, Generation& made) const {
    return {.prompt = random_prompt(prompt), .max_tokens = tokens, .on_end = [&made](const Generation& complete) {
              made = complete;
            }};
  }
  static void run(Engine& engine) {
    while (engine.step()) {
    }
  }

  const at::NoGradGuard no_grad_;
  Cepe model_;
  NumberTokenizer tokenizer_{128};
};

struct ManyCase {
  ContextReading reading;
  int64_t requests = 24;
  int64_t longer = 1;  // contexts than else
};
class ManyRequests : public Engines, public testing::WithParamInterface<ManyCase> {};

// Requests that come and go through five slots.
TEST_P(ManyRequests, EachGetsWhatItGetsAlone) {
  const int64_t longer = GetParam().longer;
  std::vector<std::shared_ptr<const Context>> shared{context_of_chunks(2 * longer), context_of_chunks(3 * longer)};
  auto latents = quantize(context_of_chunks(2 * longer)->latents);
  shared.push_back(std::make_shared<const Context>(Context{latents, {}}));
  const auto own = [&](std::mt19937& random) {
    return context_of_chunks(longer * (1 + static_cast<int64_t>(random() % 4)));
  };
  const JobSizes sizes{.vocabulary = vocabulary(), .most_steps = 2 * GetParam().requests};
  const std::vector<Job> jobs = random_jobs(GetParam().requests, sizes, shared, own);
  const std::vector<long> owners{shared[0].use_count(), shared[1].use_count(), shared[2].use_count()};
  const EngineOptions options{.sequences = 5, .capacity = 44, .prompt_tokens_a_step = 7, .reading = GetParam().reading};
  Engine engine(model_, tokenizer_, options);
  const JobsRun run = run_jobs(engine, jobs);
  expect_idle(engine);
  for (size_t i = 0; i < shared.size(); ++i) EXPECT_EQ(shared[i].use_count(), owners[i]);
  EXPECT_EQ(run.most_writing, 5);
  EXPECT_GE(run.most_waiting, 3);
  EXPECT_GE(run.most_contexts, 3);
  int64_t cancelled = 0;
  for (size_t i = 0; i < jobs.size(); ++i) {
    SCOPED_TRACE("request " + std::to_string(i));
    const JobResult& found = run.results[i];
    const Generation expected = alone(model_, tokenizer_, jobs[i].request, options);
    EXPECT_EQ(found.ends, 1);
    EXPECT_EQ(found.shown, found.made.text);
    if (found.made.reason == StopReason::cancelled) {
      ++cancelled;
      ASSERT_LE(found.made.tokens.size(), expected.tokens.size());
      EXPECT_TRUE(std::equal(found.made.tokens.begin(), found.made.tokens.end(), expected.tokens.begin()));
      EXPECT_TRUE(expected.text.starts_with(found.made.text));
      continue;
    }
    EXPECT_EQ(found.made.tokens, expected.tokens);
    EXPECT_EQ(found.made.text, expected.text);
    EXPECT_EQ(found.made.reason, expected.reason);
    EXPECT_EQ(found.made.error, "");
    ASSERT_EQ(found.made.log_probabilities.size(), expected.log_probabilities.size());
    for (size_t k = 0; k < expected.log_probabilities.size(); ++k) {
      const TokenLogProbabilities &a = found.made.log_probabilities[k], &b = expected.log_probabilities[k];
      EXPECT_NEAR(a.chosen.log_probability, b.chosen.log_probability, 1e-5);
      ASSERT_EQ(a.best.size(), b.best.size());
      for (size_t n = 0; n < a.best.size(); ++n) EXPECT_EQ(a.best[n].token, b.best[n].token);
    }
  }
  EXPECT_GE(cancelled, 2);
  EXPECT_LE(cancelled, GetParam().requests / 3);
}
INSTANTIATE_TEST_SUITE_P(
    Readings, ManyRequests,
    testing::Values(ManyCase{{}, 64}, ManyCase{{.memory_budget = 100'000}},
                    ManyCase{{.form = CrossAttentionForm::cached}},
                    ManyCase{{.form = CrossAttentionForm::cached, .read_share = 0.5, .read_again = 3}, 48, 11},
                    ManyCase{{.form = CrossAttentionForm::absorbed}}));

// log_softmax of decode() of the whole text: (tokens, V), a row for each token of the answer.
at::Tensor exact_log_probabilities(const Cepe& model, const Request& request, const Generation& made) {
  std::vector<int64_t> ids(request.prompt.begin(), request.prompt.end());
  ids.insert(ids.end(), made.tokens.begin(), made.tokens.end() - 1);
  const Latents none;
  const at::Tensor hidden = decode(model, {.ids_BT = at::tensor(ids).unsqueeze(0),
                                           .context = request.context ? &request.context->latents : &none,
                                           .last = static_cast<int64_t>(made.tokens.size())});
  return logits(model, hidden)[0].log_softmax(-1);
}

// Whatever the pieces, and while another sequence writes: all log-probabilities of all tokens.
TEST_F(Engines, PromptsInPiecesAndStepsEqualDecodingAtOnce) {
  for (const int64_t piece : {1, 7, 64}) {
    Generation first, second;
    Engine engine(model_, tokenizer_, {.sequences = 3, .capacity = 60, .prompt_tokens_a_step = piece});
    Request other = request(2, 40, first), read = request(31, 9, second);
    read.context = context_of_chunks(3);
    read.log_probabilities = other.log_probabilities = vocabulary();
    engine.submit(other);
    engine.step();
    engine.submit(read);
    run(engine);
    for (const auto& [asked, made] : {std::pair{&other, &first}, {&read, &second}}) {
      const at::Tensor exact = exact_log_probabilities(model_, *asked, *made);
      ASSERT_EQ(made->log_probabilities.size(), made->tokens.size());
      for (size_t t = 0; t < made->tokens.size(); ++t) {
        const TokenLogProbabilities& of = made->log_probabilities[t];
        const at::Tensor row = exact[static_cast<int64_t>(t)];
        EXPECT_EQ(of.chosen.token, made->tokens[t]);
        EXPECT_EQ(of.chosen.log_probability, of.best[0].log_probability) << "greedy: the same float";
        ASSERT_EQ(static_cast<int64_t>(of.best.size()), vocabulary());
        double before = 0;
        for (const TokenLogProbability& token : of.best) {
          ASSERT_NEAR(token.log_probability, row[token.token].item<double>(), 1e-5) << piece << " " << t;
          ASSERT_LE(token.log_probability, before);
          before = token.log_probability;
        }
      }
    }
  }
}

// Dynamic rotary frequencies beyond the window trained on follow from the length that is read at once.
TEST_F(Engines, PromptsAreReadAtOnceWherePiecesWouldDiffer) {
  const Cepe model = open_fixture("families/llama-dynamic", at::kDouble).model;
  const int64_t window = decoder_window(model.config.decoder), trained = model.config.decoder.max_positions;
  ASSERT_GT(window, trained + 8);
  const NumberTokenizer tokenizer(model.config.decoder.vocab_size);
  Generation made, other;
  Request asked = request(trained + 4, 4, made), beside = request(3, 20, other);
  for (Request* each : {&asked, &beside}) {
    for (TokenId& token : each->prompt) token %= static_cast<TokenId>(model.config.decoder.vocab_size);
  }
  const EngineOptions options{.sequences = 2, .prompt_tokens_a_step = 5};
  Engine engine(model, tokenizer, options);
  engine.submit(asked), engine.submit(beside);
  run(engine);
  EXPECT_EQ(made.tokens, alone(model, tokenizer, asked, options).tokens);
  EXPECT_EQ(other.tokens, alone(model, tokenizer, beside, options).tokens);
}

TEST_F(Engines, ADamagedContextFailsItsSequenceAlone) {
  const auto whole = context_of_chunks(2);
  Context damaged{{.states_BSE = whole->latents.states_BSE.clone()}, {}};
  damaged.latents.states_BSE.fill_(NAN);
  std::vector<Generation> made(4);
  std::vector<Request> requests;
  Engine engine(model_, tokenizer_, {.sequences = 4, .capacity = 40});
  for (size_t i = 0; i < made.size(); ++i) {
    requests.push_back(request(5, 12, made[i]));
    requests.back().context = i == 1 ? std::make_shared<const Context>(damaged) : i == 3 ? nullptr : whole;
    requests.back().log_probabilities = 2;
    engine.submit(requests.back());
  }
  run(engine);
  EXPECT_EQ(made[1].reason, StopReason::failed);
  EXPECT_THAT(made[1].error, HasSubstr("the weights or the context are damaged"));
  EXPECT_TRUE(made[1].tokens.empty());
  for (const size_t i : {0, 2, 3})
    EXPECT_EQ(made[i].tokens, alone(model_, tokenizer_, requests[i], {.capacity = 40}).tokens);
  expect_idle(engine);
}

// Its context's states are overwritten while it writes.
TEST_F(Engines, DamageWhileWritingFailsOneSequence) {
  const auto shared = context_of_chunks(2);
  const auto own = std::make_shared<const Context>(Context{{.states_BSE = shared->latents.states_BSE.clone()}, {}});
  std::vector<Generation> made(3);
  std::vector<Request> requests;
  Engine engine(model_, tokenizer_,
                {.sequences = 3, .capacity = 40, .reading = {.form = CrossAttentionForm::absorbed}});
  for (size_t i = 0; i < made.size(); ++i) {
    requests.push_back(request(4, 12, made[i]));
    requests.back().context = i == 0 ? own : shared;
    engine.submit(requests.back());
  }
  for (int i = 0; i < 4; ++i) engine.step();
  at::Tensor states = own->latents.states_BSE;
  states.fill_(INFINITY);
  run(engine);
  EXPECT_EQ(made[0].reason, StopReason::failed);
  EXPECT_GE(made[0].tokens.size(), 4u) << "what was written stays";
  for (const size_t i : {1, 2})
    EXPECT_EQ(made[i].tokens, alone(model_, tokenizer_, requests[i], {.capacity = 40}).tokens);
}

TEST_F(Engines, WhatCallbacksThrow) {
  std::vector<Generation> made(3);
  Engine engine(model_, tokenizer_, {.sequences = 3, .capacity = 40});
  Request text = request(3, 5, made[0]), end = request(3, 5, made[1]), other = request(3, 5, made[2]);
  text.on_text = [](std::string_view) { fail("the pipe is closed"); };
  const auto note = end.on_end;
  end.on_end = [note](const Generation& complete) { note(complete), fail("no place left"); };
  engine.submit(text), engine.submit(end), engine.submit(other);
  EXPECT_THAT([&] { run(engine); }, ThrowsMessage<Error>(HasSubstr("no place left")));
  run(engine);
  EXPECT_EQ(made[0].reason, StopReason::failed);
  EXPECT_EQ(made[0].error, "the pipe is closed");
  EXPECT_EQ(made[1].tokens.size(), 5u);
  EXPECT_EQ(made[2].tokens.size(), 5u);
  expect_idle(engine);
}

// A weight of the wrong shape stands for a device that fails.
TEST_F(Engines, AfterAFailedStepAllAtWorkHaveFailedAndOthersGoOn) {
  std::vector<Generation> made(3);
  const auto context = context_of_chunks(2);
  Engine engine(model_, tokenizer_, {.sequences = 2, .capacity = 40});
  for (Generation& each : made) {
    Request asked = request(3, 6, each);
    asked.context = context;
    engine.submit(asked);
  }
  engine.step();
  const at::Tensor head = model_.decoder.lm_head;
  model_.decoder.lm_head = at::zeros({3, 5}, head.options());
  EXPECT_ANY_THROW(engine.step());
  model_.decoder.lm_head = head;
  for (const size_t i : {0, 1}) {
    EXPECT_EQ(made[i].reason, StopReason::failed);
    EXPECT_FALSE(made[i].error.empty());
  }
  run(engine);
  EXPECT_EQ(made[2].reason, StopReason::max_tokens);
  EXPECT_EQ(made[2].tokens.size(), 6u);
  expect_idle(engine);
  EXPECT_EQ(context.use_count(), 1);
}

TEST_F(Engines, RequestsAreReadInTheOrderInWhichTheyCame) {
  Engine engine(model_, tokenizer_, {.sequences = 1, .capacity = 40});
  std::vector<int> order;
  for (int i = 0; i < 4; ++i) {
    engine.submit({.prompt = random_prompt(10 - 2 * i), .max_tokens = 3, .on_end = [&order, i](const Generation&) {
                     order.push_back(i);
                   }});
  }
  EXPECT_EQ(engine.counts().waiting, 4);
  run(engine);
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(engine.counts().prompt_tokens, 10 + 8 + 6 + 4);
  EXPECT_EQ(engine.counts().tokens, 12);
}

// From its own on_text, while it waits and while it is read; ids that are not known are nobody's.
TEST_F(Engines, CancelEndsASequenceWhereverItIs) {
  std::vector<Generation> made(3);
  Engine engine(model_, tokenizer_, {.sequences = 2, .capacity = 60, .prompt_tokens_a_step = 4});
  Request first = request(2, 30, made[0]);
  SequenceId id = 0;
  int pieces = 0;
  first.on_text = [&](std::string_view) {
    if (++pieces == 3) engine.cancel(id);
  };
  id = engine.submit(first);
  const SequenceId read = engine.submit(request(40, 5, made[1])), waits = engine.submit(request(40, 5, made[2]));
  engine.step();
  EXPECT_EQ(engine.counts().reading, 1);
  engine.cancel(read), engine.cancel(waits), engine.cancel(99), engine.cancel(-1);
  run(engine);
  for (const Generation& each : made) EXPECT_EQ(each.reason, StopReason::cancelled);
  EXPECT_GE(made[0].tokens.size(), 3u);
  EXPECT_LE(made[0].tokens.size(), 4u);
  EXPECT_TRUE(made[1].text.empty());
  EXPECT_EQ(made[1].first_token_seconds, 0);
  EXPECT_GE(made[1].seconds, 0);
  expect_idle(engine);
  engine.cancel(id);
  EXPECT_FALSE(engine.step()) << "ended ids are ignored";
}

TEST_F(Engines, ACallbackMaySubmit) {
  Generation second;
  Engine engine(model_, tokenizer_, {.sequences = 1, .capacity = 40});
  engine.submit(
      {.prompt = {1, 2}, .max_tokens = 2, .on_end = [&](const Generation&) { engine.submit(request(3, 4, second)); }});
  run(engine);
  EXPECT_EQ(second.tokens.size(), 4u);
}

// The budget is of all contexts: the second one that would be kept is not, until the first has gone.
TEST(ContextsAtWork, AreKeptWithinOneBudgetAndFreed) {
  const Cepe model = random_model(small_config("smollm2-135m+1x2", 6, 2, 64));
  const auto context = [&] {
    return std::make_shared<const Context>(Context{{.states_BSE = at::randn({1, 64, 384})}, {}});
  };
  const auto first = context(), second = context();
  const ContextUse use{.prompt_tokens = 3, .steps = 1000};
  ContextsAtWork forced(model, {.form = CrossAttentionForm::cached, .memory_budget = 0}, 4);
  CrossAttentionChoice choice, over;
  const auto a = forced.take(first, use, choice), again = forced.take(first, use, choice);
  EXPECT_EQ(a, again);
  EXPECT_EQ(forced.count(), 1);
  EXPECT_EQ(forced.kept_bytes(), 64 * 2 * 2 * 2 * 64 * 4) << "64 tokens, two layers, keys and values of two heads";
  EXPECT_EQ(first->latents.cache, nullptr) << "the given context stays as it was";
  ContextsAtWork narrow(model, {.form = CrossAttentionForm::cached, .kept = at::kChar}, 4);
  const auto kept = narrow.take(first, use, choice);
  EXPECT_EQ(narrow.kept_bytes(), 64 * 2 * 2 * 2 * (64 + 4)) << "8 bits and a scale";
  EXPECT_EQ(choice.cost.bytes, narrow.kept_bytes());

  ContextsAtWork bounded(model, {.memory_budget = forced.kept_bytes() * 3 / 2}, 4);
  auto x = bounded.take(first, use, choice), y = bounded.take(second, use, over);
  EXPECT_EQ(choice.form, CrossAttentionForm::cached);
  EXPECT_NE(over.form, CrossAttentionForm::cached);
  EXPECT_EQ(bounded.kept_bytes(), forced.kept_bytes());
  EXPECT_EQ(bounded.count(), 2);
  x.reset(), y.reset();
  EXPECT_EQ(bounded.kept_bytes(), 0);
  y = bounded.take(second, use, over);
  EXPECT_EQ(over.form, CrossAttentionForm::cached);
}

TEST_F(Engines, RefusesWhatCanNeverRun) {
  Engine engine(model_, tokenizer_, {.sequences = 2, .capacity = 40});
  const auto refused = [&](Request asked, const char* message) {
    EXPECT_THAT([&] { engine.submit(asked); }, ThrowsMessage<Error>(HasSubstr(message)));
  };
  const Context narrow{{.states_BSE = at::zeros({1, 4, 7}, at::kDouble)}, {}},
      other_type{{.states_BSE = at::zeros({1, 4, 32}, at::kFloat)}, {}};
  const int64_t window = decoder_window(model_.config.decoder);
  refused({}, "the prompt has no tokens");
  refused({.prompt = {1}, .max_tokens = 0}, "max-tokens: expected 1 or more, found 0");
  refused({.prompt = {1, 128}}, "token 128 is outside the model's vocabulary of 128");
  refused({.prompt = {-1}}, "token -1 is outside");
  refused({.prompt = random_prompt(40)}, "no room for an answer in the 40 that the engine holds");
  refused({.prompt = random_prompt(window)}, "no room for an answer in the decoder's window");
  refused({.prompt = {1}, .sampling = {.top_p = 0}}, "top-p");
  refused({.prompt = {1}, .stop = {""}}, "stop string");
  refused({.prompt = {1}, .log_probabilities = 129}, "log-probabilities");
  refused({.prompt = {1}, .context = std::make_shared<const Context>(narrow)}, "of width 7, expected 1 x S of 32");
  refused({.prompt = {1}, .context = std::make_shared<const Context>(other_type)}, "a context of Float on cpu");
  EXPECT_THROW(Engine(model_, tokenizer_, {.sequences = 0}), Error);
  EXPECT_THROW(Engine(model_, tokenizer_, {.capacity = window + 1}), Error);
  EXPECT_THROW(Engine(model_, tokenizer_, {.prompt_tokens_a_step = 0}), Error);
  EXPECT_FALSE(engine.step());
}

}  // namespace
}  // namespace cepe
