// Which of the processes of a run this one is, as the launcher's environment says: `torchrun --no-python`, `mpirun`
// (Open MPI) or `srun`. No variable is cepe's own.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace cepe {

struct Launch {
  enum class By { nobody, torchrun, mpirun, srun };
  By by = By::nobody;
  int64_t rank = 0, size = 1;
  int64_t local_rank = 0;  // among the processes of this node: the number of its GPU
  std::string address;     // where rank 0 can be met; empty: not said
  int64_t port = 0;
  bool store_is_served = false;  // torchrun itself serves the store at that address, for all attempts of a job
  std::string attempt = "0";     // torchrun's, TORCHELASTIC_RESTART_COUNT
};

// A variable's value, if it is set.
using Environment = std::function<std::optional<std::string>(const char* name)>;
Environment process_environment();

// torchrun: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT. mpirun: OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK.
// srun: SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID, SLURM_STEP_NODELIST, SLURM_JOB_ID. Where several are there,
// the first in this order: torchrun may run below srun, mpirun inside an allocation. MASTER_ADDR and MASTER_PORT are
// heeded with each launcher; srun's own are the first node and a port made of the job's number. A single process that
// srun started is nobody's.
// Error where a launcher's variables are there in part, are no numbers or contradict each other.
Launch read_launch(const Environment& environment = process_environment());

const char* name_of(Launch::By by);

// The first host of Slurm's notation: "n[003-5,8],m1" -> "n003". Error: unbalanced brackets, nothing in them.
std::string first_host(const std::string& node_list);

}  // namespace cepe
