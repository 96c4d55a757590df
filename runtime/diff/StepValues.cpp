#include "runtime/diff/StepValues.h"

#include "runtime/plan/BufferRows.h"
#include "runtime/verify/Operands.h"

#include <algorithm>

namespace distc {

Status StepRecorder::executed(const plan::Plan &plan, uint32_t program, uint32_t index, const Read &read) {
  RankRecord &record = ranks_[plan.mesh()->rank()];
  record.plan = &plan;
  record.program = program;
  const Operands operands = operandsOf(*plan.programs()->Get(program)->instructions()->Get(index));
  for (const BufferOperand &operand : operands.buffers())
    if (operand.write) {
      DISTC_ASSIGN(std::vector<float> data, read(operand.buffer));
      record.written.emplace_back(index, std::move(data));
    }
  return {};
}

Result<StepValues> StepRecorder::finish(uint64_t tokens, uint64_t outputs) {
  StepValues values;
  for (const RankRecord &rank : ranks_) {
    if (!rank.plan)
      return internal("rank " + std::to_string(values.ranks_.size()) + " has executed nothing");
    values.ranks_.push_back(rank.plan);
  }
  values.program_ = ranks_[0].program;
  values.tokens_ = tokens;
  values.outputs_ = outputs;
  programs_.resize(std::max<size_t>(programs_.size(), values.program_ + 1));
  std::shared_ptr<const LogicalProgram> &logical = programs_[values.program_];
  if (!logical) {
    DISTC_ASSIGN(LogicalProgram program, LogicalProgram::create(values.ranks_, values.program_));
    logical = std::make_shared<LogicalProgram>(std::move(program));
  }
  values.logical_ = logical;
  for (const LogicalValue &value : logical->values())
    values.parts_.emplace_back(value.forms.size());
  for (uint32_t rank = 0; rank < ranks_.size(); ++rank)
    for (auto &[index, data] : ranks_[rank].written) {
      const LogicalProgram::Write &write = logical->write(ranks_[rank].plan->mesh()->stage(), index);
      values.parts_[size_t(write.value)][size_t(write.form)].push_back({rank, write.buffer, std::move(data)});
    }
  return values;
}

bool StepValues::narrow() const {
  return std::ranges::any_of(*ranks_[0]->programs()->Get(program_)->buffers(), [](const plan::Buffer *buffer) {
    return buffer->dtype() == plan::DType::F16 || buffer->dtype() == plan::DType::BF16;
  });
}

namespace {

// 0: more than any buffer has; dimensions are not verified.
uint64_t product(const std::vector<uint64_t> &dims, size_t begin, size_t end) {
  uint64_t n = 1;
  for (size_t d = begin; d < end; ++d)
    n = dims[d] <= UINT32_MAX && n * dims[d] <= UINT32_MAX ? n * dims[d] : 0;
  return n;
}

} // namespace

Result<WholeValue> StepValues::gather(size_t value, size_t index) const {
  const ValueForm &form = logical_->values()[value].forms[index];
  const plan::Mesh &mesh = *ranks_[0]->mesh();
  const plan::Program &program = *ranks_[size_t(form.stage) * mesh.tp()]->programs()->Get(program_);
  const plan::Buffer &shape = *program.buffers()->Get(form.buffer);
  const plan::ValueInfo &info = *form.info;
  const uint64_t tp = mesh.tp(), width = shape.row_elements(), shards = std::max<uint64_t>(1, shape.shards());
  // In place, the layout is that of what was there before.
  const plan::LayoutKind layout = form.op == plan::Op::AllReduce ? plan::LayoutKind::Replicated : info.layout();
  const bool rowsSplit = layout == plan::LayoutKind::Split && info.dim() == 0;
  const size_t dim = layout == plan::LayoutKind::Split && info.dim() > 0 ? size_t(info.dim()) : 0; // from 1
  const bool summed = layout == plan::LayoutKind::Partial;

  WholeValue whole;
  if (info.dims())
    whole.dims.assign(info.dims()->begin(), info.dims()->end());
  if (whole.dims.empty())
    whole.dims = {width};
  whole.columns = product(whole.dims, 0, whole.dims.size());
  if (dim > whole.dims.size() || whole.columns != width * (dim ? tp : 1) || (dim && whole.dims[dim - 1] % tp != 0) ||
      (shards > 1 && !rowsSplit))
    return failedPrecondition("its dimensions and layout are not those of its buffer");
  const plan::RowUnit unit = shape.rows();
  const uint64_t all = (unit == plan::RowUnit::Tokens    ? tokens_
                        : unit == plan::RowUnit::Outputs ? outputs_
                                                         : 1) *
                       std::max<uint64_t>(1, shape.times());
  const uint64_t rankRows = (all + shards - 1) / shards;
  whole.rows = rowsSplit && shards == 1 ? all * tp : all;

  const bool replicated = !rowsSplit && !summed && dim == 0;
  whole.copies.resize(replicated ? tp : 1);
  for (WholeValue::Copy &copy : whole.copies)
    copy.data.resize(whole.rows * whole.columns);
  const uint64_t outer = dim ? product(whole.dims, 0, dim - 1) : 1,
                 run = dim ? whole.dims[dim - 1] / tp * product(whole.dims, dim, whole.dims.size()) : width;
  std::vector<uint64_t> written(tp);
  for (const Part &part : parts_[value][index]) {
    const uint64_t t = ranks_[part.rank]->mesh()->tp_index();
    const RowRange range = rowsOf(*program.buffers()->Get(part.buffer), tokens_, outputs_);
    if (part.data.size() != range.count * width)
      return internal("rank " + std::to_string(part.rank) + " gave " + std::to_string(part.data.size()) +
                      " elements, expected " + std::to_string(range.count * width));
    WholeValue::Copy &copy = whole.copies[replicated ? t : 0];
    if (std::ranges::find(copy.ranks, part.rank) == copy.ranks.end())
      copy.ranks.push_back(part.rank);
    written[t] += range.count;
    for (uint64_t i = 0; i < range.count; ++i) {
      const uint64_t row = range.first + i + (rowsSplit ? t * rankRows : 0);
      if (row >= whole.rows) // of the last shard: rows that no token has
        continue;
      const float *from = part.data.data() + i * width;
      float *to = copy.data.data() + row * whole.columns;
      for (uint64_t o = 0; o < outer; ++o, from += run) {
        float *place = to + (dim ? (o * tp + t) * run : 0);
        for (uint64_t k = 0; k < run; ++k)
          place[k] = summed ? place[k] + from[k] : from[k];
      }
    }
  }
  for (const uint64_t rows : written)
    if (rows != rankRows)
      return failedPrecondition(std::to_string(rows) + " of its " + std::to_string(rankRows) + " rows are written");
  // Copies with the same bits are one.
  auto kept = whole.copies.begin();
  for (auto copy = std::next(kept); copy != whole.copies.end(); ++copy)
    if (std::ranges::equal(copy->data, whole.copies.front().data))
      whole.copies.front().ranks.insert(whole.copies.front().ranks.end(), copy->ranks.begin(), copy->ranks.end());
    else if (++kept != copy)
      *kept = std::move(*copy);
  whole.copies.erase(std::next(kept), whole.copies.end());
  return whole;
}

} // namespace distc
