#include "compiler/Analysis/CostModel.h"

#include "runtime/plan/BufferRows.h"
#include "runtime/plan/ExpertUse.h"
#include "runtime/schema/PlanFile.h"
#include "runtime/schema/Tiles.h"
#include "runtime/verify/Operands.h"

#include <algorithm>
#include <cmath>

namespace distc {

namespace {

bool isProduct(plan::Op op) { return op == plan::Op::Linear || op == plan::Op::ExpertLinear; }

// Positions that token p sees, summed over p = first … first + count - 1.
double seen(uint64_t first, uint64_t count, uint64_t window) {
  const auto triangle = [](double n) { return n * (n + 1) / 2; };
  const double begin = double(first), end = double(first + count);
  if (window == 0 || end <= double(window))
    return triangle(end) - triangle(begin);
  const double full = std::max(begin, double(window)); // from here on a token sees the window alone
  return triangle(full) - triangle(begin) + (end - full) * double(window);
}

void addAttention(const plan::Plan &plan, const plan::Attention &op, const Runs &batch, const RowRange &rows,
                  Work &work) {
  const plan::KvCache &cache = *plan.kv()->caches()->Get(op.cache());
  const double token = 2.0 * cache.heads() * cache.head_dim() * double(dtypeBytes(cache.dtype()));
  for (const SequenceRun &run : slice(batch, rows.first, rows.count)) {
    const double sequences = double(run.sequences);
    work.flops += 4.0 * op.heads() * cache.head_dim() * sequences * seen(run.position, run.tokens, op.window());
    uint64_t context = run.position + run.tokens;
    if (op.window())
      context = std::min<uint64_t>(context, uint64_t(op.window()) + run.tokens - 1);
    work.cacheBytes += sequences * double(context) * token;
  }
}

} // namespace

double bufferBytes(const plan::Buffer &buffer, const Runs &batch) {
  return double(rowsOf(buffer, tokensOf(batch), outputsOf(batch)).count) * buffer.row_elements() *
         double(dtypeBytes(buffer.dtype()));
}

Work workOf(const plan::Plan &plan, const plan::Program &program, const plan::Instruction &instruction,
            const Runs &batch) {
  const uint64_t tokens = tokensOf(batch), outputs = outputsOf(batch);
  const Operands operands = operandsOf(instruction);
  const plan::Op op = instruction.op_type();
  Work work;
  for (const BufferOperand &operand : operands.buffers()) {
    const plan::Buffer &buffer = *program.buffers()->Get(operand.buffer);
    const RowRange rows = rowsOf(buffer, tokens, outputs);
    const double elements = double(rows.count) * buffer.row_elements();
    const double bytes = elements * double(dtypeBytes(buffer.dtype()));
    const bool leads = op == plan::Op::Linear || op == plan::Op::ExpertLinear || op == plan::Op::Attention
                           ? !operand.write
                           : operand.write;
    if (leads || work.rows == 0)
      work.rows = rows.count;
    if (operand.write || work.elements == 0)
      work.elements = elements;
    if (op == plan::Op::SelectRows) // reads as many rows as it writes
      work.activationBytes += operand.write ? 2 * bytes : 0;
    else
      work.activationBytes += bytes;
    if (op == plan::Op::Attention && !operand.write)
      addAttention(plan, *instruction.op_as_Attention(), batch, rows, work);
    if (op == plan::Op::Linear && !operand.write)
      work.flops = 2 * elements; // times the weight's rows, below
  }
  if (op == plan::Op::Embedding || op == plan::Op::PositionEmbedding ||
      op == plan::Op::KvAppend) // rows of the table, of the cache
    work.activationBytes *= 2;
  if (const plan::ExpertLinear *product = instruction.op_as_ExpertLinear()) {
    const plan::Weight &weight = *plan.weights()->Get(product->weight());
    const double experts = double(weight.shape()->Get(0));
    const double count = program.buffers()->Get(product->routes())->row_elements() / 2.0;
    const double perExpert = double(weight.bytes()) / experts, rows = double(work.rows);
    const double used = expectedExperts(experts, count, rows);
    work.weightBytes = used * perExpert;
    work.flops = 2 * rows * count * perExpert / double(dtypeBytes(weight.dtype()));
    work.rows = uint64_t(std::ceil(rows * count / std::max(1.0, used))); // that multiply an expert's weights together
  }
  if (op == plan::Op::Linear) {
    const plan::Weight &weight = *plan.weights()->Get(static_cast<uint32_t>(operands.weight));
    work.weightBytes = double(weight.bytes());
    const plan::Buffer &input = *program.buffers()->Get(instruction.op_as_Linear()->input());
    work.flops *= work.weightBytes / double(dtypeBytes(weight.dtype())) * double(dtypeBlock(weight.dtype())) /
                  std::max(1u, input.row_elements());
  }
  return work;
}

std::vector<CostModel::Staged> stagedInstructions(const plan::Program &program, uint64_t tokens) {
  std::vector<CostModel::Staged> staged(program.instructions()->size(), CostModel::Staged::No);
  if (program.schedule() && tokens <= kStageTokens)
    for (const plan::StageTiles *stage : *program.schedule()->stages())
      for (uint32_t i = 0; i < stage->count() && stage->instruction() + i < staged.size(); ++i)
        staged[stage->instruction() + i] = i == 0 ? CostModel::Staged::First : CostModel::Staged::Inside;
  return staged;
}

// Quantized matrices are multiplied as F32, which they become in registers.
static plan::DType rateType(plan::DType dtype) { return isQuantized(dtype) ? plan::DType::F32 : dtype; }

CostModel::CostModel(const Machine &machine, uint64_t ranks, uint64_t active, double footprint) : machine_(machine) {
  threads_ = speed_ = 1;
  const double busy = machine.cpu ? std::max(1.0, double(active)) : 1;
  if (machine.cpu) {
    threads_ = double(std::max<uint64_t>(1, machine.cores / std::max<uint64_t>(1, ranks)));
    speed_ = threads_ * std::min(1.0, machine.cores / (busy * threads_));
  }
  const double bytes = std::max(1.0, footprint);
  bandwidth_ = std::min(speed_ * machine.coreMemory.at(bytes), machine.memory.at(bytes) / busy);
}

Status CostModel::check(const Machine &machine, const plan::Plan &plan, const std::string &where) {
  if (plan.target()->string_view() != machine.target())
    return invalidArgument(where + ": the plans are for target " + plan.target()->str() + ", and " + machine.name +
                           " runs those for " + machine.target() + "; compile with --target " + machine.target());
  for (const plan::Program *program : *plan.programs())
    if (const plan::TileSchedule *schedule = program->schedule(); schedule && schedule->sms() > machine.cores)
      return invalidArgument(where + ": scheduled for " + std::to_string(schedule->sms()) + " multiprocessors, and " +
                             machine.name + " has " + std::to_string(machine.cores) + "; compile with --sms " +
                             std::to_string(machine.cores));
  for (const plan::Program *program : *plan.programs())
    for (const plan::Instruction *instruction : *program->instructions())
      if (isProduct(instruction->op_type())) {
        const plan::Weight &weight = *plan.weights()->Get(static_cast<uint32_t>(operandsOf(*instruction).weight));
        if (!machine.matrix.contains(rateType(weight.dtype())))
          return invalidArgument(where + ": weight " + weight.name()->str() + " is " + EnumNameDType(weight.dtype()) +
                                 ", and machine " + machine.name + " states no rate for it; add matrix." +
                                 EnumNameDType(weight.dtype()) + " to the machine file");
      }
  return {};
}

// What the threads of a rank do by themselves below this many elements: runtime/backends/cpu/Handlers.h.
constexpr double kElementGrain = 4096;

double CostModel::elementwise(double bytes, double perSecond, double elements) const {
  const double parts = std::clamp(elements / kElementGrain, 1.0, speed_);
  return bytes / (perSecond * (machine_.cpu ? parts : 1)) + (machine_.cpu && parts > 1 ? machine_.fork : 0);
}

double CostModel::compute(const plan::Plan &plan, const plan::Instruction &instruction, const Work &work,
                          Staged staged) const {
  const plan::Op op = instruction.op_type();
  if (work.rows == 0 || op == plan::Op::EmitLogits) // of which nobody asks here
    return 0;
  const bool product = isProduct(op), attends = op == plan::Op::Attention;
  const double overhead = staged == Staged::First    ? machine_.stage
                          : staged == Staged::Inside ? 0
                          : product || attends || !machine_.fused.contains(op)
                              ? machine_.instruction + (threads_ > 1 && (product || attends) ? machine_.fork : 0)
                              : 0;
  if (product) {
    const plan::Weight &weight = *plan.weights()->Get(static_cast<uint32_t>(operandsOf(instruction).weight));
    const double rate = machine_.matrix.at(rateType(weight.dtype())).at(double(work.rows)) * speed_;
    return overhead + std::max((work.weightBytes + work.activationBytes) / bandwidth_, work.flops / rate);
  }
  if (attends)
    return overhead + std::max(work.cacheBytes / (bandwidth_ * machine_.attentionShare),
                               work.flops / (machine_.attention.at(double(work.rows)) * speed_));
  if (staged != Staged::No || machine_.fused.contains(op))
    return overhead;
  return overhead + (op == plan::Op::Glu ? elementwise(work.elements, machine_.activation, work.elements)
                                         : elementwise(work.activationBytes, machine_.elementwise, work.elements));
}

Result<const LinkTier *> CostModel::tier(const Machine &machine, std::span<const uint32_t> ranks) {
  for (const LinkTier &tier : machine.links)
    if (std::all_of(ranks.begin(), ranks.end(),
                    [&](uint32_t rank) { return rank / tier.devices == ranks[0] / tier.devices; }))
      return &tier;
  return invalidArgument("ranks " + std::to_string(ranks[0]) + " and " +
                         std::to_string(*std::max_element(ranks.begin(), ranks.end())) +
                         " exchange messages, and the links of machine " + machine.name + " join at most " +
                         std::to_string(machine.links.back().devices) + " devices; add a link to the machine file");
}

double CostModel::collective(const LinkTier &tier, plan::Op op, uint64_t members, double bytes) {
  if (members < 2)
    return 0;
  const double n = double(members);
  double moved = (n - 1) / n * bytes; // of a gather, or of one half of a reduction
  if (op == plan::Op::AllReduce)
    moved = bytes <= double(tier.shortBytes) ? (n - 1) * bytes : 2 * moved;
  return tier.collective + moved / tier.bandwidth;
}

} // namespace distc
