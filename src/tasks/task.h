// A task: examples, and how an answer is judged.
//
//   Task -> Example -> prediction (eval/task_run.h) -> Scorer -> samples.jsonl -> results (eval/results.h)
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "tasks/example.h"
#include "tasks/scorer.h"

namespace cepe {

struct Task {
  std::string name;
  int64_t examples = 0;
  // The example of an index below `examples`: a pure function of the task's settings and the index, so that nothing of
  // it is kept and an interrupted run goes on anywhere. Its tags have "task", the name. Thread-safe.
  std::function<Example(int64_t index)> example;
  Scorer score;
  std::string main_score;  // of the scorer's: the one that tables and plots show
};

}  // namespace cepe
