// Open MPI's non-blocking collectives. Whoever waits asks again and again, and sleeps in between, so that ranks that
// share processors leave them to each other, and so that a rank that is gone ends the wait.
#include <ATen/ATen.h>
#include <mpi.h>

#include <chrono>
#include <exception>
#include <limits>
#include <thread>

#include "base/error.h"
#include "train/ranks/engines.h"

namespace cepe {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kSpin = std::chrono::microseconds(200);  // before the first sleep
constexpr auto kSleep = std::chrono::microseconds(50);

void check(int code, const char* what) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  fail("{}: MPI failed, a rank may be gone: {}", what, std::string(text, static_cast<size_t>(length)));
}

MPI_Datatype type_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat: return MPI_FLOAT;
    case at::kLong: return MPI_INT64_T;
    case at::kByte: return MPI_UINT8_T;
    default: fail("MPI: tensors of type {} are not exchanged", c10::toString(tensor.scalar_type()));
  }
}

class MpiWork : public Collectives::Work {
 public:
  MpiWork(at::Tensor tensor, double timeout_minutes) : tensor_(std::move(tensor)), minutes_(timeout_minutes) {}
  MPI_Request* request() { return &request_; }

  void wait() override {
    const auto start = Clock::now();
    const auto limit = std::chrono::duration<double, std::ratio<60>>(minutes_);
    for (int done = 0;;) {
      check(MPI_Test(&request_, &done, MPI_STATUS_IGNORE), "waiting for the other ranks");
      if (done) return;
      const auto waited = Clock::now() - start;
      require(waited < limit, "the other ranks have not answered for {:g} minutes (run.rank_minutes)", minutes_);
      if (waited > kSpin) std::this_thread::sleep_for(kSleep);
    }
  }

 private:
  const at::Tensor tensor_;  // lives as long as it is on its way
  const double minutes_;
  MPI_Request request_ = MPI_REQUEST_NULL;
};

class MpiCollectives : public Collectives {
 public:
  MpiCollectives(const Launch& launch, double timeout_minutes) : Collectives(launch), minutes_(timeout_minutes) {
    int provided = 0, rank = 0, size = 0;
    // Gradients are sent by the thread that runs backward(), one thread at a time.
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    require(rank == launch.rank && size == launch.size,
            "{} says rank {} of {}, MPI rank {} of {}: srun must know its plugin pmix", name_of(launch.by), launch.rank,
            launch.size, rank, size);
    require(provided >= MPI_THREAD_SERIALIZED, "MPI: this library is not made for several threads");
  }
  // Where an error ends the process, the launcher must see that it did not finalise, and end the others.
  ~MpiCollectives() override {
    if (std::uncaught_exceptions() == 0) MPI_Finalize();
  }

  at::Device device() const override { return at::kCPU; }

  std::unique_ptr<Work> sum(const at::Tensor& tensor) override {
    return start(tensor, "MPI_Iallreduce", [&](MPI_Request* request) {
      return MPI_Iallreduce(MPI_IN_PLACE, tensor.data_ptr(), count(tensor), type_of(tensor), MPI_SUM, MPI_COMM_WORLD,
                            request);
    });
  }
  std::unique_ptr<Work> sum_to(const at::Tensor& tensor, int64_t root) override {
    const bool here = rank() == root;
    return start(tensor, "MPI_Ireduce", [&](MPI_Request* request) {
      return MPI_Ireduce(here ? MPI_IN_PLACE : tensor.data_ptr(), here ? tensor.data_ptr() : nullptr, count(tensor),
                         type_of(tensor), MPI_SUM, static_cast<int>(root), MPI_COMM_WORLD, request);
    });
  }
  std::unique_ptr<Work> broadcast(const at::Tensor& tensor, int64_t root) override {
    return start(tensor, "MPI_Ibcast", [&](MPI_Request* request) {
      return MPI_Ibcast(tensor.data_ptr(), count(tensor), type_of(tensor), static_cast<int>(root), MPI_COMM_WORLD,
                        request);
    });
  }

 private:
  static int count(const at::Tensor& tensor) {
    require(tensor.is_contiguous() && tensor.numel() <= std::numeric_limits<int>::max(),
            "MPI: a tensor of {} elements, expected contiguous ones below 2^31", tensor.numel());
    return static_cast<int>(tensor.numel());
  }
  template <typename Call>
  std::unique_ptr<Work> start(const at::Tensor& tensor, const char* what, Call call) const {
    auto work = std::make_unique<MpiWork>(tensor, minutes_);
    check(call(work->request()), what);
    return work;
  }

  const double minutes_;
};

}  // namespace

std::unique_ptr<Collectives> open_mpi(const Launch& launch, const CollectivesOptions& options) {
  return std::make_unique<MpiCollectives>(launch, options.timeout_minutes);
}

}  // namespace cepe
