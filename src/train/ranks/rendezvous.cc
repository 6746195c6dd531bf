#include "train/ranks/rendezvous.h"

#include <c10/util/Exception.h>

#include <chrono>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "base/error.h"

namespace cepe {

c10::intrusive_ptr<c10d::Store> open_store(const Launch& launch, double timeout_minutes) {
  require(!launch.address.empty() && launch.port > 0,
          "{} does not say where {} ranks meet: give MASTER_ADDR, the host of rank 0, and MASTER_PORT (mpirun -x)",
          name_of(launch.by), launch.size);
  const auto timeout = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::duration<double, std::ratio<60>>(timeout_minutes));
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(launch.port);
  options.isServer = launch.rank == 0 && !launch.store_is_served;
  options.waitWorkers = false;
  options.timeout = timeout;
  try {
    // Each attempt has keys of its own: the store that torchrun serves outlives them.
    auto store = c10::make_intrusive<c10d::PrefixStore>("cepe/" + launch.attempt,
                                                        c10::make_intrusive<c10d::TCPStore>(launch.address, options));
    if (store->add("arrived", 1) == launch.size) store->set("all arrived", std::vector<uint8_t>{1});
    store->wait({"all arrived"}, timeout);
    return store;
  } catch (const c10::Error& error) {
    const std::string reason = error.what_without_backtrace();
    fail("{}:{}: the {} ranks do not meet: {}", launch.address, launch.port, launch.size,
         reason.substr(0, reason.find('\n')));
  }
}

}  // namespace cepe
