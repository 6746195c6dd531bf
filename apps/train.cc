// cepe train: encoder and cross-attention for a frozen decoder, an encoder alone, or a decoder (docs/training.md).
#include <ATen/Context.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <memory>

#include "apps/commands.h"
#include "apps/output.h"
#include "base/config.h"
#include "base/error.h"
#include "train/ranks/engines.h"
#include "train/trainer.h"

namespace cepe {
namespace {

std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set in a signal handler");

// The first signal stops after the current step with a checkpoint, the second at once.
extern "C" void request_stop(int signal) {
  if (stop_requested.exchange(true)) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

struct TrainCommand {
  std::string config, run;
  std::string device = "auto";
};

void run_train(const TrainCommand& command, const std::vector<std::string>& overrides) {
  Config config = Config::from_file(command.config);
  config.use_environment();
  for (const std::string& argument : overrides) {
    require(argument.rfind("--", 0) == 0, "{}: expected --section.key=value", argument);
    config.override_with(argument.substr(2));
  }
  TrainJob job;
  job.config = read_train_config(config);
  job.run = command.run;
  const Launch launch = read_launch();
  ModelOptions options;
  options.device = device_of_rank(launch, command.device, at::globalContext().hasCUDA() ? at::getNumGPUs() : 0);
  job.device = resolve_device(options);
  job.stop = &stop_requested;
  const std::unique_ptr<Collectives> ranks = open_collectives(launch, {job.device, job.config.rank_minutes});
  job.ranks = ranks.get();
  std::signal(SIGINT, request_stop);
  std::signal(SIGTERM, request_stop);
  const TrainOutcome outcome = train(job);
  if (!ranks->first()) return;
  if (outcome.finished) {
    print(fmt::format("finished after {} steps\n", outcome.step));
  } else {
    print(fmt::format("stopped after step {}: run the same command again to go on\n", outcome.step));
  }
}

}  // namespace

void add_train_command(CLI::App& app) {
  auto command = std::make_shared<TrainCommand>();
  CLI::App* sub = app.add_subcommand("train", "Train encoder and cross-attention, an encoder alone, or a decoder");
  sub->add_option("config", command->config, "A TOML file, see configs/")->type_name("FILE")->required();
  sub->add_option("--run", command->run, "Directory of checkpoints, log and result; an interrupted run in it goes on")
      ->type_name("DIRECTORY")
      ->required();
  sub->add_option("--device", command->device, "Where to compute: auto, cpu, cuda or cuda:N")->capture_default_str();
  sub->allow_extras();
  sub->footer(
      "Any key of the TOML file can be given as --section.key=value, or as CEPE_SECTION_KEY in\nthe environment.\n"
      "Several ranks: torchrun --no-python ... --, mpirun or srun start this command as each of them.");
  sub->callback([command, sub] { run_train(*command, sub->remaining()); });
}

}  // namespace cepe
