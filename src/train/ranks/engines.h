// The engines behind Collectives, and which of them a run's ranks meet through.
#pragma once

#include <memory>

#include "train/ranks/collectives.h"

namespace cepe {

struct CollectivesOptions {
  at::Device device = at::kCPU;  // of this rank
  double timeout_minutes = 30;   // so long a rank waits for the others; they validate and write on rank 0 meanwhile
};

// Through MPI on a CPU, through NCCL (c10d) on GPUs; of a single rank, which has nobody to wait for, through nothing.
// Once a process. Error: a launcher whose ranks cannot meet on this device; ranks that do not meet in time.
std::unique_ptr<Collectives> open_collectives(const Launch& launch, const CollectivesOptions& options);

// One engine each. A build without it has a file in its place that says so.
// Open MPI, on a CPU. Started by mpirun, or by srun with PMIx.
std::unique_ptr<Collectives> open_mpi(const Launch& launch, const CollectivesOptions& options);
// NCCL through c10d; the ranks meet at the launch's address.
std::unique_ptr<Collectives> open_nccl(const Launch& launch, const CollectivesOptions& options);

}  // namespace cepe
