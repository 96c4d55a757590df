#include "runtime/backends/cuda/CudaBackend.h"

#include "runtime/backends/cuda/Load.h"
#include "runtime/base/Laps.h"
#include "runtime/base/Log.h"
#include "runtime/plan/BufferRows.h"
#include "runtime/plan/Queues.h"
#include "runtime/plan/RopeTables.h"
#include "runtime/schema/PlanFile.h"
#include "runtime/verify/Operands.h"

#include <algorithm>
#include <cstring>

namespace distc {

CudaBackend::CudaBackend(const plan::Plan &plan, uint32_t device, Communicator &communicator, ThreadPool &pool)
    : plan_(plan), deviceIndex_(device), communicator_(communicator), pool_(pool) {}

// Whatever is still queued may use the memory that goes now.
CudaBackend::~CudaBackend() {
  (void)cudaStreamSynchronize(stream_);
  queues_.drain();
  destroyGraphs();
}

void CudaBackend::destroyGraphs() {
  for (auto &[kind, graph] : graphs_)
    if (cudaGraphExec_t executable = std::exchange(graph.executable, nullptr))
      (void)cudaGraphExecDestroy(executable);
}

Status CudaBackend::load(const SourceFiles &files, const LoadOptions &options) {
  DISTC_TRY(checkCudaSupport(plan_));
  observed_ = options.observed;
  traced_ = options.traced;
  const std::string name = "rank " + std::to_string(plan_.mesh()->rank()), rank = name + ": ";
  Laps laps;
  DISTC_TRY(cuda::useDevice(deviceIndex_).context(name)); // all work of this rank is its thread's
  DISTC_TRY(stream_.create().context(name));
  DISTC_TRY(queues_.create(traced_).context(name));
  DISTC_TRY(product_.create(stream_).context(name));
  laps.lap("cuBLAS");
  const plan::Ledger &ledger = *plan_.ledger();
  using Kind = cuda::Memory::Kind;
  DISTC_ASSIGN(weights_, cuda::Memory::allocate(Kind::Device, ledger.weights_loaded(), rank + "weights"));
  DISTC_ASSIGN(kv_, cuda::Memory::allocate(Kind::Device, ledger.kv(), rank + "KV cache"));
  DISTC_ASSIGN(arena_, cuda::Memory::allocate(Kind::Device, ledger.arena(), rank + "activations"));
  DISTC_ASSIGN(tables_, cuda::Memory::allocate(Kind::Device, ledger.tables(), rank + "rope tables"));
  size_t slots = 1;
  for (const plan::Program *program : *plan_.programs()) {
    slots = std::max<size_t>(slots, program->micro_batches());
    maxOutputs_ = std::max<size_t>(maxOutputs_, program->max_outputs());
    batchBytes_ = std::max(batchBytes_, layBatch(*program, nullptr).bytes);
  }
  microBatches_.resize(slots);
  DISTC_ASSIGN(batch_, cuda::Memory::allocate(Kind::Device, slots * batchBytes_, rank + "batch"));
  DISTC_ASSIGN(batchHost_, cuda::Memory::allocate(Kind::Pinned, slots * batchBytes_, rank + "batch"));
  DISTC_ASSIGN(ids_, cuda::Memory::allocate(Kind::Pinned, slots * maxOutputs_ * sizeof(int32_t), rank + "ids"));
  DISTC_TRY(createExpertLists());
  communicator_.whenEnding([this] { destroyGraphs(); });
  if (!observed_)
    fusions_ = findFusions(plan_);
  // Attention reads whole tiles of blocks and masks what is not there: it must be no NaN.
  DISTC_TRY(cuda::check(cudaMemsetAsync(kv_.data(), 0, ledger.kv(), stream_), "clear the KV cache").context(name));
  DISTC_TRY(loadTables().context(name));
  DISTC_TRY(createStages().context(name));
  laps.lap("memory and rope tables");
  DISTC_TRY(cuda::loadWeights(plan_, files, options, pool_, weights_.data()));
  DISTC_TRY(cuda::check(cudaDeviceSynchronize(), "load").context(name)); // tables came by another stream
  laps.lap(formatBytes(ledger.weights_loaded()) + " of weights");
  log(LogLevel::Info, rank + "ready: " + laps.text());
  return {};
}

Status CudaBackend::loadTables() {
  DISTC_ASSIGN(const RopeTables tables, RopeTables::create(plan_, pool_));
  size_t offset = 0;
  for (uint32_t i = 0; i < plan_.rope_tables()->size(); ++i) {
    const size_t bytes =
        size_t(plan_.limits()->max_sequence()) * plan_.rope_tables()->Get(i)->inv_freq()->size() * 2 * sizeof(float);
    DISTC_TRY(cuda::check(cudaMemcpy(tables_.data() + offset, tables[i], bytes, cudaMemcpyHostToDevice),
                          "copy a rope table"));
    tableOffsets_.push_back(offset);
    offset += bytes;
  }
  return {};
}

Status CudaBackend::createStages() {
  DISTC_TRY(cuda::check(cudaDeviceGetAttribute(&sms_, cudaDevAttrMultiProcessorCount, static_cast<int>(deviceIndex_)),
                        "read the device"));
  for (const plan::Program *program : *plan_.programs()) {
    std::vector<std::optional<CudaStages>> &stages = stages_.emplace_back(program->micro_batches());
    if (!program->schedule() || observed_)
      continue;
    if (program->schedule()->sms() > uint32_t(sms_))
      return failedPrecondition("the tile schedule is for " + std::to_string(program->schedule()->sms()) +
                                " multiprocessors, this GPU has " + std::to_string(sms_) +
                                "; compile the model with --sms " + std::to_string(sms_));
    for (size_t slot = 0; slot < stages.size(); ++slot) {
      std::byte *arena = arena_.data() + slot * program->arena_bytes();
      const BatchArrays batch = layBatch(*program, batch_.data() + slot * batchBytes_);
      const StageOperands operands{
          [&](uint32_t buffer) { return arena + program->buffers()->Get(buffer)->offset(); },
          [&](uint32_t weight) { return this->weight(weight); }, [&](uint32_t cache) { return this->cache(cache); },
          [&](uint32_t table) { return ropeTable(table); },
          [&](uint32_t table) { return batch.ropeRows + size_t(table) * program->max_tokens(); }};
      DISTC_ASSIGN(stages[slot], CudaStages::create(plan_, *program, operands));
    }
  }
  return {};
}

CudaBackend::BatchArrays CudaBackend::layBatch(const plan::Program &program, std::byte *base) const {
  BatchArrays batch{};
  auto place = [&](auto *&array, size_t count) {
    array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(base + batch.bytes);
    batch.bytes += cuda::alignedBytes(count * sizeof(*array));
  };
  place(batch.tokens, program.max_tokens());
  place(batch.positions, program.max_tokens());
  place(batch.sequenceOf, program.max_tokens());
  place(batch.ropeRows, size_t(program.max_tokens()) * plan_.rope_tables()->size());
  place(batch.blockTables, size_t(program.max_sequences()) * plan_.kv()->blocks_per_sequence());
  place(batch.outputs, program.max_outputs());
  place(batch.sampling, program.max_outputs());
  return batch;
}

Status CudaBackend::begin(uint32_t slot, uint32_t program, const StepInput &input, StepOutput &output) {
  MicroBatch &mine = microBatches_[slot];
  now_ = &mine;
  listed_ = {};
  const std::optional<CudaStages> &stages = stages_[program][slot];
  const Batch &batch = *input.batch;
  mine = {slot, plan_.programs()->Get(program), &input, &output};
  mine.stages = stages && batch.tokens.size() <= stages->maxTokens() ? &*stages : nullptr;
  // The step before has ended, so the pinned copy is free.
  const BatchArrays host = layBatch(*mine.program, batchHost_.data() + slot * batchBytes_);
  std::byte *device = batch_.data() + slot * batchBytes_;
  mine.device = layBatch(*mine.program, device);
  auto copy = [](auto *to, const auto &from) { std::copy(from.begin(), from.end(), to); };
  copy(host.tokens, batch.tokens);
  copy(host.positions, batch.positions);
  copy(host.sequenceOf, input.sequenceOf);
  for (uint32_t t = 0; t < plan_.rope_tables()->size(); ++t)
    findRopeRows(*plan_.rope_tables()->Get(t), plan_.limits()->max_sequence(), batch,
                 host.ropeRows + size_t(t) * mine.program->max_tokens());
  copy(host.blockTables, batch.blockTable);
  copy(host.outputs, batch.outputs);
  for (size_t r = 0; r < batch.outputs.size(); ++r)
    host.sampling[r] = samplingOf(batch, r);
  chooseMode(mine, program);
  DISTC_TRY(queues_.begin(program, slot == 0));
  if (mine.inGraph(0))
    DISTC_TRY(openGraph());
  if (mine.mode == Mode::Replay && mine.inGraph(0))
    return {};
  DISTC_TRY(copySmall(batchHost_.data() + slot * batchBytes_, device, mine.device.bytes, "copy the batch"));
  return queues_.fork();
}

// A kernel that reads or writes the host's memory starts sooner than a copy by the engine, and is part of the graph.
Status CudaBackend::copySmall(const void *from, void *to, size_t bytes, const char *what) const {
  const auto size = static_cast<int64_t>(bytes);
  return cuda::check(cuda::copyRows2D(from, size, to, size, size, 1, stream_), what);
}

Status CudaBackend::finish(const char *what) {
  DISTC_TRY(communicator_.wait(stream_));
  return cuda::check(cudaStreamSynchronize(stream_), what);
}

void CudaBackend::chooseMode(MicroBatch &mine, uint32_t program) {
  if (observed_ || cuda::synchronous()) // an instruction's fault is to be seen as it ends
    return;
  // Logits go to where the host says, and not all that ranks exchange can be left to the device.
  const size_t tokens = mine.input->batch->tokens.size(), outputs = mine.input->batch->outputs.size();
  // Of prefill's many sizes the full step alone comes again and again.
  const bool isCommon = mine.program->regime() == plan::Regime::Decode || tokens == mine.program->max_tokens();
  if (!isCommon || mine.output->logits)
    return;
  mine.graph = &graphs_[{program, mine.slot, tokens, outputs}];
  if (mine.graph->steps++ == 0) { // kernels are loaded when they are launched first, which a capture does not allow
    std::tie(mine.graph->first, mine.graph->end) = replayableRun();
    return;
  }
  if (mine.graph->first != mine.graph->end)
    mine.mode = mine.graph->executable ? Mode::Replay : Mode::Capture;
}

std::pair<size_t, size_t> CudaBackend::replayableRun() const {
  const auto &instructions = *now_->program->instructions();
  std::pair<size_t, size_t> longest{0, 0};
  for (uint32_t i = 0, begin = 0; i <= instructions.size(); ++i) {
    if (i < instructions.size() && isReplayable(*instructions.Get(i)))
      continue;
    if (i - begin > longest.second - longest.first)
      longest = {begin, i};
    begin = i + 1;
  }
  const size_t count = longest.second - longest.first;
  // What is captured of two streams is all of both.
  const bool suits = count == instructions.size() || (count > instructions.size() / 2 && !isOverlapped(*now_->program));
  return suits ? longest : std::pair<size_t, size_t>();
}

bool CudaBackend::isReplayable(const plan::Instruction &instruction) const {
  auto leaves = [&](plan::Op op, uint32_t group, uint32_t input) {
    const View x = buffer(input);
    return communicator_.isReplayable(op, group, static_cast<size_t>(x.elements()), x.dtype);
  };
  switch (instruction.op_type()) {
  case plan::Op::AllReduce: {
    const auto &o = *instruction.op_as_AllReduce();
    return leaves(plan::Op::AllReduce, o.group(), o.input());
  }
  case plan::Op::AllGather: {
    const auto &o = *instruction.op_as_AllGather();
    return leaves(plan::Op::AllGather, o.group(), o.input());
  }
  case plan::Op::ReduceScatter:
  case plan::Op::Send:
  case plan::Op::Recv:
    return false;
  default:
    return true;
  }
}

Status CudaBackend::openGraph() {
  listed_ = {};
  Graph &graph = *now_->graph;
  if (now_->mode == Mode::Replay) {
    queues_.replayed(graph.timed);
    return cuda::check(cudaGraphLaunch(graph.executable, stream_), "launch the step");
  }
  queues_.beginCapture();
  return cuda::check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture the step");
}

Status CudaBackend::closeGraph() {
  listed_ = {};
  Graph &graph = *now_->graph;
  DISTC_TRY(queues_.join()); // a capture ends with one stream
  cudaGraph_t captured = nullptr;
  DISTC_TRY(cuda::check(cudaStreamEndCapture(stream_, &captured), "capture the step"));
  graph.timed = queues_.endCapture();
  const cudaError_t error = cudaGraphInstantiate(&graph.executable, captured, 0);
  (void)cudaGraphDestroy(captured);
  DISTC_TRY(cuda::check(error, "make a graph of the step"));
  return cuda::check(cudaGraphLaunch(graph.executable, stream_), "launch the step");
}

Status CudaBackend::end(uint32_t slot) {
  now_ = &microBatches_[slot];
  DISTC_TRY(queues_.join());
  DISTC_TRY(communicator_.settle(stream_));
  DISTC_TRY(cuda::check(cudaStreamSynchronize(stream_), "run the step"));
  if (plan_.mesh()->rank() == 0)
    std::memcpy(now_->output->ids, ids_.data() + slot * maxOutputs_ * sizeof(int32_t),
                now_->input->batch->outputs.size() * sizeof(int32_t));
  return {};
}

CudaBackend::View CudaBackend::buffer(const MicroBatch &of, uint32_t index) const {
  const plan::Buffer &buffer = *of.program->buffers()->Get(index);
  const RowRange rows = rowsOf(buffer, of.input->batch->tokens.size(), of.input->batch->outputs.size());
  std::byte *data = buffer.parent() < 0 ? arena_.data() + of.slot * of.program->arena_bytes() + buffer.offset()
                                        : this->buffer(of, static_cast<uint32_t>(buffer.parent())).data +
                                              rows.first * buffer.row_elements() * dtypeBytes(buffer.dtype());
  return {data, static_cast<int64_t>(rows.count), buffer.row_elements(), static_cast<int64_t>(rows.first),
          buffer.dtype()};
}

std::byte *CudaBackend::weight(uint32_t index) const { return weights_.data() + plan_.weights()->Get(index)->offset(); }

const float *CudaBackend::bias(int32_t index) const {
  return index < 0 ? nullptr : reinterpret_cast<const float *>(weight(static_cast<uint32_t>(index)));
}

const float *CudaBackend::ropeTable(uint32_t index) const {
  return reinterpret_cast<const float *>(tables_.data() + tableOffsets_[index]);
}

const int32_t *CudaBackend::ropeRows(uint32_t table) const {
  return now_->device.ropeRows + size_t(table) * now_->program->max_tokens();
}

cuda::Matrix CudaBackend::matrix(uint32_t index, int64_t columns) const {
  const plan::Weight &weight = *plan_.weights()->Get(index);
  const int64_t elements = static_cast<int64_t>(weight.bytes() / dtypeBytes(weight.dtype()));
  return {this->weight(index), typeOf(weight.dtype()), elements / columns, columns, columns};
}

cuda::KvView CudaBackend::cache(uint32_t index) const {
  const plan::KvCache &cache = *plan_.kv()->caches()->Get(index);
  return {kv_.data() + cache.offset(), typeOf(cache.dtype()), cache.heads(), plan_.kv()->block_tokens(),
          cache.head_dim()};
}

cuda::BatchView CudaBackend::batch(const View &rows) const {
  return {now_->device.blockTables, plan_.kv()->blocks_per_sequence(), now_->device.sequenceOf + rows.first,
          now_->device.positions + rows.first};
}

Result<std::vector<float>> CudaBackend::read(uint32_t index) {
  const View view = buffer(index);
  const auto count = static_cast<size_t>(view.elements());
  std::vector<std::byte> bytes(count * dtypeBytes(view.dtype));
  DISTC_TRY(queues_.join()); // it may be what has come
  DISTC_TRY(finish("run the step"));
  DISTC_TRY(cuda::check(cudaMemcpyAsync(bytes.data(), view.data, bytes.size(), cudaMemcpyDeviceToHost, stream_),
                        "read a buffer"));
  DISTC_TRY(cuda::check(cudaStreamSynchronize(stream_), "read a buffer"));
  return toF32(bytes.data(), view.dtype, count);
}

uint64_t CudaBackend::bytesOf(uint32_t slot, const Instruction &instruction) const {
  uint64_t bytes = 0;
  const Operands operands = operandsOf(*instruction.record);
  for (const BufferOperand &operand : operands.buffers()) {
    const View view = buffer(microBatches_[slot], operand.buffer);
    bytes += static_cast<uint64_t>(view.elements()) * dtypeBytes(view.dtype);
  }
  return bytes;
}

} // namespace distc
