#include "runtime/backends/cuda/QueueStreams.h"

#include "runtime/plan/Queues.h"

#include <algorithm>

namespace distc {

QueueStreams::~QueueStreams() {
  for (cudaEvent_t event : events_)
    (void)cudaEventDestroy(event);
  for (cudaEvent_t event : clocks_)
    (void)cudaEventDestroy(event);
  for (cudaEvent_t event : inGraphs_)
    (void)cudaEventDestroy(event);
  for (cudaEvent_t event : {between_, begun_})
    if (event)
      (void)cudaEventDestroy(event);
}

Status QueueStreams::create(bool traced) {
  traced_ = traced;
  uint32_t events = 0;
  for (const plan::Program *program : *plan_.programs()) {
    isOverlapped_.push_back(isOverlapped(*program));
    if (isOverlapped_.back())
      events = std::max(events, program->events());
  }
  DISTC_TRY(communication_.create());
  auto make = [](cudaEvent_t &event) {
    return cuda::check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "create an event");
  };
  DISTC_TRY(make(between_));
  DISTC_TRY(cuda::check(cudaEventCreate(&begun_), "create an event"));
  events_.resize(events, nullptr);
  for (cudaEvent_t &event : events_)
    DISTC_TRY(make(event));
  return {};
}

Status QueueStreams::order(cudaStream_t first, cudaStream_t then) {
  DISTC_TRY(cuda::check(cudaEventRecord(between_, first), "record an event"));
  return cuda::check(cudaStreamWaitEvent(then, between_, 0), "order streams");
}

Status QueueStreams::begin(uint32_t program, bool first) {
  overlapped_ = isOverlapped_[program];
  if (!first)
    return {};
  timed_.clear();
  usedClocks_ = 0;
  return traced_ ? cuda::check(cudaEventRecord(begun_, compute_), "record an event") : Status();
}

Status QueueStreams::fork() { return overlapped_ ? order(compute_, communication_) : Status(); }
Status QueueStreams::join() { return overlapped_ ? order(communication_, compute_) : Status(); }

Status QueueStreams::before(uint32_t slot, const Instruction &instruction, std::span<const Instruction> parts) {
  const cudaStream_t stream = this->stream(instruction);
  if (overlapped_)
    for (const Instruction &part : parts)
      if (const auto *waits = part.record->waits())
        for (uint32_t event : *waits)
          DISTC_TRY(cuda::check(cudaStreamWaitEvent(stream, events_[event], 0), "order streams"));
  if (traced_) {
    DISTC_ASSIGN(cudaEvent_t const begin, clock(stream));
    timed_.push_back({&instruction, slot, begin, begin});
  }
  return {};
}

Status QueueStreams::after(const Instruction &instruction, std::span<const Instruction> parts) {
  const cudaStream_t stream = this->stream(instruction);
  if (traced_) {
    DISTC_ASSIGN(timed_.back().end, clock(stream));
  }
  if (overlapped_)
    for (const Instruction &part : parts)
      if (const int32_t event = part.record->signal(); event >= 0)
        DISTC_TRY(cuda::check(cudaEventRecord(events_[size_t(event)], stream), "record an event"));
  return {};
}

// An event that takes the time when the stream comes to it.
Result<cudaEvent_t> QueueStreams::clock(cudaStream_t stream) {
  std::vector<cudaEvent_t> &clocks = capturing_ ? inGraphs_ : clocks_;
  if (capturing_ || usedClocks_ == clocks_.size()) {
    cudaEvent_t event = nullptr;
    DISTC_TRY(cuda::check(cudaEventCreate(&event), "create an event"));
    clocks.push_back(event);
  }
  cudaEvent_t const event = capturing_ ? clocks.back() : clocks[usedClocks_++];
  DISTC_TRY(cuda::check(
      cudaEventRecordWithFlags(event, stream, capturing_ ? cudaEventRecordExternal : cudaEventRecordDefault),
      "record an event"));
  return event;
}

void QueueStreams::beginCapture() {
  capturing_ = true;
  captured_ = timed_.size();
}

std::vector<QueueStreams::Timed> QueueStreams::endCapture() {
  capturing_ = false;
  return {timed_.begin() + static_cast<std::ptrdiff_t>(captured_), timed_.end()};
}

void QueueStreams::replayed(std::span<const Timed> captured) {
  timed_.insert(timed_.end(), captured.begin(), captured.end());
}

Result<std::vector<Backend::Time>> QueueStreams::times() const {
  std::vector<Backend::Time> times;
  auto seconds = [&](cudaEvent_t event) -> Result<double> {
    float milliseconds = 0;
    DISTC_TRY(cuda::check(cudaEventElapsedTime(&milliseconds, begun_, event), "read the time"));
    return milliseconds / 1e3;
  };
  for (const Timed &timed : timed_) {
    DISTC_ASSIGN(const double begin, seconds(timed.begin));
    DISTC_ASSIGN(const double end, seconds(timed.end));
    times.push_back({timed.instruction, timed.slot, begin, end});
  }
  return times;
}

} // namespace distc
