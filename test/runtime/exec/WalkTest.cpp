// The order of a walk, over random programs of two queues: nothing starts before it may, and everything is done once.
#include "runtime/exec/Walk.h"

#include <gmock/gmock.h>

#include <random>
#include <thread>

namespace distc::test {
namespace {

struct Built {
  std::vector<uint8_t> bytes;
  const plan::Program &program() const { return *flatbuffers::GetRoot<plan::Program>(bytes.data()); }
};

// Instructions of both queues in a random order; some wait for events of earlier ones.
Built randomProgram(std::mt19937 &random, size_t size) {
  plan::ProgramT program;
  program.queues = 2;
  for (size_t i = 0; i < size; ++i) {
    auto instruction = std::make_unique<plan::InstructionT>();
    instruction->id = static_cast<uint32_t>(i);
    instruction->queue = random() % 2;
    if (instruction->queue == 0)
      instruction->op.Set(plan::AddT());
    else
      instruction->op.Set(plan::AllReduceT());
    for (uint32_t event = 0; event < program.events; ++event)
      if (random() % 4 == 0)
        instruction->waits.push_back(event);
    if (random() % 2 == 0)
      instruction->signal = static_cast<int32_t>(program.events++);
    program.instructions.push_back(std::move(instruction));
  }
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(plan::Program::Pack(builder, &program));
  return {{builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize()}};
}

Status runAll(Walk &walk) {
  std::vector<std::thread> threads;
  for (uint32_t lane = 0; lane < walk.lanes(); ++lane)
    threads.emplace_back([&walk, lane] { walk.run(lane); });
  for (std::thread &thread : threads)
    thread.join();
  return walk.status();
}

TEST(Walk, KeepsEveryOrder) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  size_t overlapped = 0;
  for (int round = 0; round < 200; ++round) {
    const Built built = randomProgram(random, 1 + random() % 12);
    const WalkProgram program(built.program());
    overlapped += program.overlapped;
    const uint32_t slots = 1 + random() % 4;
    const size_t size = program.instructions.size();
    std::mutex mutex;
    std::vector<std::vector<bool>> done(slots, std::vector<bool>(size));
    int computing = 0;
    std::vector<int> ends(slots);
    Walk walk(program, slots,
              {[&](uint32_t slot, const Instruction &instruction) -> Status {
                 const bool computes = instruction.queue == 0;
                 {
                   std::lock_guard lock(mutex);
                   EXPECT_FALSE(done[slot][instruction.index]);
                   for (size_t i = 0; i < instruction.index; ++i) // of its queue
                     EXPECT_TRUE(program.instructions[i].queue != instruction.queue || done[slot][i]);
                   if (const auto *waits = instruction.record->waits()) {
                     for (uint32_t event : *waits)
                       for (size_t i = 0; i < size; ++i)
                         EXPECT_TRUE(program.instructions[i].record->signal() != int32_t(event) || done[slot][i]);
                   }
                   if (computes) {
                     EXPECT_EQ(computing++, 0);
                     EXPECT_TRUE(slot == 0 || done[slot - 1][instruction.index]);
                   }
                 }
                 if (instruction.id % 3 == 0)
                   std::this_thread::sleep_for(std::chrono::microseconds(20));
                 std::lock_guard lock(mutex);
                 computing -= computes;
                 done[slot][instruction.index] = true;
                 return {};
               },
               [&](uint32_t slot) -> Status {
                 std::lock_guard lock(mutex);
                 ++ends[slot];
                 return {};
               },
               [](const Status &status) { ADD_FAILURE() << status.message(); }});
    EXPECT_TRUE(runAll(walk).ok());
    for (uint32_t slot = 0; slot < slots; ++slot) {
      EXPECT_EQ(done[slot], std::vector<bool>(size, true));
      EXPECT_EQ(ends[slot], 1);
    }
  }
  EXPECT_GT(overlapped, 20u);
}

TEST(Walk, AFailureEndsEveryLane) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 100; ++round) {
    const Built built = randomProgram(random, 3 + random() % 10);
    const WalkProgram program(built.program());
    const uint32_t slots = 1 + random() % 3, slot = random() % slots, id = random() % program.instructions.size();
    int told = 0;
    Walk walk(program, slots,
              {[&](uint32_t s, const Instruction &instruction) {
                 return s == slot && instruction.id == id ? internal("the reason") : Status();
               },
               [](uint32_t) { return Status(); }, [&](const Status &) { ++told; }});
    EXPECT_EQ(runAll(walk).message(), "the reason");
    EXPECT_EQ(told, 1);
  }
}

TEST(Walk, WhatAHookThrowsIsAFailure) {
  std::mt19937 random(1);
  const Built built = randomProgram(random, 8);
  const WalkProgram program(built.program());
  for (const bool atEnd : {false, true})
    for (const uint32_t slot : {0u, 2u}) {
      Walk walk(program, 3,
                {[&](uint32_t s, const Instruction &instruction) -> Status {
                   if (!atEnd && s == slot && instruction.id == 5)
                     throw std::bad_alloc();
                   return {};
                 },
                 [&](uint32_t s) -> Status {
                   if (atEnd && s == slot)
                     throw std::runtime_error("the end");
                   return {};
                 },
                 [](const Status &) {}});
      EXPECT_EQ(runAll(walk).message(), atEnd ? "the end" : "out of memory");
    }
}

// As when a thread for one of them cannot be started.
TEST(Walk, EndsFromOutside) {
  std::mt19937 random(1);
  const Built built = randomProgram(random, 8);
  const WalkProgram program(built.program());
  Walk walk(program, 3,
            {[](uint32_t, const Instruction &) { return Status(); }, [](uint32_t) { return Status(); },
             [](const Status &) {}});
  walk.fail(internal("no thread"));
  walk.run(2);
  EXPECT_EQ(walk.status().message(), "no thread");
}

// What attention of a micro-batch reads has been appended by the one before, by whichever chunk.
TEST(Walk, AttentionWaitsForAllAppends) {
  plan::ProgramT table; // chunks: append 0, attention 0, wait for a message, append 1
  const auto add = [&](auto op, uint8_t queue) {
    auto instruction = std::make_unique<plan::InstructionT>();
    instruction->id = static_cast<uint32_t>(table.instructions.size());
    instruction->queue = queue;
    instruction->op.Set(std::move(op));
    table.instructions.push_back(std::move(instruction));
  };
  add(plan::KvAppendT(), 0);
  add(plan::AttentionT(), 0);
  add(plan::RecvT(), 1);
  add(plan::KvAppendT(), 0);
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(plan::Program::Pack(builder, &table));
  const WalkProgram program(*flatbuffers::GetRoot<plan::Program>(builder.GetBufferPointer()));
  std::atomic<bool> appended{false};
  Walk walk(program, 2,
            {[&](uint32_t slot, const Instruction &instruction) -> Status {
               if (slot == 0 && instruction.id == 2)
                 std::this_thread::sleep_for(std::chrono::milliseconds(20));
               if (slot == 0 && instruction.id == 3)
                 appended = true;
               if (slot == 1 && instruction.id == 1) {
                 EXPECT_TRUE(appended);
               }
               return {};
             },
             [](uint32_t) { return Status(); }, [](const Status &) {}});
  EXPECT_TRUE(runAll(walk).ok());
}

// While a stage waits for its next message, it works on the next micro-batch; the first goes on as soon as it can.
TEST(Walk, TheLowestMicroBatchThatCanGoesOn) {
  plan::ProgramT table;
  for (uint32_t i = 0; i < 3; ++i) {
    auto instruction = std::make_unique<plan::InstructionT>();
    instruction->id = i;
    instruction->queue = i == 1;
    if (i == 1)
      instruction->op.Set(plan::RecvT());
    else
      instruction->op.Set(plan::AddT());
    if (i == 1)
      instruction->signal = 0;
    if (i == 2)
      instruction->waits = {0};
    table.instructions.push_back(std::move(instruction));
  }
  table.events = 1;
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(plan::Program::Pack(builder, &table));
  const WalkProgram program(*flatbuffers::GetRoot<plan::Program>(builder.GetBufferPointer()));
  EXPECT_FALSE(program.overlapped);
  std::vector<std::pair<uint32_t, uint32_t>> order; // slot and instruction of queue 0
  std::atomic<int> begun{0};
  Walk walk(program, 3,
            {[&](uint32_t slot, const Instruction &instruction) -> Status {
               if (instruction.queue == 0)
                 order.emplace_back(slot, instruction.id);
               if (instruction.id == 0)
                 ++begun;
               if (instruction.id == 1) // what is received comes when all have begun
                 while (begun < 3)
                   std::this_thread::yield();
               return {};
             },
             [](uint32_t) { return Status(); }, [](const Status &) {}});
  EXPECT_TRUE(runAll(walk).ok());
  using Pair = std::pair<uint32_t, uint32_t>;
  const std::vector<Pair> begins(order.begin(), order.begin() + 3);
  EXPECT_THAT(begins, ::testing::ElementsAre(Pair(0, 0), Pair(1, 0), Pair(2, 0)));
  EXPECT_EQ(order.size(), 6u);
  EXPECT_EQ(std::vector<Pair>(order.begin() + 3, order.end()), (std::vector<Pair>{{0, 2}, {1, 2}, {2, 2}}));
}

} // namespace
} // namespace distc::test
