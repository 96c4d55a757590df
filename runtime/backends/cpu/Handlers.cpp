#include "runtime/backends/cpu/Handlers.h"

#include <array>

namespace distc::cpuHandlers {

namespace {

constexpr size_t kOps = static_cast<size_t>(plan::Op::MAX) + 1;

struct Table {
  std::array<Handler, kOps> handlers{};
  std::array<bool, kOps> known{}; // under UBSan a function's address is no constant to compare
};

constexpr Table makeTable() {
  Table table;
  auto set = [&](plan::Op op, Handler handler) {
    table.handlers[static_cast<size_t>(op)] = handler;
    table.known[static_cast<size_t>(op)] = true;
  };
  set(plan::Op::Embedding, embedding);
  set(plan::Op::RmsNorm, rmsNorm);
  set(plan::Op::Linear, linear);
  set(plan::Op::Rope, rope);
  set(plan::Op::KvAppend, kvAppend);
  set(plan::Op::Attention, attention);
  set(plan::Op::Add, add);
  set(plan::Op::Glu, glu);
  set(plan::Op::SelectRows, selectRows);
  set(plan::Op::TopCandidates, topCandidates);
  set(plan::Op::Sample, sample);
  set(plan::Op::AllReduce, allReduce);
  set(plan::Op::AllGather, allGather);
  set(plan::Op::ReduceScatter, reduceScatter);
  set(plan::Op::Send, send);
  set(plan::Op::Recv, recv);
  set(plan::Op::EmitIds, emitIds);
  set(plan::Op::EmitLogits, emitLogits);
  set(plan::Op::Scale, scale);
  set(plan::Op::SoftCap, softCap);
  set(plan::Op::SquareSum, squareSum);
  set(plan::Op::LayerNorm, layerNorm);
  set(plan::Op::Activate, activate);
  set(plan::Op::PositionEmbedding, positionEmbedding);
  set(plan::Op::Route, route);
  set(plan::Op::ExpertLinear, expertLinear);
  set(plan::Op::Combine, combine);
  return table;
}

constexpr Table kTable = makeTable();

constexpr bool complete() {
  for (size_t op = 1; op < kOps; ++op)
    if (!kTable.known[op])
      return false;
  return true;
}
static_assert(complete(), "an op of the schema has no handler");

} // namespace

Handler handlerOf(plan::Op op) { return kTable.handlers[static_cast<size_t>(op)]; }

} // namespace distc::cpuHandlers
