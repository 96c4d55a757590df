// Trace: what every rank did when, as Chrome trace JSON (chrome://tracing, ui.perfetto.dev).
#pragma once

#include "distc/Status.h"
#include "runtime/backends/Backend.h"

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace distc {

/// The instructions of one queue of one micro-batch slot of a rank. Written to by one thread at a time.
class RankTrace {
public:
  using Clock = std::chrono::steady_clock;

  explicit RankTrace(Clock::time_point origin) : origin_(origin) {}

  /// `step`: StepInput::step.
  void add(uint64_t step, const Instruction &instruction, Clock::time_point begin, Clock::time_point end,
           uint64_t bytes);

private:
  friend class Trace;
  struct Event {
    const Instruction *instruction;
    uint64_t step;
    int64_t begin, end; // nanoseconds from the origin
    uint64_t bytes;
  };
  // 48 bytes each: a forgotten trace of a long run must not eat the memory.
  static constexpr size_t kMaxEvents = 4'000'000;

  Clock::time_point origin_;
  std::vector<Event> events_;
  uint64_t dropped_ = 0;
};

/// The file: one process per rank, one track per micro-batch slot and queue, an event per instruction with its step,
/// id, label and bytes.
class Trace {
public:
  explicit Trace(std::string path) : path_(std::move(path)) {}

  /// Track 2 · slot + queue of rank `rank`; lives as long as this. Not while another thread makes one.
  RankTrace &track(uint32_t rank, uint32_t track);
  /// Atomically. Instructions that were traced must still be alive.
  Status write() const;

private:
  const std::string path_;
  const RankTrace::Clock::time_point origin_ = RankTrace::Clock::now();
  std::map<std::pair<uint32_t, uint32_t>, std::unique_ptr<RankTrace>> tracks_; // by rank and track
};

} // namespace distc
