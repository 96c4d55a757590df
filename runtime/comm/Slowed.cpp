#include "runtime/comm/Slowed.h"

#include "runtime/schema/PlanFile.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace distc {

namespace {

class Slowed : public Communicator {
public:
  Slowed(std::unique_ptr<Communicator> inner, double latencySeconds, double bytesPerSecond, std::vector<size_t> members,
         const std::atomic<bool> *interrupted)
      : inner_(std::move(inner)), latencySeconds_(latencySeconds), bytesPerSecond_(bytesPerSecond),
        members_(std::move(members)), interrupted_(interrupted) {}

  Status allReduce(const CommCall &call, const void *in, void *out, size_t count, plan::DType dtype,
                   plan::ReduceOp op) override {
    DISTC_TRY(inner_->allReduce(call, in, out, count, dtype, op));
    return pass(call, 2, count, dtype);
  }
  Status allGather(const CommCall &call, const void *in, size_t inCount, void *out, size_t outCount,
                   plan::DType dtype) override {
    DISTC_TRY(inner_->allGather(call, in, inCount, out, outCount, dtype));
    return pass(call, 1, outCount, dtype);
  }
  Status reduceScatter(const CommCall &call, const void *in, size_t inCount, void *out, size_t outCount,
                       plan::DType dtype, plan::ReduceOp op) override {
    DISTC_TRY(inner_->reduceScatter(call, in, inCount, out, outCount, dtype, op));
    return pass(call, 1, inCount, dtype);
  }
  Status send(const CommCall &call, uint32_t peer, const void *in, size_t count, plan::DType dtype) override {
    return inner_->send(call, peer, in, count, dtype);
  }
  Status recv(const CommCall &call, uint32_t peer, void *out, size_t count, plan::DType dtype) override {
    return inner_->recv(call, peer, out, count, dtype);
  }
  Status connect() override { return inner_->connect(); }
  void disconnect() override { inner_->disconnect(); }
  Status settle(void *stream) override { return inner_->settle(stream); }
  Status wait(void *stream) override { return inner_->wait(stream); }
  void abort(const Status &failure) override { inner_->abort(failure); }
  Status failure() const override { return inner_->failure(); }

private:
  Status pass(const CommCall &call, double rounds, size_t count, plan::DType dtype) {
    using Clock = std::chrono::steady_clock;
    using Seconds = std::chrono::duration<double>;
    const auto n = static_cast<double>(members_[call.group]);
    if (n <= 1)
      return {};
    const double bytes = rounds * (n - 1) / n * double(count * dtypeBytes(dtype));
    constexpr double kSlice = .02; // how soon a failure is seen
    const Clock::time_point begin = Clock::now();
    for (double left = latencySeconds_ + bytes / bytesPerSecond_; left > 0;) {
      std::this_thread::sleep_for(Seconds(std::min(left, kSlice)));
      DISTC_TRY(inner_->failure());
      if (interrupted_ && interrupted_->load(std::memory_order_relaxed))
        return cancelled("interrupted");
      left = latencySeconds_ + bytes / bytesPerSecond_ - Seconds(Clock::now() - begin).count();
    }
    return {};
  }

  const std::unique_ptr<Communicator> inner_;
  const double latencySeconds_, bytesPerSecond_;
  const std::vector<size_t> members_; // by group
  const std::atomic<bool> *const interrupted_;
};

} // namespace

std::unique_ptr<Communicator> slowDown(std::unique_ptr<Communicator> inner, double latencySeconds,
                                       double bytesPerSecond, std::vector<size_t> members,
                                       const std::atomic<bool> *interrupted) {
  return std::make_unique<Slowed>(std::move(inner), latencySeconds, bytesPerSecond, std::move(members), interrupted);
}

} // namespace distc
