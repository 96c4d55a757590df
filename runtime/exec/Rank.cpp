#include "runtime/exec/Rank.h"

#include "runtime/base/System.h"

#include <new>
#include <string>

namespace distc {

namespace {

bool communicates(plan::Op op) {
  return op == plan::Op::AllReduce || op == plan::Op::AllGather || op == plan::Op::ReduceScatter ||
         op == plan::Op::Send || op == plan::Op::Recv;
}

} // namespace

Rank::Rank(const plan::Plan &plan, std::unique_ptr<Communicator> communicator, const RankOptions &options)
    : plan_(plan), communicator_(std::move(communicator)), options_(options), thread_([this] { loop(); }) {}

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
  prepare();
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
      status = resourceExhausted("rank " + std::to_string(plan_.mesh()->rank()) + ": out of memory");
    }
    // Whoever waits for this rank learns of it, and everyone returns the failure that came first.
    if (!status.ok()) {
      communicator_->abort(status);
      status = communicator_->failure();
    }
    lock.lock();
    result_ = std::move(status);
    changed_.notify_all();
  }
  lock.unlock();
  communicator_->disconnect();
  backend_.reset();
  pool_.reset();
}

void Rank::prepare() {
  for (const plan::Program *program : *plan_.programs()) {
    std::vector<Instruction> &instructions = programs_.emplace_back();
    instructions.reserve(program->instructions()->size());
    const auto *labels = program->labels();
    for (uint32_t i = 0; i < program->instructions()->size(); ++i) {
      const plan::Instruction &instruction = *program->instructions()->Get(i);
      const std::string_view label = labels && i < labels->size() ? labels->Get(i)->string_view() : "";
      instructions.push_back(
          {instruction.op_type(), instruction.queue(), instruction.id(), i, &instruction, instruction.op(), label});
    }
  }
}

void Rank::startLoad(const SourceFiles &files, const LoadOptions &options) {
  start([this, &files, &options] { return load(files, options); });
}

void Rank::startStep(uint32_t program, const StepInput &input, StepOutput &output) {
  start([this, program, &input, &output] { return step(program, input, output); });
}

Status Rank::load(const SourceFiles &files, const LoadOptions &options) {
  DISTC_TRY(communicator_->connect());
  backend_ = createBackend(plan_, options_.device, *communicator_, *pool_);
  return backend_->load(files, options);
}

// One thread walks both queues: the order of the program is a valid order (runtime/schema/plan.fbs, Instruction), so
// events need no waiting. This is the only place that relies on it.
Status Rank::step(uint32_t program, const StepInput &input, StepOutput &output) {
  const std::string rank = "rank " + std::to_string(plan_.mesh()->rank());
  DISTC_TRY(backend_->begin(program, input, output).context(rank));
  for (const Instruction &instruction : programs_[program]) {
    if (options_.interrupted && options_.interrupted->load(std::memory_order_relaxed))
      return cancelled("interrupted");
    DISTC_TRY(communicator_->failure()); // another rank's: ours would not be used
    DISTC_TRY(execute(instruction));
  }
  return backend_->end().context(rank);
}

Status Rank::execute(const Instruction &instruction) {
  Status status;
  if (options_.trace) {
    const auto begin = RankTrace::Clock::now();
    status = backend_->execute(instruction);
    options_.trace->add(instruction, begin, RankTrace::Clock::now(), backend_->bytesOf(instruction));
  } else {
    status = backend_->execute(instruction);
  }
  if (status.ok() || communicates(instruction.op)) // the communicator says where, perhaps on another rank
    return status;
  return status.context("rank " + std::to_string(plan_.mesh()->rank()) + ": instruction " +
                        std::to_string(instruction.id) + " (" + std::string(instruction.label) +
                        "): " + EnumNameOp(instruction.op));
}

} // namespace distc
