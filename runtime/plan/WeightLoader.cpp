#include "runtime/plan/WeightLoader.h"

#include "runtime/plan/Convert.h"
#include "runtime/plan/RandomWeights.h"
#include "runtime/plan/SliceRuns.h"

#include <cstring>

namespace distc {

namespace {

constexpr uint64_t kAlignment = 256;
constexpr uint64_t kTooMany = uint64_t(1) << 60;
constexpr uint64_t kPageGap = 8192; // a gap that holds a whole page in any case

// The product of the dimensions from `first`, or kTooMany where it would overflow the arithmetic of bytes.
uint64_t elementsOf(const flatbuffers::Vector<uint64_t> &shape, uint32_t first = 0) {
  uint64_t product = 1;
  for (uint32_t d = first; d < shape.size(); ++d)
    if (__builtin_mul_overflow(product, shape.Get(d), &product) || product > kTooMany)
      return kTooMany;
  return product;
}

uint64_t alignUp(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// One weight on its way: what was checked, and where it goes.
class Loader {
public:
  Loader(const plan::Plan &plan, const SourceFiles &files, const LoadOptions &options, ThreadPool &pool)
      : plan_(plan), files_(files), options_(options), pool_(pool) {}

  Status load(const plan::Weight &weight, const AnonymousMemory &memory, const AnonymousMemory &randomMapped,
              uint64_t &randomOffset, LoadedWeight &result) {
    DISTC_TRY(check(weight, result));
    if (weight.placement() == plan::Placement::Map && !options_.randomSeed)
      return map(weight, result);
    std::byte *out = nullptr;
    if (weight.placement() == plan::Placement::Map) {
      out = randomMapped.data() + randomOffset;
      randomOffset += alignUp(weight.bytes());
    } else {
      if (weight.offset() > memory.size() || weight.bytes() > memory.size() - weight.offset() ||
          weight.offset() % kAlignment != 0)
        return dataLoss(std::to_string(weight.bytes()) + " bytes at " + std::to_string(weight.offset()) +
                        " are not a place in the weight memory of " + std::to_string(memory.size()));
      out = memory.data() + weight.offset();
    }
    result.data = out;
    result.rowStride = elementsOf(*weight.shape(), 1);
    for (const plan::WeightSource *source : *weight.sources())
      DISTC_TRY(fill(weight, *source, out));
    return {};
  }

private:
  Status check(const plan::Weight &weight, LoadedWeight &result) const {
    result.dtype = weight.dtype();
    result.elements = elementsOf(*weight.shape());
    result.rows = weight.shape()->size() == 0 ? 1 : weight.shape()->Get(0);
    if (result.elements >= kTooMany || dtypeBlock(weight.dtype()) != 1 ||
        weight.bytes() != result.elements * dtypeBytes(weight.dtype()))
      return dataLoss(std::to_string(weight.bytes()) + " bytes do not hold its shape in " +
                      EnumNameDType(weight.dtype()));
    uint64_t parts = 0;
    for (const plan::WeightSource *source : *weight.sources()) {
      DISTC_ASSIGN(const SliceRuns runs, runsOf(*source));
      parts += runs.elements();
    }
    if (parts != result.elements)
      return dataLoss("its sources have " + std::to_string(parts) + " elements, it has " +
                      std::to_string(result.elements));
    return {};
  }

  Result<SliceRuns> runsOf(const plan::WeightSource &source) const {
    if (source.tensor() >= plan_.tensors()->size())
      return dataLoss("tensor " + std::to_string(source.tensor()) + " of " + std::to_string(plan_.tensors()->size()));
    const plan::SourceTensor &tensor = *plan_.tensors()->Get(source.tensor());
    auto runs = SliceRuns::create(source, elementsOf(*tensor.shape()));
    return runs.ok() ? std::move(runs) : runs.status().context("tensor " + tensor.name()->str());
  }

  // The bytes of a tensor in its file.
  Result<std::span<const std::byte>> bytesOf(const plan::SourceTensor &tensor, const MappedFile *&file) const {
    const std::string name = "tensor " + tensor.name()->str();
    if (tensor.file() < 0)
      return failedPrecondition(name + ": the plan was compiled without weights; use --random-weights SEED, or compile "
                                       "with the checkpoint's files");
    if (static_cast<size_t>(tensor.file()) >= files_.size())
      return dataLoss(name + ": file " + std::to_string(tensor.file()) + " of " + std::to_string(files_.size()));
    file = files_[tensor.file()].get();
    const uint64_t elements = elementsOf(*tensor.shape()), block = dtypeBlock(tensor.dtype());
    if (elements % block != 0 || tensor.bytes() != elements / block * dtypeBytes(tensor.dtype()) ||
        tensor.offset() > file->size() || tensor.bytes() > file->size() - tensor.offset())
      return dataLoss(file->path() + ": " + name + ": " + std::to_string(tensor.bytes()) + " bytes at " +
                      std::to_string(tensor.offset()) + " are not its " + std::to_string(elements) + " elements of " +
                      EnumNameDType(tensor.dtype()) + " in a file of " + std::to_string(file->size()));
    return file->bytes().subspan(tensor.offset(), tensor.bytes());
  }

  Status map(const plan::Weight &weight, LoadedWeight &result) const {
    if (weight.sources()->size() != 1)
      return dataLoss("mapped from " + std::to_string(weight.sources()->size()) + " sources, expected 1");
    const plan::WeightSource &source = *weight.sources()->Get(0);
    DISTC_ASSIGN(const SliceRuns runs, runsOf(source));
    const plan::SourceTensor &tensor = *plan_.tensors()->Get(source.tensor());
    const MappedFile *file = nullptr;
    DISTC_ASSIGN(const std::span<const std::byte> bytes, bytesOf(tensor, file));
    if (tensor.dtype() != weight.dtype())
      return dataLoss(std::string("mapped as ") + EnumNameDType(weight.dtype()) + ", but the file holds " +
                      EnumNameDType(tensor.dtype()));
    const uint64_t row = elementsOf(*weight.shape(), 1), stride = weight.row_stride(),
                   size = dtypeBytes(weight.dtype());
    uint64_t first = 0, last = 0;
    bool regular = stride >= row;
    runs.forEachRun(0, runs.elements(), [&](uint64_t from, uint64_t at, uint64_t count) {
      if (at == 0)
        first = from;
      // A run may cover many rows only where they follow each other without a gap.
      regular = regular && from != kZeroFill && from == first + at / row * stride + at % row &&
                (stride == row || at % row + count <= row);
      last = from + count;
    });
    if (!regular)
      return dataLoss("mapped, but its rows are not " + std::to_string(stride) + " elements apart in the file");
    const std::byte *data = bytes.data() + first * size;
    if (reinterpret_cast<uintptr_t>(data) % size != 0)
      return dataLoss(file->path() + ": mapped, but not aligned to its elements; compile again");
    result.data = data;
    result.rowStride = stride;
    if (options_.prefault && last > first) {
      // Rows with more than pages between them are brought in one by one: the rest belongs to other ranks.
      const uint64_t begin = static_cast<uint64_t>(data - file->bytes().data()),
                     rows = (last - first - row) / stride + 1;
      if ((stride - row) * size <= kPageGap)
        file->prefault(begin, (last - first) * size);
      else
        for (uint64_t r = 0; r < rows && interrupted().ok(); ++r)
          file->prefault(begin + r * stride * size, row * size);
    }
    count(weight.bytes());
    return interrupted();
  }

  Status fill(const plan::Weight &weight, const plan::WeightSource &source, std::byte *&out) const {
    DISTC_ASSIGN(const SliceRuns runs, runsOf(source));
    const plan::SourceTensor &tensor = *plan_.tensors()->Get(source.tensor());
    const plan::DType to = weight.dtype();
    const uint64_t size = dtypeBytes(to),
                   key = options_.randomSeed ? randomKey(*options_.randomSeed, tensor.name()->string_view()) : 0;
    std::span<const std::byte> bytes;
    if (!options_.randomSeed) {
      const MappedFile *file = nullptr;
      DISTC_ASSIGN(bytes, bytesOf(tensor, file));
      if (!canConvert(tensor.dtype(), to))
        return dataLoss(std::string("cannot make ") + EnumNameDType(to) + " of " + EnumNameDType(tensor.dtype()) +
                        "; compile again");
    } else if (!canFillRandom(to)) {
      return dataLoss(std::string("cannot make random ") + EnumNameDType(to));
    }
    constexpr int64_t kPiece = 1 << 20; // how often progress is counted and an interrupt seen
    pool_.parallelFor(static_cast<int64_t>(runs.elements()), 1024, [&](int64_t begin, int64_t end) {
      for (int64_t piece = begin; piece < end && interrupted().ok(); piece += kPiece) {
        const int64_t pieceEnd = std::min(end, piece + kPiece);
        runs.forEachRun(piece, pieceEnd, [&](uint64_t from, uint64_t at, uint64_t n) {
          std::byte *place = out + at * size;
          if (from == kZeroFill)
            std::memset(place, 0, n * size);
          else if (options_.randomSeed)
            fillRandom(place, to, weight.init(), weight.init_scale(), key, from, n);
          else
            convert(bytes.data(), tensor.dtype(), from, n, place, to);
        });
        count((pieceEnd - piece) * size);
      }
    });
    out += runs.elements() * size;
    return interrupted();
  }

  void count(uint64_t bytes) const {
    if (options_.loadedBytes)
      options_.loadedBytes->fetch_add(bytes, std::memory_order_relaxed);
  }

  Status interrupted() const {
    return options_.interrupted && options_.interrupted->load(std::memory_order_relaxed) ? cancelled("interrupted")
                                                                                         : Status();
  }

  const plan::Plan &plan_;
  const SourceFiles &files_;
  const LoadOptions &options_;
  ThreadPool &pool_;
};

} // namespace

uint64_t mappedInMemoryBytes(const plan::Plan &plan) {
  uint64_t bytes = 0;
  for (const plan::Weight *weight : *plan.weights())
    if (weight->placement() == plan::Placement::Map)
      bytes += alignUp(std::min(weight->bytes(), kTooMany));
  return bytes;
}

Result<RankWeights> RankWeights::load(const plan::Plan &plan, const SourceFiles &files, const LoadOptions &options,
                                      ThreadPool &pool) {
  RankWeights result;
  result.files_ = files;
  result.weights_.resize(plan.weights()->size());
  const std::string rank = "rank " + std::to_string(plan.mesh()->rank()) + ": ";
  DISTC_ASSIGN(result.memory_, AnonymousMemory::reserve(plan.ledger()->weights_loaded(), rank + "weights"));
  if (options.randomSeed) {
    DISTC_ASSIGN(result.randomMapped_, AnonymousMemory::reserve(mappedInMemoryBytes(plan), rank + "random weights"));
  }
  Loader loader(plan, files, options, pool);
  uint64_t randomOffset = 0;
  for (uint32_t w = 0; w < plan.weights()->size(); ++w) {
    const plan::Weight &weight = *plan.weights()->Get(w);
    Status status = loader.load(weight, result.memory_, result.randomMapped_, randomOffset, result.weights_[w]);
    if (!status.ok())
      return status.code() == Code::Cancelled ? status : status.context(rank + "weight " + weight.name()->str());
  }
  return result;
}

} // namespace distc
