#include "runtime/backends/cuda/Stages.h"

#include "runtime/backends/cuda/CudaBackend.h"
#include "runtime/plan/RopeTables.h"
#include "runtime/schema/PlanFile.h"
#include "runtime/schema/Tiles.h"
#include "runtime/verify/Operands.h"

#include <algorithm>
#include <ranges>

namespace distc {

static_assert(kTileRows == cuda::tileRows && kTileColumns == cuda::tileColumns && kMaxRingBytes == cuda::maxRingBytes &&
              kStageColumns == cuda::stageColumns && kStageTokens == cuda::stageTokens &&
              kMaxNormColumns == cuda::maxNormColumns && kExpertTokens == cuda::expertTokens &&
              kExpertTokens * kMaxRoutes <= cuda::expertPlaces && kMaxRouterColumns == cuda::maxRouterColumns &&
              kMaxRouterExperts == cuda::maxRouterExperts && kMaxAppendHead == cuda::maxAppendHeadDim);

namespace {

cuda::StageForm formOf(const TileStage &stage) {
  if (stage.activate || stage.softCap)
    return cuda::StageForm::Activated;
  switch (stage.kind) {
  case plan::StageKind::Glu:
    return cuda::StageForm::Glu;
  case plan::StageKind::Qkv:
    return cuda::StageForm::Qkv;
  case plan::StageKind::ExpertGlu:
    return cuda::StageForm::ExpertGlu;
  case plan::StageKind::ExpertSum:
    return cuda::StageForm::ExpertSum;
  case plan::StageKind::Rows:
    return cuda::StageForm::Rows;
  case plan::StageKind::Attention:
  case plan::StageKind::Router:
  case plan::StageKind::Append:
  case plan::StageKind::PostNorm:
    break; // kernels of their own
  }
  std::abort();
}

/// The one TopCandidates, if its logits are written by one instruction alone: then the stage that makes them may keep
/// the largest. Null: there is none like that.
const plan::TopCandidates *soleCandidates(const plan::Program &program) {
  const plan::TopCandidates *top = nullptr;
  for (const plan::Instruction *instruction : *program.instructions())
    if (const auto *one = instruction->op_as_TopCandidates()) {
      if (top)
        return nullptr;
      top = one;
    }
  int writers = 0;
  for (const plan::Instruction *instruction : *program.instructions()) {
    const Operands operands = operandsOf(*instruction);
    for (const BufferOperand &operand : operands.buffers()) {
      const int32_t parent = program.buffers()->Get(operand.buffer)->parent();
      writers += top && operand.write && (parent < 0 ? operand.buffer : static_cast<uint32_t>(parent)) == top->logits();
    }
  }
  return writers == 1 ? top : nullptr;
}

} // namespace

Result<CudaStages> CudaStages::create(const plan::Plan &plan, const plan::Program &program,
                                      const StageOperands &operands) {
  const plan::TileSchedule &schedule = *program.schedule();
  CudaStages result;
  result.sms_ = schedule.sms();
  result.stageOf_.assign(program.instructions()->size(), -1);
  StageTables tables;
  for (const plan::StageTiles *tiles : *schedule.stages()) {
    std::string why;
    std::optional<TileStage> stage = stageOf(plan, program, *tiles, why); // the verifier has been here
    if (!stage)
      return internal(why);
    std::fill_n(result.stageOf_.begin() + stage->first, stage->count, int64_t(result.kernels_.size()));
    Kernel &kernel = result.kernels_.emplace_back();
    kernel.stage = std::move(*stage);
    kernel.x = operands.buffer(kernel.stage.input);
    if (const plan::Attention *attention = kernel.stage.attention) {
      kernel.params = {attention->heads(), attention->scale(), attention->window(), attention->soft_cap()};
      kernel.cache = operands.cache(attention->cache());
      kernel.out = operands.buffer(attention->out());
      kernel.matrix.type = typeOf(program.buffers()->Get(attention->q())->dtype());
    } else if (kernel.stage.route) {
      addRouter(plan, program, operands, kernel);
    } else if (kernel.stage.kind == plan::StageKind::Append) {
      addAppend(plan, program, operands, kernel);
    } else if (kernel.stage.kind == plan::StageKind::PostNorm) {
      const plan::RmsNorm *norm = kernel.stage.norm;
      const plan::Add &add = *kernel.stage.residual;
      kernel.norm = headNormOf(plan, norm, operands.weight);
      kernel.residual = operands.buffer(add.a() == norm->out() ? add.b() : add.a());
      kernel.out = operands.buffer(add.out());
      kernel.matrix.type = typeOf(program.buffers()->Get(norm->input())->dtype());
    } else {
      DISTC_TRY(result.addMatrix(plan, program, operands, *tiles, kernel, tables));
    }
  }
  const plan::TopCandidates *top = soleCandidates(program);
  DISTC_TRY(result.copyTables(tables, plan, top));
  auto suits = [&](const Kernel &kernel, size_t tokens) {
    if (kernel.stage.route)
      return cuda::routerStageSuits(kernel.router, static_cast<int>(std::min<size_t>(tokens, cuda::expertTokens)));
    if (!kernel.isMatrix() || (kernel.stage.isOfExperts() && tokens > cuda::expertTokens))
      return true;
    const auto [matrix, input] = result.matrixOf(kernel, static_cast<int64_t>(tokens), {});
    return cuda::matrixStageSuits(matrix, input);
  };
  auto allSuit = [&](size_t tokens) {
    return std::ranges::all_of(result.kernels_, [&](const Kernel &kernel) { return suits(kernel, tokens); });
  };
  while (result.maxTokens_ < kStageTokens && allSuit(result.maxTokens_ + 1))
    ++result.maxTokens_;
  if (result.maxTokens_ == 0)
    return internal("the tile schedule is none for this build's kernels");
  return result;
}

void CudaStages::addAppend(const plan::Plan &plan, const plan::Program &program, const StageOperands &operands,
                           Kernel &kernel) {
  const TileStage &stage = kernel.stage;
  kernel.cache = operands.cache(stage.append->cache());
  cuda::RopeAppend &append = kernel.append;
  const cuda::Type type = kernel.cache.type;
  append.k = {operands.buffer(stage.k), type};
  append.v = {operands.buffer(stage.append->v()), type};
  if (!stage.outputs.empty()) {
    append.q = {operands.buffer(stage.input), type};
    append.y = {operands.buffer(stage.outputs[0]), type};
    append.heads = program.buffers()->Get(stage.input)->row_elements() / kernel.cache.headDim;
  }
  append.normQ = headNormOf(plan, stage.headNorms[0], operands.weight);
  append.normK = headNormOf(plan, stage.headNorms[1], operands.weight);
  if (const plan::Rope *rope = stage.ropes[1]) {
    append.cosSin = operands.ropeTable(rope->table());
    append.angleRows = operands.ropeRows(rope->table());
    append.rotated = 2 * frequencies(*plan.rope_tables()->Get(rope->table()));
    append.style = ropeStyleOf(rope->style());
  }
}

Status CudaStages::addMatrix(const plan::Plan &plan, const plan::Program &program, const StageOperands &operands,
                             const plan::StageTiles &tiles, Kernel &kernel, StageTables &tables) {
  const TileStage &stage = kernel.stage;
  cuda::MatrixStage &matrix = kernel.matrix;
  auto type = [&](uint32_t buffer) { return typeOf(program.buffers()->Get(buffer)->dtype()); };
  auto out = [&](cuda::StageWeight &weight, uint32_t buffer) {
    weight.y = {operands.buffer(buffer), type(buffer)};
    weight.yStride = program.buffers()->Get(buffer)->row_elements();
  };
  matrix.form = formOf(stage);
  matrix.type = type(stage.input);
  matrix.cols = static_cast<int>(stage.columns);
  matrix.sms = static_cast<int>(program.schedule()->sms());
  matrix.ringBytes = static_cast<int>(program.schedule()->ring_bytes());
  auto add = [&](uint32_t index, uint32_t experts) {
    const plan::Weight &record = *plan.weights()->Get(index);
    cuda::StageWeight &weight = matrix.weights[matrix.weightCount++];
    const auto rows = static_cast<int64_t>(record.bytes() / dtypeBytes(record.dtype()) / stage.columns);
    weight.rows = static_cast<int>(rows / experts);
    return cuda::check(
        cuda::encodeTileMaps({operands.weight(index), typeOf(record.dtype()), rows, stage.columns, stage.columns},
                             tables.maps.emplace_back()),
        "describe a weight to the copy engine");
  };
  for (const plan::ExpertLinear *linear : stage.experts) {
    matrix.experts = static_cast<int>(plan.weights()->Get(linear->weight())->shape()->Get(0));
    matrix.count = static_cast<int>(program.buffers()->Get(linear->routes())->row_elements() / 2);
    matrix.routes = reinterpret_cast<const float *>(operands.buffer(linear->routes()));
    DISTC_TRY(add(linear->weight(), static_cast<uint32_t>(matrix.experts)));
  }
  for (const plan::Linear *each : stage.linears) {
    const plan::Linear &linear = *each;
    DISTC_TRY(add(linear.weight(), 1));
    cuda::StageWeight &weight = matrix.weights[matrix.weightCount - 1];
    if (linear.bias() >= 0)
      weight.bias = {operands.weight(static_cast<uint32_t>(linear.bias())), cuda::Type::F32};
    out(weight, linear.out());
  }
  if (stage.norm) {
    matrix.norm = reinterpret_cast<const float *>(operands.weight(stage.norm->weight()));
    matrix.eps = stage.norm->eps();
    matrix.normOffset = stage.norm->weight_offset();
  }
  if (stage.layerNorm) {
    matrix.norm = reinterpret_cast<const float *>(operands.weight(stage.layerNorm->weight()));
    if (stage.layerNorm->bias() >= 0)
      matrix.normBias =
          reinterpret_cast<const float *>(operands.weight(static_cast<uint32_t>(stage.layerNorm->bias())));
    matrix.eps = stage.layerNorm->eps();
    matrix.layerNorm = true;
    normedBytes_ = std::max(normedBytes_, size_t(kStageTokens) * stage.columns * 2);
  }
  if (stage.addend) {
    kernel.addend = operands.buffer(stage.addend->b());
    kernel.sum = operands.buffer(stage.addend->out());
  }
  if (stage.linears.size() == 1 || stage.combine)
    out(matrix.weights[0], stage.outputs.back());
  if (stage.residual) {
    const uint32_t sum = stage.combine ? stage.combine->out()
                         : stage.scale ? stage.scale->out()
                                       : stage.linears[0]->out();
    const uint32_t other = stage.residual->a() == sum ? stage.residual->b() : stage.residual->a();
    matrix.weights[0].residual = {operands.buffer(other), type(other)};
  }
  if (stage.scale)
    matrix.factor = stage.scale->factor();
  if (stage.activate)
    matrix.activation = activationOf(stage.activate->activation());
  if (stage.softCap)
    matrix.softCap = stage.softCap->cap();
  if (stage.glu) {
    matrix.activation = activationOf(stage.glu->activation());
    out(matrix.weights[0], stage.glu->out());
    if (!stage.experts.empty()) // a row for each place
      matrix.weights[0].yStride = matrix.weights[0].rows;
  }
  if (stage.append) {
    matrix.style = ropeStyleOf(stage.ropes[0]->style());
    matrix.cosSin = operands.ropeTable(stage.ropes[0]->table());
    matrix.headDim = static_cast<int>(stage.ropes[0]->head_dim());
    matrix.cache = operands.cache(stage.append->cache());
    out(matrix.weights[0], stage.ropes[0]->out());
  }
  if (tiles.bounds()->size() == 0)
    return {};
  const std::vector<uint32_t> bounds(tiles.bounds()->begin(), tiles.bounds()->end());
  const std::vector<cuda::StageTile> list = cuda::listTiles(matrix, bounds);
  tables.tiles.insert(tables.tiles.end(), list.begin(), list.end());
  return {};
}

Status CudaStages::copyTables(const StageTables &tables, const plan::Plan &plan, const plan::TopCandidates *top) {
  std::vector<Kernel *> ofMatrices;
  for (Kernel &kernel : kernels_)
    if (kernel.isMatrix())
      ofMatrices.push_back(&kernel);
  auto isBest = [&](const Kernel &kernel) {
    return top && kernel.stage.linears.size() == 1 && !kernel.stage.residual &&
           kernel.stage.outputs.back() == top->logits();
  };
  using cuda::alignedBytes;
  const size_t stagesAt = alignedBytes(tables.maps.size() * sizeof(cuda::TileMaps));
  const size_t tilesAt = stagesAt + alignedBytes(ofMatrices.size() * sizeof(cuda::MatrixStage));
  const size_t arrivedAt = tilesAt + alignedBytes(tables.tiles.size() * sizeof(cuda::StageTile));
  const size_t bestAt = arrivedAt + alignedBytes(sizeof(uint32_t));
  const size_t normedAt = bestAt + alignedBytes(size_t(kStageTokens) * static_cast<size_t>(sms_) * sizeof(uint64_t));
  const size_t bytes = normedAt + normedBytes_;
  DISTC_ASSIGN(memory_, cuda::Memory::allocate(cuda::Memory::Kind::Device, bytes,
                                               "rank " + std::to_string(plan.mesh()->rank()) + ": tile schedule"));
  std::byte *base = memory_.data();
  auto *maps = reinterpret_cast<const cuda::TileMaps *>(base);
  auto *tiles = reinterpret_cast<const cuda::StageTile *>(base + tilesAt);
  auto *stages = reinterpret_cast<const cuda::MatrixStage *>(base + stagesAt);
  bestOffset_ = static_cast<int64_t>(bestAt);
  normed_ = base + normedAt;
  for (Kernel &kernel : kernels_) // one for all: a router stage ends before the next begins
    kernel.router.arrived = reinterpret_cast<uint32_t *>(base + arrivedAt);
  DISTC_TRY(cuda::check(cudaMemset(base + arrivedAt, 0, sizeof(uint32_t)), "clear the routers' counter"));
  std::vector<cuda::MatrixStage> matrices;
  for (size_t i = 0; i < ofMatrices.size(); ++i) {
    Kernel &kernel = *ofMatrices[i];
    cuda::MatrixStage &matrix = kernel.matrix;
    matrix.tiles = tiles;
    tiles += matrix.sms * matrix.maxTiles;
    for (int w = 0; w < matrix.weightCount; ++w)
      matrix.weights[w].maps = maps++;
    if (isBest(kernel)) {
      bestOf_ = top->logits();
      matrix.best = const_cast<uint64_t *>(bestKeys());
      matrix.valid = static_cast<int>(top->valid());
    }
    if (i + 1 < ofMatrices.size() && ofMatrices[i + 1]->stage.experts.empty())
      matrix.next = stages + i + 1;
    matrices.push_back(matrix);
  }
  auto copy = [](std::byte *to, const auto &from) {
    return cuda::check(cudaMemcpy(to, from.data(), from.size() * sizeof(from[0]), cudaMemcpyHostToDevice),
                       "copy the tile schedule");
  };
  DISTC_TRY(copy(base, tables.maps));
  DISTC_TRY(copy(base + stagesAt, matrices));
  return copy(base + tilesAt, tables.tiles);
}

void CudaStages::addRouter(const plan::Plan &plan, const plan::Program &program, const StageOperands &operands,
                           Kernel &kernel) {
  const TileStage &stage = kernel.stage;
  const plan::Linear &linear = *stage.linears[0];
  cuda::RouterStage &router = kernel.router;
  router.type = typeOf(plan.weights()->Get(linear.weight())->dtype());
  router.cols = static_cast<int>(stage.columns);
  router.experts = static_cast<int>(program.buffers()->Get(stage.route->logits())->row_elements());
  router.count = static_cast<int>(stage.route->count());
  router.normalize = stage.route->normalize();
  router.weights = operands.weight(linear.weight());
  router.x = kernel.x;
  if (stage.addend) {
    router.addend = operands.buffer(stage.addend->b());
    router.sum = operands.buffer(stage.addend->out());
  }
  if (stage.norm) {
    router.norm = reinterpret_cast<const float *>(operands.weight(stage.norm->weight()));
    router.eps = stage.norm->eps();
    router.normOffset = stage.norm->weight_offset();
    router.normed = operands.buffer(stage.norm->out());
  }
  router.logits = reinterpret_cast<float *>(operands.buffer(stage.route->logits()));
  router.routes = reinterpret_cast<float *>(operands.buffer(stage.route->out()));
}

const uint64_t *CudaStages::bestKeys() const {
  return reinterpret_cast<const uint64_t *>(memory_.data() + bestOffset_);
}

std::pair<cuda::MatrixStage, cuda::StageInput> CudaStages::matrixOf(const Kernel &kernel, int64_t tokens,
                                                                    const cuda::BatchView &batch) const {
  std::pair<cuda::MatrixStage, cuda::StageInput> result{kernel.matrix, {}};
  auto &[matrix, input] = result;
  input.x = kernel.x;
  input.addend = kernel.addend;
  input.sum = kernel.sum;
  input.tokens = static_cast<int>(tokens);
  input.batch = batch;
  if (normsFirst(kernel, tokens)) {
    matrix.norm = matrix.normBias = nullptr;
    matrix.layerNorm = false;
    input.x = normed_;
    input.addend = nullptr;
  }
  return result;
}

cudaError_t CudaStages::normFirst(const Kernel &kernel, int64_t tokens, cudaStream_t stream) const {
  const cuda::MatrixStage &matrix = kernel.matrix;
  const cuda::In bias{matrix.normBias, cuda::Type::F32};
  cuda::In x{kernel.x, matrix.type};
  if (kernel.addend) {
    if (const cudaError_t error =
            cuda::add(x, {kernel.addend, matrix.type}, tokens * matrix.cols, {kernel.sum, matrix.type}, stream);
        error != cudaSuccess)
      return error;
    x.data = kernel.sum;
  }
  return cuda::layerNorm(x, {matrix.norm, cuda::Type::F32}, bias, matrix.eps, matrix.cols, tokens,
                         {normed_, matrix.type}, stream);
}

Status CudaStages::launch(uint32_t index, int64_t tokens, const cuda::BatchView &batch, cudaStream_t stream) const {
  const Kernel &kernel = kernels_[static_cast<size_t>(stageOf_[index])];
  if (index != kernel.stage.first)
    return {};
  if (kernel.stage.attention)
    return cuda::check(cuda::decodeAttention({kernel.x, kernel.matrix.type}, tokens, kernel.cache, kernel.params, batch,
                                             static_cast<int>(sms_), {kernel.out, kernel.matrix.type}, stream),
                       "launch the attention stage");
  if (kernel.stage.route)
    return cuda::check(cuda::routerStage(kernel.router, static_cast<int>(tokens), stream), "launch the router stage");
  if (kernel.stage.kind == plan::StageKind::PostNorm) {
    const cuda::Type type = kernel.matrix.type;
    return cuda::check(cuda::rmsNorm({kernel.x, type}, {kernel.norm.weight, cuda::Type::F32}, kernel.norm.eps,
                                     kernel.norm.width, tokens, {kernel.out, type}, stream, kernel.norm.offset,
                                     {kernel.residual, type}),
                       "launch the post-norm stage");
  }
  if (!kernel.isMatrix())
    return cuda::check(cuda::ropeAppend(kernel.append, tokens, kernel.cache, batch, stream), "launch the append stage");
  if (normsFirst(kernel, tokens))
    DISTC_TRY(cuda::check(normFirst(kernel, tokens, stream), "launch the norm of a stage"));
  const auto [matrix, input] = matrixOf(kernel, tokens, batch);
  return cuda::check(cuda::matrixStage(matrix, input, stream), "launch the stage");
}

} // namespace distc
