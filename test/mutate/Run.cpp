#include "test/mutate/Run.h"

#include "runtime/base/File.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace distc::mutate {

namespace {

struct Sequence {
  std::vector<int32_t> tokens; // of the prompt, that are not in the cache
  int32_t next = 1;            // what was sampled last
  int32_t done = 0;
  std::vector<int32_t> blocks;
};

/// The steps, and all that comes out of them.
class Steps {
public:
  Steps(Runner &runner, const PlanSetInfo &shape) : runner_(runner), info_(shape), random_(7) {}

  Status run() {
    const uint32_t count = std::min<uint32_t>(info_.maxBatch, 5), longest = std::min<uint32_t>(info_.maxSequence, 40);
    const uint32_t each = std::min(info_.blocksPerSequence, (longest + 8) / info_.kvBlockTokens + 1);
    for (uint32_t s = 0; s < count && (s + 1) * each <= info_.kvBlocks; ++s) {
      Sequence &sequence = sequences_.emplace_back();
      sequence.blocks.assign(info_.blocksPerSequence, -1);
      for (uint32_t b = 0; b < each; ++b)
        sequence.blocks[b] = static_cast<int32_t>(info_.kvBlocks - 1 - s * each - b);
      const uint32_t lengths[] = {11, 1, longest - 8, 3, 17};
      for (uint32_t i = 0; i < std::min(lengths[s], longest - 8); ++i)
        sequence.tokens.push_back(static_cast<int32_t>(random_.below(info_.vocabulary)));
    }
    // All that there is, in steps and micro-batches as full as they may be; a sequence goes on in the next.
    while (prefill())
      DISTC_TRY(step());
    for (int i = 0; i < 4; ++i) {
      decode();
      DISTC_TRY(step());
    }
    return {};
  }
  uint64_t bits() const { return hash_; }

private:
  bool prefill() {
    batches_.clear();
    for (uint32_t m = 0; m < info_.prefill.microBatches; ++m) {
      Batch batch;
      batch.sequenceStarts = {0};
      for (size_t s = 0; s < sequences_.size(); ++s) {
        Sequence &sequence = sequences_[s];
        const size_t left = info_.prefill.maxTokens - batch.tokens.size(),
                     take = std::min(left, sequence.tokens.size());
        if (take == 0 || batch.sequenceStarts.size() > info_.prefill.maxSequences)
          continue;
        add(batch, s, take, batch.outputs.size() < info_.prefill.maxOutputs);
      }
      if (!batch.tokens.empty())
        batches_.push_back(std::move(batch));
    }
    return !batches_.empty();
  }

  void decode() {
    batches_.clear();
    const size_t parts = std::min<size_t>(info_.decode.microBatches, sequences_.size());
    for (size_t m = 0; m < parts; ++m) {
      Batch &batch = batches_.emplace_back();
      batch.decode = true;
      batch.sequenceStarts = {0};
      for (size_t s = m; s < sequences_.size() && batch.tokens.size() < info_.decode.maxTokens; s += parts) {
        sequences_[s].tokens = {sequences_[s].next};
        add(batch, s, 1, true);
      }
    }
  }

  void add(Batch &batch, size_t s, size_t take, bool output) {
    Sequence &sequence = sequences_[s];
    for (size_t i = 0; i < take; ++i) {
      batch.tokens.push_back(sequence.tokens[i]);
      batch.positions.push_back(sequence.done++);
    }
    sequence.tokens.erase(sequence.tokens.begin(), sequence.tokens.begin() + static_cast<std::ptrdiff_t>(take));
    batch.sequenceStarts.push_back(static_cast<int32_t>(batch.tokens.size()));
    batch.blockTable.insert(batch.blockTable.end(), sequence.blocks.begin(), sequence.blocks.end());
    batch.wantLogits = true;
    if (!output)
      return;
    batch.outputs.push_back(static_cast<int32_t>(batch.tokens.size()) - 1);
    const Sampling kinds[] = {{}, {.8f, 1, 0, 3}, {1.1f, .9f, 5, 4}};
    batch.sampling.push_back(kinds[s % 3]);
    owners_.push_back(s); // batches are made in the order in which their outputs are handed back
  }

  Status step() {
    DISTC_ASSIGN(const std::vector<StepResult> results, runner_.step(batches_));
    size_t output = 0;
    for (const StepResult &result : results) {
      mix(result.ids.data(), result.ids.size() * sizeof(int32_t));
      mix(result.logits.data(), result.logits.size() * sizeof(float));
      for (int32_t id : result.ids)
        sequences_[owners_[output++]].next = id;
    }
    owners_.clear();
    return {};
  }

  void mix(const void *data, size_t size) {
    const uint64_t parts[] = {hash_, hashBytes({static_cast<const std::byte *>(data), size})};
    hash_ = hashBytes(std::as_bytes(std::span(parts)));
  }

  Runner &runner_;
  const PlanSetInfo info_;
  Random random_;
  std::vector<Sequence> sequences_;
  std::vector<Batch> batches_;
  std::vector<size_t> owners_; // of the outputs of the step, in order
  uint64_t hash_ = 0;
};

Outcome runHere(const std::string &folder, const PlanSetInfo &shape) {
  RunnerOptions options;
  options.threadsPerRank = 1;
  options.timeoutSeconds = 30; // machines are shared
  auto runner = Runner::open(folder, options);
  if (!runner.ok())
    return {Ending::Refused, 0, runner.status().message()};
  Steps steps(**runner, shape);
  const Status status = steps.run();
  if (status.ok())
    return {Ending::Done, steps.bits(), {}};
  return {status.code() == Code::InvalidArgument ? Ending::Refused : Ending::Failed, 0, status.message()};
}

} // namespace

void write(const Payloads &payloads, const std::string &folder) {
  std::filesystem::create_directories(folder);
  const uint64_t hash = planSetHash(payloads);
  for (uint32_t rank = 0; rank < payloads.size(); ++rank) {
    const std::vector<uint8_t> bytes = framePayload(payloads[rank], hash);
    std::ofstream out(std::filesystem::path(folder) / planFileName(rank), std::ios::binary);
    out.write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
}

Outcome run(const std::string &folder, const PlanSetInfo &shape, double seconds) {
  int ends[2];
  if (::pipe(ends) != 0)
    return {Ending::Died, 0, "no pipe"};
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    const rlimit memory{uint64_t(8) << 30, uint64_t(8) << 30}, core{0, 0};
    ::setrlimit(RLIMIT_AS, &memory);
    ::setrlimit(RLIMIT_CORE, &core);
    const Outcome outcome = runHere(folder, shape);
    std::string bytes(1 + sizeof outcome.bits, 0);
    bytes[0] = static_cast<char>(outcome.ending);
    std::memcpy(bytes.data() + 1, &outcome.bits, sizeof outcome.bits);
    bytes += outcome.message;
    const bool written = ::write(ends[1], bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
    ::_exit(written ? 0 : 1);
  }
  ::close(ends[1]);
  std::string bytes;
  char buffer[4096];
  pollfd ready{ends[0], POLLIN, 0};
  const bool answered = ::poll(&ready, 1, static_cast<int>(seconds * 1000)) > 0;
  if (!answered)
    ::kill(child, SIGKILL);
  for (ssize_t n; answered && (n = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    bytes.append(buffer, static_cast<size_t>(n));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!answered)
    return {Ending::TimedOut, 0, "no end within its time"};
  if (bytes.size() < 9)
    return {Ending::Died, 0, WIFSIGNALED(status) ? "ended by signal " + std::to_string(WTERMSIG(status)) : "ended"};
  Outcome outcome{static_cast<Ending>(bytes[0]), 0, bytes.substr(9)};
  std::memcpy(&outcome.bits, bytes.data() + 1, sizeof outcome.bits);
  return outcome;
}

} // namespace distc::mutate
