#include "runtime/exec/Walk.h"

#include "runtime/plan/Queues.h"

#include <algorithm>
#include <exception>
#include <map>
#include <new>

namespace distc {

WalkProgram::WalkProgram(const plan::Program &program) : events(program.events()) {
  instructions.reserve(program.instructions()->size());
  const auto *labels = program.labels();
  for (uint32_t i = 0; i < program.instructions()->size(); ++i) {
    const plan::Instruction &instruction = *program.instructions()->Get(i);
    const std::string_view label = labels && i < labels->size() ? labels->Get(i)->string_view() : "";
    instructions.push_back(
        {instruction.op_type(), instruction.queue(), instruction.id(), i, &instruction, instruction.op(), label});
  }
  overlapped = isOverlapped(program);
  comesBack = instructions.size();
  for (const Instruction &instruction : instructions)
    if (instruction.op == plan::Op::Recv)
      comesBack = instruction.index;
  std::map<uint32_t, size_t> appended; // by cache: the last to append
  for (const Instruction &instruction : instructions)
    if (instruction.op == plan::Op::KvAppend)
      appended[instruction.as<plan::KvAppend>().cache()] = instruction.index;
  for (const Instruction &instruction : instructions) {
    const size_t last = instruction.op == plan::Op::Attention ? appended[instruction.as<plan::Attention>().cache()] : 0;
    after.push_back(std::max<size_t>(instruction.index, last));
  }
}

Walk::Walk(const WalkProgram &program, uint32_t slots, Hooks hooks)
    : program_(program), slots_(slots), hooks_(std::move(hooks)),
      state_(slots, Slot{std::vector<bool>(program.events, false)}) {}

bool Walk::signalled(const Slot &slot, const Instruction &instruction) const {
  const auto *waits = instruction.record->waits();
  return !waits || std::all_of(waits->begin(), waits->end(), [&](uint32_t event) { return slot.signalled[event]; });
}

bool Walk::inOrder(uint32_t slot, size_t instruction) const {
  return slot == 0 || state_[slot - 1].done > program_.after[instruction];
}

bool Walk::mayGo(uint32_t slot, size_t instruction) const {
  if ((turn_ != kNobody && turn_ != slot) || !inOrder(slot, instruction))
    return false;
  for (uint32_t before = 0; before < slot; ++before)
    if (state_[before].waits && inOrder(before, state_[before].next))
      return false;
  return true;
}

void Walk::giveUpTurn(uint32_t slot) {
  if (turn_ != slot)
    return;
  turn_ = kNobody;
  changed_.notify_all();
}

// Until the instruction may start; false: some lane has failed.
bool Walk::await(uint32_t slot, size_t index) {
  const Instruction &instruction = program_.instructions[index];
  const bool computes = instruction.queue == 0;
  std::unique_lock lock(mutex_);
  Slot &own = state_[slot];
  auto until = [&](auto ready) {
    if (!status_.ok() || ready())
      return;
    if (computes || !program_.overlapped)
      giveUpTurn(slot);
    changed_.wait(lock, [&] { return !status_.ok() || ready(); });
  };
  if (program_.overlapped) // else the order of the program is enough
    until([&] { return signalled(own, instruction); });
  if (!computes && !program_.overlapped)
    giveUpTurn(slot); // it may take long
  if (computes && slots_ > 1) {
    own.next = index;
    own.waits = true;
    until([&] { return mayGo(slot, index); });
    own.waits = false;
    turn_ = slot;
  }
  return status_.ok();
}

// What has been executed.
void Walk::note(uint32_t slot, size_t index) {
  std::lock_guard lock(mutex_);
  const Instruction &instruction = program_.instructions[index];
  if (instruction.queue == 0)
    state_[slot].done = index + 1;
  if (const int32_t event = instruction.record->signal(); event >= 0) {
    state_[slot].signalled[static_cast<size_t>(event)] = true;
    if (program_.overlapped)
      changed_.notify_all();
  }
}

void Walk::fail(const Status &status) {
  {
    std::lock_guard lock(mutex_);
    if (!status_.ok())
      return;
    status_ = status;
    changed_.notify_all();
  }
  hooks_.failed(status);
}

// An exception must not leave a thread, nor this while other lanes use it.
template <typename Hook> static Status guarded(Hook hook) {
  try {
    return hook();
  } catch (const std::bad_alloc &) {
    return resourceExhausted("out of memory");
  } catch (const std::exception &error) {
    return internal(error.what());
  }
}

void Walk::run(uint32_t lane) {
  const uint32_t slot = program_.overlapped ? lane / 2 : lane;
  const auto mine = [&](const Instruction &i) { return !program_.overlapped || i.queue == lane % 2; };
  const bool computes = !program_.overlapped || lane % 2 == 0, communicates = !program_.overlapped || lane % 2 == 1;
  for (size_t i = 0; i < program_.instructions.size(); ++i) {
    if (!mine(program_.instructions[i]))
      continue;
    if (!await(slot, i))
      return;
    if (Status status = guarded([&] { return hooks_.execute(slot, program_.instructions[i]); }); !status.ok())
      return fail(status);
    note(slot, i);
  }
  if (computes) { // there is no more of it to wait for
    std::lock_guard lock(mutex_);
    state_[slot].done = program_.instructions.size();
    if (turn_ == slot)
      turn_ = kNobody;
    changed_.notify_all();
  }
  if (communicates)
    if (Status status = guarded([&] { return hooks_.end(slot); }); !status.ok())
      fail(status);
}

} // namespace distc
