#include "runtime/backends/cuda/CudaBackend.h"
#include "runtime/schema/PlanFile.h"

namespace distc {

namespace {

constexpr uint32_t kMaxHeadDim = 256;
constexpr uint64_t kMaxCacheRows = uint64_t(1) << 30; // what attention's descriptor spans

Status refuse(const plan::Plan &plan, const std::string &what) {
  return failedPrecondition("rank " + std::to_string(plan.mesh()->rank()) + ": target " + plan.target()->str() + ": " +
                            what + "; compile the model again");
}

} // namespace

Status checkCudaSupport(const plan::Plan &plan) {
  for (const plan::Weight *weight : *plan.weights())
    if (weight->placement() == plan::Placement::Map)
      return refuse(plan, "weight " + weight->name()->str() + " is mapped, and a GPU needs it loaded");
  for (const plan::KvCache *cache : *plan.kv()->caches())
    if (cache->head_dim() % 2 != 0 || cache->head_dim() > kMaxHeadDim)
      return refuse(plan, "the head size of layer " + std::to_string(cache->layer()) + " is " +
                              std::to_string(cache->head_dim()) + ", supported is an even one up to " +
                              std::to_string(kMaxHeadDim));
  for (const plan::KvCache *cache : *plan.kv()->caches())
    if (cache->bytes() / (uint64_t(cache->head_dim()) * dtypeBytes(cache->dtype())) > kMaxCacheRows)
      return refuse(plan, "the cache of layer " + std::to_string(cache->layer()) + " has more than 2^30 rows");
  if (plan.mesh()->tp() > cuda::maxPeers)
    return refuse(plan, "tp is " + std::to_string(plan.mesh()->tp()) + ", partial sums are added up of at most " +
                            std::to_string(cuda::maxPeers));
  for (const plan::Program *program : *plan.programs())
    for (const plan::Instruction *instruction : *program->instructions()) {
      auto isVector = [&](int64_t index) {
        return index < 0 || plan.weights()->Get(static_cast<uint32_t>(index))->dtype() == plan::DType::F32;
      };
      const auto *norm = instruction->op_as_RmsNorm();
      const auto *linear = instruction->op_as_Linear();
      const auto *layerNorm = instruction->op_as_LayerNorm();
      if ((layerNorm && !(isVector(layerNorm->weight()) && isVector(layerNorm->bias()))) ||
          (norm && !isVector(norm->weight())) || (linear && !isVector(linear->bias())))
        return refuse(plan, "instruction " + std::to_string(instruction->id()) + " has a norm or bias that is not F32");
      if (const auto *top = instruction->op_as_TopCandidates(); top && top->count() > cuda::maxCandidates)
        return refuse(plan, "instruction " + std::to_string(instruction->id()) + " asks for " +
                                std::to_string(top->count()) + " candidates");
    }
  return {};
}

} // namespace distc
