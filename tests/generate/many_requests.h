// Requests of many kinds that come, and are cancelled, at random moments of an engine's run: for tests on any device.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "generate/engine.h"
#include "generate/number_tokenizer.h"

namespace cepe {

struct Job {
  Request request;
  int64_t arrives = 0;   // before this step of the engine
  int64_t cancels = -1;  // before this one; -1: never
};

inline SamplerOptions random_sampling(std::mt19937& random) {
  const auto uniform = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  SamplerOptions options{.temperature = random() % 3 ? std::exp(uniform(-2, 1)) : 0, .seed = random()};
  if (random() % 3 == 0) options.top_k = 1 + static_cast<int64_t>(random() % 40);
  if (random() % 3 == 0) options.top_p = uniform(0.2, 1.0);
  if (random() % 3 == 0) options.min_p = uniform(0.0, 0.3);
  if (random() % 3 == 0) options.repetition_penalty = uniform(0.8, 1.5);
  return options;
}

struct JobSizes {
  int64_t vocabulary = 0;
  int64_t most_prompt = 30, most_tokens = 20, most_steps = 150;  // lengths, and the last moment at which one arrives
};
// contexts: shared ones, from which requests take one, none, or one of their own by own(random).
inline std::vector<Job> random_jobs(int64_t count, const JobSizes& sizes,
                                    const std::vector<std::shared_ptr<const Context>>& contexts,
                                    const std::function<std::shared_ptr<const Context>(std::mt19937&)>& own) {
  std::mt19937 random(91);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  std::vector<Job> jobs(static_cast<size_t>(count));
  for (Job& job : jobs) {
    Request& request = job.request;
    for (int64_t n = 1 + below(sizes.most_prompt); n > 0; --n) {
      request.prompt.push_back(static_cast<TokenId>(below(sizes.vocabulary)));
    }
    const int64_t which = below(static_cast<int64_t>(contexts.size()) + 2);
    if (which < static_cast<int64_t>(contexts.size())) request.context = contexts[static_cast<size_t>(which)];
    if (which == static_cast<int64_t>(contexts.size())) request.context = own(random);
    request.max_tokens = 1 + below(sizes.most_tokens);
    request.sampling = random_sampling(random);
    if (below(3) == 0) {
      for (int i = 0; i < 4; ++i) request.end_tokens.push_back(static_cast<TokenId>(below(sizes.vocabulary)));
    }
    if (below(3) == 0) request.stop = {std::to_string(below(9)) + " " + std::to_string(1 + below(9))};
    request.log_probabilities = below(3) == 0 ? below(4) : -1;
    job.arrives = below(sizes.most_steps);
    if (below(4) == 0) job.cancels = job.arrives + below(25);
  }
  return jobs;
}

struct JobResult {
  Generation made;
  std::string shown;  // by on_text
  int ends = 0;       // calls of on_end
};

struct JobsRun {
  std::vector<JobResult> results;
  int64_t most_writing = 0, most_waiting = 0, most_contexts = 0;
};

// Submits the jobs as they come, until all have ended.
inline JobsRun run_jobs(Engine& engine, const std::vector<Job>& jobs) {
  JobsRun run;
  run.results.resize(jobs.size());
  std::vector<SequenceId> ids(jobs.size(), 0);
  const auto last = [&] {
    int64_t step = 0;
    for (const Job& job : jobs) step = std::max({step, job.arrives, job.cancels});
    return step;
  }();
  bool works = true;
  for (int64_t step = 0; works || step <= last; ++step) {
    for (size_t i = 0; i < jobs.size(); ++i) {
      if (jobs[i].arrives == step) {
        Request request = jobs[i].request;
        JobResult& result = run.results[i];
        request.on_text = [&result](std::string_view text) { result.shown += text; };
        request.on_end = [&result](const Generation& made) { result.made = made, ++result.ends; };
        ids[i] = engine.submit(std::move(request));
      }
      if (jobs[i].cancels == step) engine.cancel(ids[i]);
    }
    works = engine.step();
    const EngineCounts counts = engine.counts();
    run.most_writing = std::max(run.most_writing, counts.writing);
    run.most_waiting = std::max(run.most_waiting, counts.waiting);
    run.most_contexts = std::max(run.most_contexts, counts.contexts);
  }
  return run;
}

// The answer of an engine that has this request alone.
inline Generation alone(const Cepe& model, const Tokenizer& tokenizer, Request request, EngineOptions options) {
  Generation made;
  request.on_text = nullptr;
  request.on_end = [&made](const Generation& complete) { made = complete; };
  options.sequences = 1;
  options.prompt_tokens_a_step = static_cast<int64_t>(request.prompt.size());
  Engine engine(model, tokenizer, options);
  engine.submit(std::move(request));
  while (engine.step()) {
  }
  return made;
}

// Nothing is at work, waits or is kept.
inline void expect_idle(const Engine& engine) {
  const EngineCounts counts = engine.counts();
  EXPECT_EQ(counts.waiting, 0);
  EXPECT_EQ(counts.reading, 0);
  EXPECT_EQ(counts.writing, 0);
  EXPECT_EQ(counts.contexts, 0);
  EXPECT_EQ(counts.kept_bytes, 0);
}

}  // namespace cepe
