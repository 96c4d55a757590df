#include "runtime/exec/Rank.h"

#include "runtime/base/System.h"

#include <new>
#include <string>
#include <system_error>

namespace distc {

Rank::Rank(const plan::Plan &plan, Communicators communicators, const RankOptions &options)
    : plan_(plan), communicators_(std::move(communicators)), options_(options) {
  for (const plan::Program *program : *plan.programs())
    programs_.emplace_back(*program);
  if (options.trace)
    for (const plan::Program *program : *plan.programs())
      for (auto track = static_cast<uint32_t>(traces_.size()); track < 2u * program->micro_batches(); ++track)
        traces_.push_back(&options.trace->track(plan.mesh()->rank(), track));
  thread_ = std::thread([this] { loop(); });
}

Rank::~Rank() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Rank::start(std::function<Status()> work) {
  {
    std::lock_guard lock(mutex_);
    work_ = std::move(work);
    result_.reset();
  }
  changed_.notify_all();
}

std::optional<Status> Rank::wait(double forSeconds) {
  std::unique_lock lock(mutex_);
  auto done = [this] { return result_.has_value(); };
  if (forSeconds > 0)
    changed_.wait_for(lock, std::chrono::duration<double>(forSeconds), done);
  else
    changed_.wait(lock, done);
  return result_;
}

void Rank::loop() {
  if (!options_.threads.cores.empty())
    pinThisThread(options_.threads.cores[0]);
  pool_ = std::make_unique<ThreadPool>(options_.threads);
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || work_; });
    if (!work_)
      break; // work that was started is finished even when the rank is to end
    std::function<Status()> work = std::exchange(work_, nullptr);
    lock.unlock();
    Status status;
    try {
      status = work();
    } catch (const std::bad_alloc &) {
      status = resourceExhausted(name() + ": out of memory");
    }
    // Whoever waits for this rank learns of it, and everyone returns the failure that came first.
    if (!status.ok()) {
      abort(status);
      status = communicators_[0]->failure();
    }
    lock.lock();
    result_ = std::move(status);
    changed_.notify_all();
  }
  lock.unlock();
  for (const auto &communicator : communicators_)
    communicator->disconnect();
  backend_.reset();
  pool_.reset();
}

void Rank::startLoad(const SourceFiles &files, const LoadOptions &options) {
  start([this, &files, &options] { return load(files, options); });
}

void Rank::startStep(uint32_t program, std::vector<MicroBatch> microBatches) {
  start([this, program, batches = std::move(microBatches)] { return step(program, batches); });
}

Status Rank::load(const SourceFiles &files, const LoadOptions &options) {
  for (const auto &communicator : communicators_)
    DISTC_TRY(communicator->connect());
  backend_ = createBackend(plan_, options_.device, communicators_, *pool_);
  return backend_->load(files, options);
}

Status Rank::step(uint32_t program, const std::vector<MicroBatch> &microBatches) {
  const WalkProgram &walked = programs_[program];
  const auto slots = static_cast<uint32_t>(microBatches.size());
  step_ = microBatches[0].input->step;
  auto begin = [&](uint32_t slot, const MicroBatch &batch) {
    return backend_->begin(slot, program, *batch.input, *batch.output).context(name());
  };
  const size_t count = walked.instructions.size();
  if (!backend_->isConcurrent() && !options_.observer) {
    // A device works on one micro-batch while the next is queued. What comes back from other stages, and only then, is
    // waited for behind all of them.
    RankTrace::Clock::time_point begun{};
    for (uint32_t slot = 0; slot < slots; ++slot) {
      DISTC_TRY(begin(slot, microBatches[slot]));
      begun = slot == 0 ? RankTrace::Clock::now() : begun;
      DISTC_TRY(walkAlone(slot, program, 0, walked.comesBack));
    }
    for (uint32_t slot = 0; slot < slots; ++slot)
      DISTC_TRY(walkAlone(slot, program, walked.comesBack, count));
    for (uint32_t slot = 0; slot < slots; ++slot)
      DISTC_TRY(end(slot));
    return traces_.empty() ? Status() : traceDevice(begun).context(name());
  }
  // Who observes wants one thing after the other.
  if (options_.observer || (slots == 1 && !walked.overlapped)) {
    for (const MicroBatch &batch : microBatches) {
      DISTC_TRY(begin(0, batch));
      DISTC_TRY(walkAlone(0, program, 0, count));
      DISTC_TRY(end(0));
    }
    return {};
  }
  for (uint32_t slot = 0; slot < slots; ++slot)
    DISTC_TRY(begin(slot, microBatches[slot]));
  return walkTogether(walked, slots);
}

// One thread walks both queues: the order of the program is a valid order (runtime/schema/plan.fbs, Instruction), so
// events need no waiting.
Status Rank::walkAlone(uint32_t slot, uint32_t program, size_t first, size_t end) {
  for (size_t i = first; i < end; ++i) {
    const Instruction &instruction = programs_[program].instructions[i];
    DISTC_TRY(execute(slot, instruction));
    if (options_.observer)
      DISTC_TRY(options_.observer
                    ->executed(plan_, program, instruction.index, [this](uint32_t b) { return backend_->read(b); })
                    .context(name()));
  }
  return {};
}

Status Rank::walkTogether(const WalkProgram &program, uint32_t slots) {
  Walk walk(program, slots,
            {[this](uint32_t slot, const Instruction &instruction) { return execute(slot, instruction); },
             [this](uint32_t slot) { return end(slot); }, [this](const Status &failure) { abort(failure); }});
  std::vector<std::thread> threads;
  try {
    for (uint32_t lane = 1; lane < walk.lanes(); ++lane)
      threads.emplace_back([this, &walk, lane] {
        // Not on the core of the thread that starts it: one lane computes while others wait for messages.
        pinThisThread(allCores_);
        walk.run(lane);
      });
  } catch (const std::system_error &error) {
    walk.fail(resourceExhausted(name() + ": cannot start a thread for each of " + std::to_string(slots) +
                                " micro-batches: " + error.what()));
  }
  walk.run(0);
  for (std::thread &thread : threads)
    thread.join();
  return walk.status();
}

Status Rank::execute(uint32_t slot, const Instruction &instruction) {
  if (options_.interrupted && options_.interrupted->load(std::memory_order_relaxed))
    return cancelled("interrupted");
  DISTC_TRY(communicators_[0]->failure()); // another rank's: ours would not be used
  Status status;
  if (!traces_.empty() && backend_->isConcurrent()) {
    const auto begin = RankTrace::Clock::now();
    status = backend_->execute(slot, instruction);
    traces_[2 * slot + instruction.queue]->add(step_, instruction, begin, RankTrace::Clock::now(),
                                               backend_->bytesOf(slot, instruction));
  } else {
    status = backend_->execute(slot, instruction);
  }
  if (status.ok() || instruction.queue != 0) // the communicator says where, perhaps on another rank
    return status;
  return status.context(name() + ": instruction " + std::to_string(instruction.id) + " (" +
                        std::string(instruction.label) + "): " + EnumNameOp(instruction.op));
}

Status Rank::traceDevice(RankTrace::Clock::time_point begun) {
  DISTC_ASSIGN(const std::vector<Backend::Time> times, backend_->times());
  const auto at = [&](double seconds) { return begun + std::chrono::nanoseconds(int64_t(seconds * 1e9)); };
  for (const Backend::Time &time : times)
    traces_[2 * time.slot + time.instruction->queue]->add(step_, *time.instruction, at(time.begin), at(time.end),
                                                          backend_->bytesOf(time.slot, *time.instruction));
  return {};
}

Status Rank::end(uint32_t slot) { return backend_->end(slot).context(name()); }

} // namespace distc
