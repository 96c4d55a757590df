// Products with the weights of experts. Those of many tokens go by a list of each expert's places, which is made when
// the first of them needs it and serves all that read the same routes.
#include "runtime/backends/cuda/CudaBackend.h"
#include "runtime/schema/PlanFile.h"

#include <algorithm>

namespace distc {

Status CudaBackend::createExpertLists() {
  int64_t bytes = 0;
  for (const plan::Program *program : *plan_.programs())
    for (const plan::Instruction *instruction : *program->instructions())
      if (const auto *o = instruction->op_as_ExpertLinear()) {
        const int64_t count = program->buffers()->Get(o->routes())->row_elements() / 2;
        const auto experts = static_cast<int64_t>(plan_.weights()->Get(o->weight())->shape()->Get(0));
        bytes = std::max(bytes, cuda::expertListBytes(int64_t(program->max_tokens()) * count, experts));
      }
  DISTC_ASSIGN(expertLists_,
               cuda::Memory::allocate(cuda::Memory::Kind::Device, static_cast<size_t>(bytes),
                                      "rank " + std::to_string(plan_.mesh()->rank()) + ": lists of experts' places"));
  return {};
}

cuda::ExpertMatrices CudaBackend::experts(uint32_t index) const {
  const plan::Weight &w = *plan_.weights()->Get(index);
  const auto size = [&](uint32_t dim) { return static_cast<int64_t>(w.shape()->Get(dim)); };
  return {weight(index), typeOf(w.dtype()), size(0), size(1), size(2)};
}

CudaBackend::Places CudaBackend::places(const plan::ExpertLinear &linear) const {
  const View x = buffer(linear.input()), routes = buffer(linear.routes());
  const int64_t count = routes.width / 2;
  return {reinterpret_cast<const float *>(routes.data), routes.rows * count,
          x.width == experts(linear.weight()).cols ? count : 1};
}

bool CudaBackend::suitsGroups(const plan::ExpertLinear &linear) const {
  return buffer(linear.routes()).rows > cuda::MatrixProduct::kFewRows &&
         cuda::groupedProductSuits(buffer(linear.input()), places(linear).count, experts(linear.weight()));
}

Status CudaBackend::listExperts(const plan::ExpertLinear &linear) {
  const Places all = places(linear);
  const Listed wanted{all.routes, all.count, experts(linear.weight()).experts};
  if (listed_ == wanted)
    return {};
  DISTC_TRY(cuda::check(cuda::listExperts(all.routes, all.count, wanted.experts, expertLists_.data(), stream_),
                        "launch the kernel"));
  listed_ = wanted;
  return {};
}

Status CudaBackend::multiplyExperts(const plan::ExpertLinear &linear) {
  const View x = buffer(linear.input()), y = buffer(linear.out());
  const Places all = places(linear);
  const cuda::ExpertMatrices w = experts(linear.weight());
  if (!suitsGroups(linear))
    return cuda::check(cuda::expertLinear(x, all.repeat, all.routes, all.count, w, y, stream_), "launch the kernel");
  DISTC_TRY(listExperts(linear));
  return cuda::check(cuda::groupedProduct(x, all.repeat, expertLists_.data(), all.count, w, y.data, stream_),
                     "launch the kernel");
}

Result<bool> CudaBackend::runGatedExperts(const Fusion &fusion) {
  const auto &gate = fusion.parts[0].as<plan::ExpertLinear>(), &up = fusion.parts[1].as<plan::ExpertLinear>();
  const auto &glu = fusion.parts[2].as<plan::Glu>();
  const View x = buffer(gate.input()), y = buffer(glu.out());
  if (!suitsGroups(gate) || !suitsGroups(up) || y.dtype != x.dtype)
    return false;
  DISTC_TRY(listExperts(gate));
  const Places all = places(gate);
  DISTC_TRY(cuda::check(cuda::groupedGatedProduct(x, all.repeat, expertLists_.data(), all.count, experts(gate.weight()),
                                                  weight(up.weight()), activationOf(glu.activation()), y.data, stream_),
                        "launch the kernel"));
  return true;
}

Result<bool> CudaBackend::runCombined(const Fusion &fusion) {
  const auto &sum = fusion.parts[0].as<plan::Combine>();
  const auto &add = fusion.parts[1].as<plan::Add>();
  const View x = buffer(sum.input()), routes = buffer(sum.routes()), y = buffer(add.out()),
             other = buffer(add.a() == sum.out() ? add.b() : add.a());
  if (x.dtype != y.dtype)
    return false;
  DISTC_TRY(cuda::check(cuda::combine(x, reinterpret_cast<const float *>(routes.data), y.rows, routes.width / 2,
                                      y.width, other, y, stream_),
                        "launch the kernel"));
  return true;
}

} // namespace distc
