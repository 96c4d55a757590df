#include "runtime/plan/WeightParts.h"

#include "runtime/plan/Convert.h"
#include "runtime/plan/RandomWeights.h"

namespace distc {

namespace {

constexpr uint64_t kAlignment = 256;

Result<WeightPart> partOf(const plan::Plan &plan, const plan::WeightSource &source) {
  if (source.tensor() >= plan.tensors()->size())
    return dataLoss("tensor " + std::to_string(source.tensor()) + " of " + std::to_string(plan.tensors()->size()));
  const plan::SourceTensor &tensor = *plan.tensors()->Get(source.tensor());
  auto runs = SliceRuns::create(source, elementsOf(*tensor.shape()));
  if (!runs.ok())
    return runs.status().context("tensor " + tensor.name()->str());
  return WeightPart{&tensor, runs.take()};
}

Status findIn(const SourceFiles &files, WeightPart &part) {
  const plan::SourceTensor &tensor = *part.tensor;
  const std::string name = "tensor " + tensor.name()->str();
  if (tensor.file() < 0)
    return failedPrecondition(name + ": the plan was compiled without weights; use --random-weights SEED, or compile "
                                     "with the checkpoint's files");
  if (static_cast<size_t>(tensor.file()) >= files.size())
    return dataLoss(name + ": file " + std::to_string(tensor.file()) + " of " + std::to_string(files.size()));
  const MappedFile &file = *files[tensor.file()];
  const uint64_t elements = elementsOf(*tensor.shape()), block = dtypeBlock(tensor.dtype());
  if (elements % block != 0 || tensor.bytes() != bytesOf(tensor.dtype(), elements) || tensor.offset() > file.size() ||
      tensor.bytes() > file.size() - tensor.offset())
    return dataLoss(file.path() + ": " + name + ": " + std::to_string(tensor.bytes()) + " bytes at " +
                    std::to_string(tensor.offset()) + " are not its " + std::to_string(elements) + " elements of " +
                    EnumNameDType(tensor.dtype()) + " in a file of " + std::to_string(file.size()));
  part.file = &file;
  part.offset = tensor.offset();
  return {};
}

} // namespace

uint64_t elementsOf(const flatbuffers::Vector<uint64_t> &shape, uint32_t first) {
  uint64_t product = 1;
  for (uint32_t d = first; d < shape.size(); ++d)
    if (__builtin_mul_overflow(product, shape.Get(d), &product) || product > kTooManyElements)
      return kTooManyElements;
  return product;
}

Status checkPlace(const plan::Weight &weight, uint64_t bytes) {
  if (weight.offset() <= bytes && weight.bytes() <= bytes - weight.offset() && weight.offset() % kAlignment == 0)
    return {};
  return dataLoss(std::to_string(weight.bytes()) + " bytes at " + std::to_string(weight.offset()) +
                  " are not a place in the weight memory of " + std::to_string(bytes));
}

Result<std::vector<WeightPart>> weightParts(const plan::Plan &plan, const plan::Weight &weight,
                                            const SourceFiles &files, bool random) {
  const plan::DType to = weight.dtype();
  const uint64_t elements = elementsOf(*weight.shape());
  if (elements >= kTooManyElements || elements % dtypeBlock(to) != 0 || weight.bytes() != bytesOf(to, elements))
    return dataLoss(std::to_string(weight.bytes()) + " bytes do not hold its shape in " + EnumNameDType(to));
  std::vector<WeightPart> parts;
  uint64_t covered = 0;
  for (const plan::WeightSource *source : *weight.sources()) {
    DISTC_ASSIGN(WeightPart part, partOf(plan, *source));
    covered += part.runs.elements();
    if (isQuantized(to) && (part.tensor->dtype() != to || !part.runs.inBlocks(dtypeBlock(to))))
      return dataLoss("is to stay " + std::string(EnumNameDType(to)) +
                      ", but its tensor is of another type or is cut " + "inside a block");
    parts.push_back(std::move(part));
  }
  if (covered != elements)
    return dataLoss("its sources have " + std::to_string(covered) + " elements, it has " + std::to_string(elements));
  if (random && !canFillRandom(to))
    return dataLoss(std::string("cannot make random ") + EnumNameDType(to));
  for (WeightPart &part : parts) {
    if (random)
      continue;
    DISTC_TRY(findIn(files, part));
    if (weight.placement() == plan::Placement::Load && !canConvert(part.tensor->dtype(), to))
      return dataLoss(std::string("cannot make ") + EnumNameDType(to) + " of " + EnumNameDType(part.tensor->dtype()) +
                      "; compile again");
  }
  return parts;
}

} // namespace distc
