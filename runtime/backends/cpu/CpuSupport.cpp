#include "runtime/backends/cpu/CpuBackend.h"

namespace distc {

namespace {

constexpr uint32_t kMaxHeadDim = 256;

// What a program asks of the kernels beyond what the schema and the verifier guarantee.
class Support {
public:
  explicit Support(const plan::Plan &plan) : plan_(plan) {}

  Status check() const {
    for (const plan::Weight *weight : *plan_.weights())
      if (weight->dtype() == plan::DType::I32)
        return refuse("weight " + weight->name()->str() + " is I32");
    for (const plan::KvCache *cache : *plan_.kv()->caches())
      if (cache->dtype() != plan::DType::F32 || cache->head_dim() % 2 != 0 || cache->head_dim() > kMaxHeadDim)
        return refuse("the KV cache of layer " + std::to_string(cache->layer()) + " is " +
                      EnumNameDType(cache->dtype()) + " of head size " + std::to_string(cache->head_dim()) +
                      ", supported is F32 and an even head size up to " + std::to_string(kMaxHeadDim));
    for (const plan::Program *program : *plan_.programs()) {
      for (const plan::Buffer *buffer : *program->buffers())
        if (buffer->dtype() != plan::DType::F32 && buffer->dtype() != plan::DType::I32)
          return refuse(std::string("a buffer is ") + EnumNameDType(buffer->dtype()));
      for (const plan::Instruction *instruction : *program->instructions())
        DISTC_TRY(checkInstruction(*program, *instruction));
    }
    return {};
  }

private:
  Status checkInstruction(const plan::Program &program, const plan::Instruction &instruction) const {
    Status status;
    if (const auto *norm = instruction.op_as_RmsNorm())
      status = vector(norm->weight());
    if (const auto *norm = instruction.op_as_LayerNorm()) {
      status = vector(norm->weight());
      if (status.ok() && norm->bias() >= 0)
        status = vector(static_cast<uint32_t>(norm->bias()));
    }
    if (const auto *positions = instruction.op_as_PositionEmbedding())
      status = matrix(positions->weight(), program.buffers()->Get(positions->out())->row_elements());
    if (const auto *linear = instruction.op_as_Linear()) {
      status = matrix(linear->weight(), program.buffers()->Get(linear->input())->row_elements());
      if (status.ok() && linear->bias() >= 0)
        status = vector(static_cast<uint32_t>(linear->bias()));
    }
    if (const auto *embedding = instruction.op_as_Embedding())
      status = matrix(embedding->weight(), program.buffers()->Get(embedding->out())->row_elements());
    return status.context("instruction " + std::to_string(instruction.id()));
  }

  Status vector(uint32_t index) const {
    const plan::Weight &weight = *plan_.weights()->Get(index);
    if (weight.dtype() != plan::DType::F32 || (weight.placement() == plan::Placement::Map && rowElements(weight) != 1 &&
                                               weight.row_stride() != rowElements(weight)))
      return refuse("weight " + weight.name()->str() + " is used as a vector, and is not dense F32");
    return {};
  }

  Status matrix(uint32_t index, uint64_t columns) const {
    const plan::Weight &weight = *plan_.weights()->Get(index);
    const bool dense = weight.placement() == plan::Placement::Load || weight.row_stride() == rowElements(weight);
    if (!dense && rowElements(weight) != columns)
      return refuse("weight " + weight.name()->str() + " is mapped with gaps between rows of " +
                    std::to_string(rowElements(weight)) + ", and used as rows of " + std::to_string(columns));
    return {};
  }

  static uint64_t rowElements(const plan::Weight &weight) {
    uint64_t elements = 1;
    for (uint32_t d = 1; d < weight.shape()->size(); ++d)
      elements *= weight.shape()->Get(d);
    return elements;
  }

  Status refuse(const std::string &what) const {
    return failedPrecondition("rank " + std::to_string(plan_.mesh()->rank()) + ": target cpu: " + what +
                              "; compile the model again");
  }

  const plan::Plan &plan_;
};

} // namespace

Status checkCpuSupport(const plan::Plan &plan) { return Support(plan).check(); }

} // namespace distc
