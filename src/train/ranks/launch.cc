#include "train/ranks/launch.h"

#include <charconv>
#include <cstdlib>

#include "base/error.h"

namespace cepe {
namespace {

constexpr int64_t kMostPort = 65535;

int64_t number_in(const char* name, const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc() && end == text.data() + text.size() && value >= 0, "{}: expected a number, found \"{}\"",
          name, text);
  return value;
}

// The variables of one launcher, each of which it sets.
class Variables {
 public:
  Variables(const Environment& environment, Launch::By by) : environment_(environment), by_(by) {}
  std::string text(const char* name) const {
    const std::optional<std::string> value = environment_(name);
    require(value && !value->empty(), "{}: not set, although other variables of {} are", name, name_of(by_));
    return *value;
  }
  int64_t number(const char* name) const { return number_in(name, text(name)); }

 private:
  const Environment& environment_;
  const Launch::By by_;
};

struct Names {
  const char *rank, *size, *local_rank;
};

Launch read_ranks(const Variables& variables, Launch::By by, const Names& names) {
  Launch launch;
  launch.by = by;
  launch.rank = variables.number(names.rank);
  launch.size = variables.number(names.size);
  launch.local_rank = variables.number(names.local_rank);
  require(launch.rank < launch.size, "{}: {} is no rank of {} ({})", names.rank, launch.rank, launch.size, names.size);
  require(launch.local_rank <= launch.rank, "{}: {} is more than the rank {} ({})", names.local_rank, launch.local_rank,
          launch.rank, names.rank);
  return launch;
}

void read_address(const Environment& environment, Launch& launch) {
  if (const auto address = environment("MASTER_ADDR")) launch.address = *address;
  if (const auto port = environment("MASTER_PORT")) launch.port = number_in("MASTER_PORT", *port);
  require(launch.port <= kMostPort, "MASTER_PORT: {} is no port", launch.port);
}

// Slurm says no port: two jobs on one node are unlikely to meet at the same.
constexpr int64_t kFirstPort = 20000, kPorts = 12000;

}  // namespace

Environment process_environment() {
  return [](const char* name) -> std::optional<std::string> {
    const char* value = std::getenv(name);
    return value ? std::optional<std::string>(value) : std::nullopt;
  };
}

const char* name_of(Launch::By by) {
  switch (by) {
    case Launch::By::torchrun: return "torchrun";
    case Launch::By::mpirun: return "mpirun";
    case Launch::By::srun: return "srun";
    case Launch::By::nobody: break;
  }
  return "no launcher";
}

Launch read_launch(const Environment& environment) {
  const auto is_set = [&](const char* name) { return environment(name).has_value(); };
  if (is_set("RANK") || is_set("WORLD_SIZE")) {
    const Variables variables(environment, Launch::By::torchrun);
    Launch launch = read_ranks(variables, Launch::By::torchrun, {"RANK", "WORLD_SIZE", "LOCAL_RANK"});
    launch.address = variables.text("MASTER_ADDR");
    variables.text("MASTER_PORT");
    read_address(environment, launch);
    launch.store_is_served = environment("TORCHELASTIC_USE_AGENT_STORE").value_or("") == "True";
    launch.attempt = environment("TORCHELASTIC_RESTART_COUNT").value_or("0");
    return launch;
  }
  if (is_set("OMPI_COMM_WORLD_RANK") || is_set("OMPI_COMM_WORLD_SIZE")) {
    Launch launch = read_ranks(Variables(environment, Launch::By::mpirun), Launch::By::mpirun,
                               {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"});
    read_address(environment, launch);
    return launch;
  }
  // A batch script has SLURM_PROCID as well; a step is what srun starts.
  if (environment("SLURM_STEP_NUM_TASKS").value_or("1") == "1") return {};
  const Variables variables(environment, Launch::By::srun);
  Launch launch = read_ranks(variables, Launch::By::srun, {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"});
  launch.address = first_host(variables.text("SLURM_STEP_NODELIST"));
  launch.port = kFirstPort + variables.number("SLURM_JOB_ID") % kPorts;
  read_address(environment, launch);
  return launch;
}

std::string first_host(const std::string& node_list) {
  const size_t open = node_list.find_first_of("[,");
  if (open == std::string::npos || node_list[open] == ',') {
    require(open != 0, "SLURM_STEP_NODELIST: no host in \"{}\"", node_list);
    return node_list.substr(0, open);
  }
  const size_t first_end = node_list.find_first_of(",-]", open + 1), close = node_list.find(']', open);
  require(close != std::string::npos && first_end > open + 1, "SLURM_STEP_NODELIST: no host in \"{}\"", node_list);
  const size_t rest = node_list.find(',', close);
  const std::string tail = node_list.substr(close + 1, rest == std::string::npos ? rest : rest - close - 1);
  return node_list.substr(0, open) + node_list.substr(open + 1, first_end - open - 1) +
         (tail.empty()                          ? ""
          : tail.find('[') == std::string::npos ? tail
                                                : first_host(tail));
}

}  // namespace cepe
