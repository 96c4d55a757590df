// Several instructions of prefill as one or two kernels; where these do not suit, one by one.
#include "runtime/backends/cuda/CudaBackend.h"
#include "runtime/schema/PlanFile.h"

namespace distc {

namespace {

constexpr int64_t kManyRows = 128; // up to here a product is bound by the weights, and cuBLAS spreads them better

Result<bool> done(cudaError_t error) {
  DISTC_TRY(cuda::check(error, "launch the kernel"));
  return true;
}

} // namespace

bool CudaBackend::suitsProduct(const View &x, const cuda::Matrix &weight) {
  return x.rows > kManyRows && cuda::productSuits(x, weight);
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
  const auto &linearQ = fusion.parts[0].as<plan::Linear>(), &linearK = fusion.parts[2].as<plan::Linear>(),
             &linearV = fusion.parts[4].as<plan::Linear>();
  const auto &rope = fusion.parts[1].as<plan::Rope>();
  const View x = buffer(linearQ.input()), q = buffer(linearQ.out()), k = buffer(linearK.out()),
             v = buffer(linearV.out()), y = buffer(rope.out());
  const cuda::KvView cache = this->cache(fusion.parts[5].as<plan::KvAppend>().cache());
  const float *table = ropeTable(rope.table());
  const auto style = ropeStyleOf(rope.style());
  cuda::Matrix w = matrix(linearQ.weight(), x.width);
  w.rows = q.width + k.width + v.width;
  if (!suitsProduct(x, w) || q.dtype != x.dtype || !cuda::ropeAppendSuits(q, k, v, table, cache, y))
    return false;
  const cuda::ProductPart parts[] = {{q.data, bias(linearQ.bias()), q.width},
                                     {k.data, bias(linearK.bias()), k.width},
                                     {v.data, bias(linearV.bias()), v.width}};
  DISTC_TRY(done(cuda::product(x, x.rows, w, parts, 3, {}, stream_)).status());
  return done(cuda::ropeAppend(q, k, v, table, rope.heads(), style, x.rows, cache, batch(x), y, stream_));
}

Result<bool> CudaBackend::runGated(const Fusion &fusion) {
  const auto &gate = fusion.parts[0].as<plan::Linear>();
  const auto &glu = fusion.parts[2].as<plan::Glu>();
  const View x = buffer(gate.input()), y = buffer(glu.out());
  cuda::Matrix w = matrix(gate.weight(), x.width);
  w.rows *= 2;
  if (!suitsProduct(x, w) || y.dtype != x.dtype || y.width % 8 != 0)
    return false;
  return done(cuda::gatedProduct(x, x.rows, w, activationOf(glu.activation()), y.data, stream_));
}

Result<bool> CudaBackend::runResidual(const Fusion &fusion) {
  const auto &linear = fusion.parts[0].as<plan::Linear>();
  const auto &add = fusion.parts[1].as<plan::Add>();
  const View x = buffer(linear.input()), y = buffer(add.out()),
             other = buffer(add.a() == linear.out() ? add.b() : add.a());
  const cuda::Matrix w = matrix(linear.weight(), x.width);
  if (!suitsProduct(x, w) || y.dtype != x.dtype || y.width % 8 != 0)
    return false;
  // Of one output cuBLAS splits the sums where tiles are few.
  if (linear.bias() < 0 && y.data == other.data) {
    DISTC_TRY(product_.run(x, x.rows, w, true, y));
    return true;
  }
  const cuda::ProductPart part{y.data, bias(linear.bias()), y.width};
  return done(cuda::product(x, x.rows, w, &part, 1, other, stream_));
}

} // namespace distc
