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

namespace {

constexpr size_t kAlignment = 256;

size_t alignUp(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

} // namespace

CudaBackend::CudaBackend(const plan::Plan &plan, uint32_t device, Communicator &communicator, ThreadPool &pool)
    : plan_(plan), deviceIndex_(device), communicator_(communicator), pool_(pool) {}

// Whatever is still queued may use the memory that goes now.
CudaBackend::~CudaBackend() {
  (void)cudaStreamSynchronize(stream_);
  queues_.drain();
  for (auto &[kind, graph] : graphs_)
    if (graph.executable)
      (void)cudaGraphExecDestroy(graph.executable);
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
  size_t outputs = 0, batchBytes = 0;
  for (const plan::Program *program : *plan_.programs()) {
    outputs = std::max<size_t>(outputs, program->max_outputs());
    batchBytes = std::max(batchBytes, layBatch(*program, nullptr).bytes);
  }
  DISTC_ASSIGN(batch_, cuda::Memory::allocate(Kind::Device, batchBytes, rank + "batch"));
  DISTC_ASSIGN(batchHost_, cuda::Memory::allocate(Kind::Pinned, batchBytes, rank + "batch"));
  DISTC_ASSIGN(ids_, cuda::Memory::allocate(Kind::Pinned, outputs * sizeof(int32_t), rank + "ids"));
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
    std::optional<CudaStages> &stages = programStages_.emplace_back();
    if (!program->schedule() || observed_)
      continue;
    if (program->schedule()->sms() > uint32_t(sms_))
      return failedPrecondition("the tile schedule is for " + std::to_string(program->schedule()->sms()) +
                                " multiprocessors, this GPU has " + std::to_string(sms_) +
                                "; compile the model with --sms " + std::to_string(sms_));
    const StageOperands operands{
        [&](uint32_t buffer) { return arena_.data() + program->buffers()->Get(buffer)->offset(); },
        [&](uint32_t weight) { return this->weight(weight); }, [&](uint32_t cache) { return this->cache(cache); },
        [&](uint32_t table) { return ropeTable(table); }};
    DISTC_ASSIGN(stages, CudaStages::create(plan_, *program, operands));
  }
  return {};
}

CudaBackend::BatchArrays CudaBackend::layBatch(const plan::Program &program, std::byte *base) const {
  BatchArrays batch{};
  auto place = [&](auto *&array, size_t count) {
    array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(base + batch.bytes);
    batch.bytes += alignUp(count * sizeof(*array));
  };
  place(batch.tokens, program.max_tokens());
  place(batch.positions, program.max_tokens());
  place(batch.sequenceOf, program.max_tokens());
  place(batch.blockTables, size_t(program.max_sequences()) * plan_.kv()->blocks_per_sequence());
  place(batch.outputs, program.max_outputs());
  place(batch.sampling, program.max_outputs());
  return batch;
}

Status CudaBackend::begin(uint32_t, uint32_t program, const StepInput &input, StepOutput &output) {
  program_ = plan_.programs()->Get(program);
  input_ = &input;
  output_ = &output;
  const Batch &batch = *input.batch;
  const std::optional<CudaStages> &stages = programStages_[program];
  stages_ = stages && batch.tokens.size() <= stages->maxTokens() ? &*stages : nullptr;
  // The step before has ended, so the pinned copy is free.
  const BatchArrays host = layBatch(*program_, batchHost_.data());
  device_ = layBatch(*program_, batch_.data());
  auto copy = [](auto *to, const auto &from) { std::copy(from.begin(), from.end(), to); };
  copy(host.tokens, batch.tokens);
  copy(host.positions, batch.positions);
  copy(host.sequenceOf, input.sequenceOf);
  copy(host.blockTables, batch.blockTable);
  copy(host.outputs, batch.outputs);
  for (size_t r = 0; r < batch.outputs.size(); ++r)
    host.sampling[r] = samplingOf(batch, r);
  DISTC_TRY(chooseMode(program));
  const bool holdsBatch = mode_ != Mode::Launch && graph_->first == 0;
  if (holdsBatch)
    DISTC_TRY(openGraph());
  if (!holdsBatch || mode_ == Mode::Capture)
    DISTC_TRY(copySmall(batchHost_.data(), batch_.data(), device_.bytes, "copy the batch"));
  return queues_.begin(program);
}

// A kernel that reads or writes the host's memory starts sooner than a copy by the engine, and is part of the graph.
Status CudaBackend::copySmall(const void *from, void *to, size_t bytes, const char *what) const {
  const auto size = static_cast<int64_t>(bytes);
  return cuda::check(cuda::copyRows2D(from, size, to, size, size, 1, stream_), what);
}

Status CudaBackend::chooseMode(uint32_t program) {
  mode_ = Mode::Launch;
  // An instruction's fault, or its time, is to be seen.
  if (observed_ || traced_ || cuda::synchronous())
    return {};
  // Logits go to where the host says, and not all that ranks exchange can be left to the device.
  const size_t tokens = input_->batch->tokens.size(), outputs = input_->batch->outputs.size();
  // Of prefill's many sizes the full step alone comes again and again.
  const bool isCommon = program_->regime() == plan::Regime::Decode || tokens == program_->max_tokens();
  if (!isCommon || output_->logits)
    return {};
  graph_ = &graphs_[{program, tokens, outputs}];
  if (graph_->steps++ == 0) { // kernels are loaded when they are launched first, which a capture does not allow
    std::tie(graph_->first, graph_->end) = replayableRun();
    return {};
  }
  if (graph_->first != graph_->end)
    mode_ = graph_->executable ? Mode::Replay : Mode::Capture;
  return {};
}

std::pair<size_t, size_t> CudaBackend::replayableRun() const {
  const auto &instructions = *program_->instructions();
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
  const bool suits = count == instructions.size() || (count > instructions.size() / 2 && !isOverlapped(*program_));
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
  return mode_ == Mode::Capture
             ? cuda::check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture the step")
             : cuda::check(cudaGraphLaunch(graph_->executable, stream_), "launch the step");
}

Status CudaBackend::closeGraph() {
  if (mode_ == Mode::Replay)
    return {};
  DISTC_TRY(queues_.end()); // a capture ends with one stream
  cudaGraph_t graph = nullptr;
  DISTC_TRY(cuda::check(cudaStreamEndCapture(stream_, &graph), "capture the step"));
  const cudaError_t error = cudaGraphInstantiate(&graph_->executable, graph, 0);
  (void)cudaGraphDestroy(graph);
  DISTC_TRY(cuda::check(error, "make a graph of the step"));
  return cuda::check(cudaGraphLaunch(graph_->executable, stream_), "launch the step");
}

Status CudaBackend::end(uint32_t) {
  if (mode_ != Mode::Launch && graph_->end == program_->instructions()->size())
    DISTC_TRY(closeGraph());
  else
    DISTC_TRY(queues_.end());
  DISTC_TRY(communicator_.settle(stream_));
  DISTC_TRY(cuda::check(cudaStreamSynchronize(stream_), "run the step"));
  if (plan_.mesh()->rank() == 0)
    std::memcpy(output_->ids, ids_.data(), input_->batch->outputs.size() * sizeof(int32_t));
  return {};
}

CudaBackend::View CudaBackend::buffer(uint32_t index) const {
  const plan::Buffer &buffer = *program_->buffers()->Get(index);
  const RowRange rows = rowsOf(buffer, input_->batch->tokens.size(), input_->batch->outputs.size());
  std::byte *data = buffer.parent() < 0 ? arena_.data() + buffer.offset()
                                        : this->buffer(static_cast<uint32_t>(buffer.parent())).data +
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
  return {device_.blockTables, plan_.kv()->blocks_per_sequence(), device_.sequenceOf + rows.first,
          device_.positions + rows.first};
}

Result<std::vector<float>> CudaBackend::read(uint32_t index) {
  const View view = buffer(index);
  const auto count = static_cast<size_t>(view.elements());
  std::vector<std::byte> bytes(count * dtypeBytes(view.dtype));
  DISTC_TRY(communicator_.settle(stream_)); // a peer that has failed must not keep us waiting
  DISTC_TRY(cuda::check(cudaMemcpyAsync(bytes.data(), view.data, bytes.size(), cudaMemcpyDeviceToHost, stream_),
                        "read a buffer"));
  DISTC_TRY(cuda::check(cudaStreamSynchronize(stream_), "read a buffer"));
  return toF32(bytes.data(), view.dtype, count);
}

uint64_t CudaBackend::bytesOf(uint32_t, const Instruction &instruction) const {
  uint64_t bytes = 0;
  const Operands operands = operandsOf(*instruction.record);
  for (const BufferOperand &operand : operands.buffers()) {
    const View view = buffer(operand.buffer);
    bytes += static_cast<uint64_t>(view.elements()) * dtypeBytes(view.dtype);
  }
  return bytes;
}

} // namespace distc
