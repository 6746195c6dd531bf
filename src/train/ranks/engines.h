// The engines behind Collectives. A build without one has a file in its place that says so.
#pragma once

#include "train/ranks/collectives.h"

namespace cepe {

// Open MPI, on a CPU. Started by mpirun, or by srun with PMIx.
std::unique_ptr<Collectives> open_mpi(const Launch& launch, const CollectivesOptions& options);
// NCCL through c10d; the ranks meet at the launch's address.
std::unique_ptr<Collectives> open_nccl(const Launch& launch, const CollectivesOptions& options);

}  // namespace cepe
