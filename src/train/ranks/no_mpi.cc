// In place of mpi_collectives.cc where cepe is built without MPI.
#include "base/error.h"
#include "train/ranks/engines.h"

namespace cepe {

std::unique_ptr<Collectives> open_mpi(const Launch& launch, const CollectivesOptions&) {
  fail("{} started {} ranks on a CPU: this cepe is built without MPI (-DCEPE_MPI=OFF)", name_of(launch.by),
       launch.size);
}

}  // namespace cepe
