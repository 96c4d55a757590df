// Collectives, sends and receives without their counterpart, and ranks that wait for each other.
#include "Mutants.h"

namespace distc::test {
namespace {

std::vector<Mutant> mutants() {
  return {
      {"CollectiveOfAnotherOp",
       "collective-mismatch",
       {"(sum)", "(max)"},
       [](ValidSet &s) { s.op<plan::AllReduceT>(1, 0, "o.reduce").op = plan::ReduceOp::Max; }},
      {"CollectivesOutOfSequence",
       "collective-mismatch",
       {"number 3", "expected 2"},
       [](ValidSet &s) {
         std::swap(s.op<plan::AllReduceT>(1, 0, "o.reduce").sequence,
                   s.op<plan::AllReduceT>(1, 0, "down.reduce").sequence);
       }},
      {"CollectiveMissingOnOneRank",
       "collective-mismatch",
       {"AllReduce, down.reduce", "AllGather, gather"},
       [](ValidSet &s) { removeOp(s, 3, 0, "down.reduce"); }},
      {"LastCollectiveMissingOnOneRank",
       "collective-mismatch",
       {"no counterpart"},
       [](ValidSet &s) { removeOp(s, 1, 0, "down.reduce"); }},
      {"SendWithoutReceive",
       "send-recv-mismatch",
       {"rank 2 sends 2 times", "receives 1 times"},
       [](ValidSet &s) {
         plan::ProgramT &p = *s.rank(2).programs[0];
         auto again = std::make_unique<plan::InstructionT>();
         again->id = 1000;
         again->queue = 1;
         plan::SendT send = s.op<plan::SendT>(2, 0, "ids");
         send.sequence = 1;
         again->op.Set(std::move(send));
         p.instructions.push_back(std::move(again));
         p.labels.push_back("ids.again");
       }},
      {"ReceiveOfAnotherNumber",
       "send-recv-mismatch",
       {"number 0 from rank 0 to rank 2"},
       [](ValidSet &s) { s.op<plan::RecvT>(2, 0, "boundary").sequence = 1; }},
      {"DeadlockByOrder",
       "deadlock",
       {"wait for ever", "waits for"},
       [](ValidSet &s) {
         // Stage 0 waits for the ids before it sends what they are made from.
         for (uint32_t r : {0u, 1u}) {
           move(s, r, 0, s.op<plan::RecvT>(r, 0, "ids").out, s.rank(r).programs[0]->arena_bytes / 16 * 16 + 16);
           swapInstructions(*s.rank(r).programs[0], s.place(r, 0, "boundary"), s.place(r, 0, "ids"));
         }
       }},
  };
}

INSTANTIATE_TEST_SUITE_P(Communication, Mutants, testing::ValuesIn(mutants()), nameOf);

} // namespace
} // namespace distc::test
