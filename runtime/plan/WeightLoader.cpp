#include "runtime/plan/WeightLoader.h"

#include "runtime/plan/Convert.h"
#include "runtime/plan/RandomWeights.h"
#include "runtime/plan/WeightParts.h"

namespace distc {

namespace {

constexpr uint64_t kAlignment = 256;
constexpr uint64_t kPageGap = 8192; // a gap that holds a whole page in any case

uint64_t alignUp(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// One weight on its way: what was checked, and where it goes.
class Loader {
public:
  Loader(const plan::Plan &plan, const SourceFiles &files, const LoadOptions &options, ThreadPool &pool)
      : plan_(plan), files_(files), options_(options), pool_(pool) {}

  Status load(const plan::Weight &weight, const AnonymousMemory &memory, const AnonymousMemory &randomMapped,
              uint64_t &randomOffset, LoadedWeight &result) {
    DISTC_ASSIGN(const std::vector<WeightPart> parts,
                 weightParts(plan_, weight, files_, options_.randomSeed.has_value()));
    result.dtype = weight.dtype();
    result.elements = elementsOf(*weight.shape());
    result.rows = weight.shape()->size() == 0 ? 1 : weight.shape()->Get(0);
    if (weight.placement() == plan::Placement::Map && !options_.randomSeed)
      return map(weight, parts, result);
    std::byte *out = nullptr;
    if (weight.placement() == plan::Placement::Map) {
      out = randomMapped.data() + randomOffset;
      randomOffset += alignUp(weight.bytes());
    } else {
      DISTC_TRY(checkPlace(weight, memory.size()));
      out = memory.data() + weight.offset();
    }
    result.data = out;
    result.rowStride = elementsOf(*weight.shape(), 1);
    for (const WeightPart &part : parts) {
      DISTC_TRY(fill(weight, part, out));
      out += bytesOf(weight.dtype(), part.runs.elements());
    }
    return {};
  }

private:
  Status map(const plan::Weight &weight, const std::vector<WeightPart> &parts, LoadedWeight &result) const {
    if (parts.size() != 1)
      return dataLoss("mapped from " + std::to_string(parts.size()) + " sources, expected 1");
    const SliceRuns &runs = parts[0].runs;
    const plan::SourceTensor &tensor = *parts[0].tensor;
    const MappedFile *file = parts[0].file;
    const std::span<const std::byte> bytes = parts[0].bytes();
    if (tensor.dtype() != weight.dtype())
      return dataLoss(std::string("mapped as ") + EnumNameDType(weight.dtype()) + ", but the file holds " +
                      EnumNameDType(tensor.dtype()));
    const plan::DType type = weight.dtype();
    const uint64_t row = elementsOf(*weight.shape(), 1), stride = weight.row_stride();
    uint64_t first = 0, last = 0;
    bool regular = stride >= row && runs.stride() == 1;
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
    if (stride % dtypeBlock(type) != 0)
      return dataLoss("mapped, but its rows are no whole blocks apart");
    const std::byte *data = bytes.data() + bytesOf(type, first);
    if (!isQuantized(type) && reinterpret_cast<uintptr_t>(data) % dtypeBytes(type) != 0)
      return dataLoss(file->path() + ": mapped, but not aligned to its elements; compile again");
    result.data = data;
    result.rowStride = stride;
    if (options_.prefault && last > first) {
      // Rows with more than pages between them are brought in one by one: the rest belongs to other ranks.
      const uint64_t begin = static_cast<uint64_t>(data - file->bytes().data()),
                     rows = (last - first - row) / stride + 1;
      if (bytesOf(type, stride - row) <= kPageGap)
        file->prefault(begin, bytesOf(type, last - first));
      else
        for (uint64_t r = 0; r < rows && interrupted().ok(); ++r)
          file->prefault(begin + r * bytesOf(type, stride), bytesOf(type, row));
    }
    count(weight.bytes());
    return interrupted();
  }

  Status fill(const plan::Weight &weight, const WeightPart &part, std::byte *out) const {
    const SliceRuns &runs = part.runs;
    const plan::SourceTensor &tensor = *part.tensor;
    const plan::DType to = weight.dtype();
    const uint64_t key = options_.randomSeed ? randomKey(*options_.randomSeed, tensor.name()->string_view()) : 0;
    const std::span<const std::byte> bytes = options_.randomSeed ? std::span<const std::byte>() : part.bytes();
    constexpr int64_t kPiece = 1 << 20; // how often progress is counted and an interrupt seen
    constexpr int64_t kGrain = 1024;    // whole blocks of every type
    pool_.parallelFor(static_cast<int64_t>(runs.elements()), kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t piece = begin; piece < end && interrupted().ok(); piece += kPiece) {
        const int64_t pieceEnd = std::min(end, piece + kPiece);
        std::byte *base = out + bytesOf(to, piece);
        makeElements(runs, piece, pieceEnd, to, base, [&](uint64_t from, uint64_t n, std::byte *place) {
          if (options_.randomSeed)
            fillRandom(place, to, weight.init(), weight.init_scale(), key, from, n);
          else
            convert(bytes.data(), tensor.dtype(), from, n, place, to);
        });
        count(bytesOf(to, pieceEnd - piece));
      }
    });
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
      bytes += alignUp(std::min(weight->bytes(), kTooManyElements));
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
