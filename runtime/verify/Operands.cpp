#include "runtime/verify/Operands.h"

namespace distc {

namespace {

struct Collector {
  Operands operands;

  Collector &in(const char *name, uint32_t buffer) { return add(name, buffer, false); }
  Collector &out(uint32_t buffer) { return add("out", buffer, true); }
  Collector &add(const char *name, uint32_t buffer, bool write) {
    operands.list[operands.count++] = {name, buffer, write};
    return *this;
  }
  template <typename T> Collector &collective(const T &op) {
    operands.group = op.group();
    operands.sequence = op.sequence();
    return *this;
  }
};

} // namespace

bool isKnownOp(plan::Op op) { return op > plan::Op::NONE && op <= plan::Op::MAX; }

bool isInPlaceOp(plan::Op op) {
  return op == plan::Op::Add || op == plan::Op::Glu || op == plan::Op::Rope || op == plan::Op::RmsNorm ||
         op == plan::Op::AllReduce || op == plan::Op::Scale || op == plan::Op::SoftCap || op == plan::Op::LayerNorm ||
         op == plan::Op::Activate || op == plan::Op::PositionEmbedding;
}

bool isCollective(plan::Op op) {
  return op == plan::Op::AllReduce || op == plan::Op::AllGather || op == plan::Op::ReduceScatter;
}

Operands operandsOf(const plan::Instruction &instruction) {
  Collector c;
  switch (instruction.op_type()) {
  case plan::Op::NONE:
    break;
  case plan::Op::Embedding: {
    const auto &op = *instruction.op_as_Embedding();
    c.operands.weight = op.weight();
    c.out(op.out());
    break;
  }
  case plan::Op::RmsNorm: {
    const auto &op = *instruction.op_as_RmsNorm();
    c.operands.weight = op.weight();
    c.in("input", op.input());
    if (op.squares() != -1)
      c.in("squares", static_cast<uint32_t>(op.squares()));
    c.out(op.out());
    break;
  }
  case plan::Op::Linear: {
    const auto &op = *instruction.op_as_Linear();
    c.operands.weight = op.weight();
    c.operands.bias = op.bias();
    c.in("input", op.input()).out(op.out());
    break;
  }
  case plan::Op::Rope: {
    const auto &op = *instruction.op_as_Rope();
    c.operands.table = op.table();
    c.in("input", op.input()).out(op.out());
    break;
  }
  case plan::Op::KvAppend: {
    const auto &op = *instruction.op_as_KvAppend();
    c.operands.cache = op.cache();
    c.in("k", op.k()).in("v", op.v());
    break;
  }
  case plan::Op::Attention: {
    const auto &op = *instruction.op_as_Attention();
    c.operands.cache = op.cache();
    c.in("q", op.q()).out(op.out());
    break;
  }
  case plan::Op::Add: {
    const auto &op = *instruction.op_as_Add();
    c.in("a", op.a()).in("b", op.b()).out(op.out());
    break;
  }
  case plan::Op::Glu: {
    const auto &op = *instruction.op_as_Glu();
    c.in("gate", op.gate()).in("up", op.up()).out(op.out());
    break;
  }
  case plan::Op::SelectRows: {
    const auto &op = *instruction.op_as_SelectRows();
    c.in("input", op.input()).out(op.out());
    break;
  }
  case plan::Op::TopCandidates: {
    const auto &op = *instruction.op_as_TopCandidates();
    c.in("logits", op.logits()).out(op.out());
    break;
  }
  case plan::Op::Sample: {
    const auto &op = *instruction.op_as_Sample();
    c.in("candidates", op.candidates()).out(op.out());
    break;
  }
  case plan::Op::AllReduce: {
    const auto &op = *instruction.op_as_AllReduce();
    c.collective(op).in("input", op.input()).out(op.out());
    break;
  }
  case plan::Op::AllGather: {
    const auto &op = *instruction.op_as_AllGather();
    c.collective(op).in("input", op.input()).out(op.out());
    break;
  }
  case plan::Op::ReduceScatter: {
    const auto &op = *instruction.op_as_ReduceScatter();
    c.collective(op).in("input", op.input()).out(op.out());
    break;
  }
  case plan::Op::Send: {
    const auto &op = *instruction.op_as_Send();
    c.operands.peer = op.peer();
    c.collective(op).in("input", op.input());
    break;
  }
  case plan::Op::Recv: {
    const auto &op = *instruction.op_as_Recv();
    c.operands.peer = op.peer();
    c.collective(op).out(op.out());
    break;
  }
  case plan::Op::LayerNorm: {
    const auto &op = *instruction.op_as_LayerNorm();
    c.operands.weight = op.weight();
    c.operands.bias = op.bias();
    c.in("input", op.input()).out(op.out());
    break;
  }
  case plan::Op::Activate: {
    const auto &op = *instruction.op_as_Activate();
    c.in("input", op.input()).out(op.out());
    break;
  }
  case plan::Op::PositionEmbedding: {
    const auto &op = *instruction.op_as_PositionEmbedding();
    c.operands.weight = op.weight();
    c.in("input", op.input()).out(op.out());
    break;
  }
  case plan::Op::EmitIds:
    c.in("input", instruction.op_as_EmitIds()->input());
    break;
  case plan::Op::EmitLogits:
    c.in("input", instruction.op_as_EmitLogits()->input());
    break;
  case plan::Op::Scale:
    c.in("input", instruction.op_as_Scale()->input()).out(instruction.op_as_Scale()->out());
    break;
  case plan::Op::SoftCap:
    c.in("input", instruction.op_as_SoftCap()->input()).out(instruction.op_as_SoftCap()->out());
    break;
  case plan::Op::SquareSum: {
    const auto &op = *instruction.op_as_SquareSum();
    c.in("a", op.a());
    if (op.b() != -1)
      c.in("b", static_cast<uint32_t>(op.b()));
    c.out(op.out());
    break;
  }
  case plan::Op::Route:
    c.in("logits", instruction.op_as_Route()->logits()).out(instruction.op_as_Route()->out());
    break;
  case plan::Op::ExpertLinear: {
    const auto &op = *instruction.op_as_ExpertLinear();
    c.operands.weight = op.weight();
    c.in("input", op.input()).in("routes", op.routes()).out(op.out());
    break;
  }
  case plan::Op::Combine: {
    const auto &op = *instruction.op_as_Combine();
    c.in("input", op.input()).in("routes", op.routes()).out(op.out());
    break;
  }
  }
  return c.operands;
}

} // namespace distc
