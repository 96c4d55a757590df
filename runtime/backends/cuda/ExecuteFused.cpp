// Several instructions as one or two kernels; where these do not suit, one by one.
#include "runtime/backends/cuda/CudaBackend.h"
#include "runtime/plan/RopeTables.h"
#include "runtime/schema/PlanFile.h"

#include <algorithm>

namespace distc {

namespace {

// Up to here a product is bound by the weights, and cuBLAS, where there is no bias, spreads them better.
constexpr int64_t kManyRows = 128;

Result<bool> done(cudaError_t error) {
  DISTC_TRY(cuda::check(error, "launch the kernel"));
  return true;
}

} // namespace

bool CudaBackend::suitsProduct(const View &x, const cuda::Matrix &weight, bool hasBias) {
  return x.rows > (hasBias ? cuda::MatrixProduct::kFewRows : kManyRows) && cuda::productSuits(x, weight);
}

Status CudaBackend::execute(const Fusion &fusion) {
  const auto run = [&] {
    switch (fusion.kind) {
    case Fusion::Kind::Projections:
      return runProjections(fusion);
    case Fusion::Kind::Gated:
      return runGated(fusion);
    case Fusion::Kind::GatedExperts:
      return runGatedExperts(fusion);
    case Fusion::Kind::Combined:
      return runCombined(fusion);
    case Fusion::Kind::PostNorm:
      return runPostNorm(fusion);
    case Fusion::Kind::Embedded:
      return runEmbedded(fusion);
    case Fusion::Kind::Residual:
      break;
    }
    return runResidual(fusion);
  };
  DISTC_ASSIGN(const bool isDone, run());
  for (size_t i = 0; !isDone && i < fusion.count; ++i)
    DISTC_TRY(compute(fusion.parts[i]));
  return {};
}

Result<bool> CudaBackend::runProjections(const Fusion &fusion) {
  const ProjectionParts &p = fusion.projections;
  const View x = buffer(p.linears[0]->input()), q = buffer(p.linears[0]->out()), k = buffer(p.linears[1]->out()),
             v = buffer(p.linears[2]->out());
  const cuda::KvView cache = this->cache(p.append->cache());
  cuda::RopeAppend append;
  append.k = k;
  append.v = v;
  if (p.out() != p.linears[0]->out()) {
    append.q = q;
    append.y = buffer(p.out());
    append.heads = q.width / cache.headDim;
  }
  const auto weight = [&](uint32_t index) { return this->weight(index); };
  append.normQ = headNormOf(plan_, p.norms[0], weight);
  append.normK = headNormOf(plan_, p.norms[1], weight);
  if (const plan::Rope *rope = p.ropes[0]) {
    append.cosSin = ropeTable(rope->table());
    append.angleRows = ropeRows(rope->table()) + x.first;
    append.rotated = 2 * frequencies(*plan_.rope_tables()->Get(rope->table()));
    append.style = ropeStyleOf(rope->style());
  }
  cuda::Matrix w = matrix(p.linears[0]->weight(), x.width);
  w.rows = q.width + k.width + v.width;
  const bool hasBias = std::ranges::any_of(p.linears, [](const plan::Linear *linear) { return linear->bias() >= 0; });
  if (!suitsProduct(x, w, hasBias) || q.dtype != x.dtype || q.width % 8 != 0 || k.width % 8 != 0 ||
      !cuda::ropeAppendSuits(append, cache))
    return false;
  const cuda::ProductPart parts[] = {{q.data, bias(p.linears[0]->bias()), q.width},
                                     {k.data, bias(p.linears[1]->bias()), k.width},
                                     {v.data, bias(p.linears[2]->bias()), v.width}};
  DISTC_TRY(done(cuda::product(x, x.rows, w, parts, 3, {}, stream_)).status());
  return done(cuda::ropeAppend(append, x.rows, cache, batch(x), stream_));
}

Result<bool> CudaBackend::runGated(const Fusion &fusion) {
  const auto &gate = fusion.parts[0].as<plan::Linear>();
  const auto &glu = fusion.parts[2].as<plan::Glu>();
  const View x = buffer(gate.input()), y = buffer(glu.out());
  cuda::Matrix w = matrix(gate.weight(), x.width);
  w.rows *= 2;
  if (!suitsProduct(x, w, false) || y.dtype != x.dtype || y.width % 8 != 0)
    return false;
  return done(cuda::gatedProduct(x, x.rows, w, activationOf(glu.activation()), y.data, stream_));
}

Result<bool> CudaBackend::runPostNorm(const Fusion &fusion) {
  const auto &norm = fusion.parts[0].as<plan::RmsNorm>();
  const auto &add = fusion.parts[1].as<plan::Add>();
  const View x = buffer(norm.input()), y = buffer(add.out()), other = buffer(add.a() == norm.out() ? add.b() : add.a());
  return done(cuda::rmsNorm(x, {weight(norm.weight()), cuda::Type::F32}, norm.eps(), x.width, x.rows, y, stream_,
                            norm.weight_offset(), other));
}

Result<bool> CudaBackend::runEmbedded(const Fusion &fusion) {
  const auto &embedding = fusion.parts[0].as<plan::Embedding>();
  const Instruction &then = fusion.parts[1];
  const bool isScale = then.op == plan::Op::Scale;
  const View y = buffer(isScale ? then.as<plan::Scale>().out() : then.as<plan::PositionEmbedding>().out());
  const cuda::Matrix table = matrix(embedding.weight(), y.width);
  if (table.type != cuda::Out(y).type) // which the rows would be rounded to first
    return false;
  const int32_t *tokens = now_->device.tokens + y.first;
  if (isScale)
    return done(
        cuda::embedding(tokens, y.rows, table, embedding.first_row(), y, stream_, then.as<plan::Scale>().factor()));
  const cuda::Matrix added = matrix(then.as<plan::PositionEmbedding>().weight(), y.width);
  if (added.type != table.type)
    return false;
  return done(cuda::embedding(tokens, y.rows, table, embedding.first_row(), y, stream_, 1,
                              now_->device.positions + y.first, added));
}

Result<bool> CudaBackend::runResidual(const Fusion &fusion) {
  const auto &linear = fusion.parts[0].as<plan::Linear>();
  const plan::Scale *scale = fusion.count == 3 ? &fusion.parts[1].as<plan::Scale>() : nullptr;
  const auto &add = fusion.parts[fusion.count - 1].as<plan::Add>();
  const uint32_t term = scale ? scale->out() : linear.out();
  const View x = buffer(linear.input()), y = buffer(add.out()), other = buffer(add.a() == term ? add.b() : add.a());
  const cuda::Matrix w = matrix(linear.weight(), x.width);
  if (!suitsProduct(x, w, linear.bias() >= 0) || y.dtype != x.dtype || y.width % 8 != 0)
    return false;
  // Of one output cuBLAS splits the sums where tiles are few.
  if (linear.bias() < 0 && y.data == other.data) {
    DISTC_TRY(product_.run(x, x.rows, w, true, y, scale ? scale->factor() : 1));
    return true;
  }
  if (scale)
    return false;
  const cuda::ProductPart part{y.data, bias(linear.bias()), y.width};
  return done(cuda::product(x, x.rows, w, &part, 1, other, stream_));
}

} // namespace distc
