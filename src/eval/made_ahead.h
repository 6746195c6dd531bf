// Things that a pool of threads makes ahead, taken in their order.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

namespace cepe {

struct AheadOptions {
  int64_t threads = 1;
  int64_t ahead = 2;  // at most so many are made, or being made, and not taken
};

template <typename T>
class MadeAhead {
 public:
  // Makes those from `first` to before `end`. make() is called from several threads at once.
  MadeAhead(int64_t first, int64_t end, std::function<T(int64_t index)> make, const AheadOptions& options)
      : make_(std::move(make)), ahead_(options.ahead), next_(first), taken_(first), end_(end) {
    for (int64_t t = 0; t < options.threads; ++t) threads_.emplace_back([this] { work(); });
  }
  // Waits for what is being made.
  ~MadeAhead() {
    {
      const std::lock_guard lock(mutex_);
      end_ = next_;
    }
    room_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  MadeAhead(const MadeAhead&) = delete;
  MadeAhead& operator=(const MadeAhead&) = delete;

  // The next one, once it is made; throws what its make() threw. At most end - first calls.
  T take() {
    std::unique_lock lock(mutex_);
    made_.wait(lock, [this] { return done_.contains(taken_); });
    Made result = std::move(done_.extract(taken_++).mapped());
    lock.unlock();
    room_.notify_all();
    if (auto* error = std::get_if<std::exception_ptr>(&result)) std::rethrow_exception(*error);
    return std::move(std::get<T>(result));
  }

 private:
  using Made = std::variant<T, std::exception_ptr>;

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      room_.wait(lock, [this] { return next_ >= end_ || next_ < taken_ + ahead_; });
      if (next_ >= end_) return;
      const int64_t index = next_++;
      lock.unlock();
      Made made = attempt(index);
      lock.lock();
      done_.emplace(index, std::move(made));
      made_.notify_all();
    }
  }

  Made attempt(int64_t index) const {
    try {
      return make_(index);
    } catch (...) {
      return std::current_exception();
    }
  }

  std::function<T(int64_t)> make_;
  int64_t ahead_;
  std::mutex mutex_;  // of what follows
  std::condition_variable made_, room_;
  int64_t next_, taken_, end_;
  std::map<int64_t, Made> done_;
  std::vector<std::thread> threads_;
};

}  // namespace cepe
