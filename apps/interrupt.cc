#include "apps/interrupt.h"

#include <atomic>
#include <csignal>

namespace cepe {
namespace {

// All that a signal handler may touch is this flag.
std::atomic<bool> flag{false};
static_assert(std::atomic<bool>::is_always_lock_free);

struct sigaction before{};

void raise_flag(int) { flag.store(true); }

}  // namespace

InterruptFlag::InterruptFlag(bool catches) : catches_(catches) {
  flag.store(false);
  if (!catches) return;
  struct sigaction action{};
  action.sa_handler = raise_flag;
  action.sa_flags = SA_RESTART;  // reading a file and writing an answer go on; poll() returns all the same
  ::sigaction(SIGINT, &action, &before);
}

InterruptFlag::~InterruptFlag() {
  if (catches_) ::sigaction(SIGINT, &before, nullptr);
}

bool InterruptFlag::take() { return flag.exchange(false); }

}  // namespace cepe
