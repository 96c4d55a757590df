// What goes wrong over time: events, order, values in one place.
#include "Mutants.h"

namespace distc::test {
namespace {

std::vector<Mutant> mutants() {
  return {
      {"ReadBeforeWrite",
       "read-before-write",
       {"Linear, k"},
       [](ValidSet &s) { s.op<plan::LinearT>(0, 0, "k").input = s.op<plan::AddT>(0, 0, "add1").out; }},
      {"MissingWait",
       "unordered-access",
       {"expected an event"},
       [](ValidSet &s) { s.instruction(0, 0, "add1").waits.clear(); }},
      {"LiveValuesOverlap",
       "buffer-overlap",
       {"overlap"},
       [](ValidSet &s) {
         move(s, 0, 0, s.op<plan::LinearT>(0, 0, "k").out,
              s.rank(0).programs[0]->buffers[s.op<plan::LinearT>(0, 0, "q").out].offset());
       }},
      {"LinearInPlace",
       "in-place",
       {"Linear, q"},
       [](ValidSet &s) {
         move(s, 0, 0, s.op<plan::LinearT>(0, 0, "o").out,
              s.rank(0).programs[0]->buffers[s.op<plan::LinearT>(0, 0, "o").input].offset());
         move(s, 0, 0, s.op<plan::LinearT>(0, 0, "q").out,
              s.rank(0).programs[0]->buffers[s.op<plan::LinearT>(0, 0, "q").input].offset());
       }},
      {"InPlaceAtAnotherOffset",
       "in-place",
       {"Add, add1"},
       [](ValidSet &s) {
         const auto &add = s.op<plan::AddT>(0, 0, "add1");
         const auto &buffers = s.rank(0).programs[0]->buffers;
         move(s, 0, 0, add.out, buffers[add.out].offset() + 16);
       }},
      {"ComputeOnTheOtherQueue",
       "queue",
       {"Add", "on queue 1, expected 0"},
       [](ValidSet &s) { s.rank(0).programs[0]->instructions[s.place(0, 0, "add1")]->queue = 1; }},
      {"CollectiveAmongComputation",
       "queue",
       {"AllReduce", "on queue 0, expected 1"},
       [](ValidSet &s) { s.rank(0).programs[0]->instructions[s.place(0, 0, "embed.reduce")]->queue = 0; }},
      {"AttentionBeforeAppend",
       "kv-order",
       {"layer 1"},
       [](ValidSet &s) {
         swapInstructions(*s.rank(2).programs[1], s.place(2, 1, "append"), s.place(2, 1, "attention"));
       }},
      {"NoAppend", "kv-order", {"appended by 0"}, [](ValidSet &s) { removeOp(s, 2, 1, "append"); }},
  };
}

INSTANTIATE_TEST_SUITE_P(Memory, Mutants, testing::ValuesIn(mutants()), nameOf);

} // namespace
} // namespace distc::test
