#include "runtime/plan/Queues.h"

#include <algorithm>
#include <cstddef>
#include <map>

namespace distc {

namespace {

bool blocks(plan::Op op) { // a send does not wait for its receiver
  return op == plan::Op::AllReduce || op == plan::Op::AllGather || op == plan::Op::ReduceScatter ||
         op == plan::Op::Recv;
}

} // namespace

bool isOverlapped(const plan::Program &program) {
  std::map<uint32_t, size_t> begunBefore; // by event: how many communications are done when it is signalled
  size_t begun = 0, done = 0;
  for (const plan::Instruction *instruction : *program.instructions()) {
    if (instruction->queue() != 0) {
      begun += blocks(instruction->op_type());
      if (instruction->signal() >= 0)
        begunBefore[static_cast<uint32_t>(instruction->signal())] = begun;
      continue;
    }
    if (instruction->waits())
      for (uint32_t event : *instruction->waits())
        if (auto found = begunBefore.find(event); found != begunBefore.end())
          done = std::max(done, found->second);
    if (done != begun)
      return true;
  }
  return false;
}

} // namespace distc
