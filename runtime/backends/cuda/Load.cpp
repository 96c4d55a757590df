#include "runtime/backends/cuda/Load.h"

#include "runtime/backends/cuda/CudaBackend.h"
#include "runtime/plan/Convert.h"
#include "runtime/plan/RandomWeights.h"
#include "runtime/plan/WeightParts.h"
#include "runtime/schema/PlanFile.h"

#include <cstring>
#include <mutex>

namespace distc::cuda {

namespace {

constexpr uint32_t kReaders = 8;                 // more do not read faster
constexpr uint32_t kBuffers = 2;                 // of a reader: one is filled while the other is copied
constexpr size_t kBufferBytes = size_t(4) << 20; // enough that neither reading nor copying waits for calls

struct Part {
  const plan::Weight *weight;
  WeightPart source;
  std::byte *out; // on the device

  plan::DType from() const { return source.tensor->dtype(); }
  plan::DType to() const { return weight->dtype(); }
  /// Bytes of `elements` in the file; of quantized ones a multiple of their block.
  uint64_t fileBytes(uint64_t elements) const { return bytesOf(from(), elements); }
};

/// Elements [begin, end) of a part: what a buffer holds.
struct Piece {
  const Part *part;
  uint64_t begin, end;

  uint64_t elements() const { return end - begin; }
  std::byte *out() const { return part->out + begin * dtypeBytes(part->to()); }
  template <typename Run> void forEachRun(Run &&run) const { part->source.runs.forEachRun(begin, end, run); }
  /// Whether the device can convert it: quantized elements in whole blocks, in the order of the file.
  bool inBlocks() const {
    const uint64_t block = dtypeBlock(part->from());
    bool whole = elements() % block == 0 && part->source.runs.stride() == 1;
    if (block > 1)
      forEachRun([&](uint64_t from, uint64_t at, uint64_t n) {
        whole = whole && n % block == 0 && (at - begin) % block == 0 && (from == kZeroFill || from % block == 0);
      });
    return whole;
  }
};

cudaError_t convertOnDevice(const void *source, plan::DType from, int64_t n, Out out, cudaStream_t stream) {
  if (isQuantized(from))
    return dequantize(weightType(from), source, n, out, stream);
  return convert({source, typeOf(from)}, n, out, stream);
}

Status add(Status status, const plan::Weight &weight) { return status.context("weight " + weight.name()->str()); }

/// What a thread reads with.
class Reader {
public:
  ~Reader() {
    (void)cudaStreamSynchronize(stream_); // the buffers go
    for (Slot &slot : slots_)
      if (slot.copied)
        (void)cudaEventDestroy(slot.copied);
  }

  /// `pinned` and `staging`: of the reader alone, kBuffers times kBufferBytes and stagingBytes.
  Status create(std::byte *pinned, std::byte *staging, size_t stagingBytes) {
    DISTC_TRY(stream_.create());
    for (Slot &slot : slots_) {
      DISTC_TRY(check(cudaEventCreateWithFlags(&slot.copied, cudaEventDisableTiming), "create an event"));
      slot.pinned = std::exchange(pinned, pinned + kBufferBytes);
      slot.staging = std::exchange(staging, staging + stagingBytes);
    }
    return {};
  }

  Status load(const Piece &piece) {
    const Slot &slot = slots_[next_++ % kBuffers];
    DISTC_TRY(check(cudaEventSynchronize(slot.copied), "copy a weight"));
    const Part &part = *piece.part;
    const auto n = static_cast<int64_t>(piece.elements());
    if (!piece.inBlocks()) {
      convertHere(piece, slot.pinned);
      DISTC_TRY(copy(piece.out(), slot.pinned, piece.elements() * dtypeBytes(part.to())));
    } else {
      DISTC_TRY(read(piece, slot.pinned));
      const bool same = part.from() == part.to();
      DISTC_TRY(copy(same ? piece.out() : slot.staging, slot.pinned, part.fileBytes(piece.elements())));
      if (!same)
        DISTC_TRY(check(convertOnDevice(slot.staging, part.from(), n, {piece.out(), typeOf(part.to())}, stream_),
                        "convert a weight"));
    }
    return check(cudaEventRecord(slot.copied, stream_), "record an event");
  }

  Status finish() { return check(cudaStreamSynchronize(stream_), "copy the weights"); }

private:
  struct Slot {
    std::byte *pinned = nullptr, *staging = nullptr;
    cudaEvent_t copied = nullptr; // what was in it
  };

  static Status read(const Piece &piece, std::byte *out) {
    const Part &part = *piece.part;
    Status status;
    piece.forEachRun([&](uint64_t from, uint64_t at, uint64_t n) {
      std::byte *place = out + part.fileBytes(at - piece.begin);
      if (from == kZeroFill)
        std::memset(place, 0, part.fileBytes(n)); // a block of zeros is quantized zeros
      else if (status.ok())
        status = part.source.file->read(part.source.offset + part.fileBytes(from), {place, part.fileBytes(n)});
    });
    return status;
  }

  static void convertHere(const Piece &piece, std::byte *out) {
    const Part &part = *piece.part;
    makeElements(part.source.runs, piece.begin, piece.end, part.to(), out,
                 [&](uint64_t from, uint64_t n, std::byte *place) {
                   distc::convert(part.source.bytes().data(), part.from(), from, n, place, part.to());
                 });
  }

  Status copy(std::byte *out, const std::byte *in, size_t bytes) {
    return check(cudaMemcpyAsync(out, in, bytes, cudaMemcpyHostToDevice, stream_), "copy a weight");
  }

  Stream stream_;
  Slot slots_[kBuffers];
  size_t next_ = 0;
};

class Loader {
public:
  Loader(const LoadOptions &options, ThreadPool &pool) : options_(options), pool_(pool) {}

  Status collect(const plan::Plan &plan, const SourceFiles &files, std::byte *memory) {
    for (const plan::Weight *weight : *plan.weights()) {
      auto sources = weightParts(plan, *weight, files, options_.randomSeed.has_value());
      if (!sources.ok())
        return add(sources.status(), *weight);
      DISTC_TRY(add(checkPlace(*weight, plan.ledger()->weights_loaded()), *weight));
      std::byte *out = memory + weight->offset();
      for (WeightPart &source : *sources) {
        const uint64_t bytes = source.runs.elements() * dtypeBytes(weight->dtype());
        parts_.push_back({weight, std::move(source), std::exchange(out, out + bytes)});
      }
    }
    return {};
  }

  Status readAll() {
    // In the order of the files, which a disk likes.
    std::stable_sort(parts_.begin(), parts_.end(), [](const Part &a, const Part &b) {
      return std::pair(a.source.tensor->file(), a.source.offset) < std::pair(b.source.tensor->file(), b.source.offset);
    });
    std::vector<Piece> pieces;
    size_t stagingBytes = 0;
    for (const Part &part : parts_) {
      const bool same = part.from() == part.to();
      const uint64_t elements = part.source.runs.elements(), step = kBufferBytes / (same ? dtypeBytes(part.to()) : 4);
      for (uint64_t at = 0; at < elements; at += step)
        pieces.push_back({&part, at, std::min(elements, at + step)});
      if (!same)
        stagingBytes = std::max(stagingBytes, alignedBytes(part.fileBytes(std::min(elements, step))));
    }
    const uint32_t count = std::min<uint32_t>({kReaders, pool_.size(), static_cast<uint32_t>(pieces.size())});
    DISTC_ASSIGN(const Memory pinned,
                 Memory::allocate(Memory::Kind::Pinned, count * kBuffers * kBufferBytes, "buffers to load through"));
    DISTC_ASSIGN(const Memory staging, Memory::allocate(Memory::Kind::Device, count * kBuffers * stagingBytes,
                                                        "buffers to convert weights in"));
    int device = 0;
    DISTC_TRY(check(cudaGetDevice(&device), "find the device"));
    std::atomic<size_t> next{0};
    pool_.forEachThread([&](uint32_t thread) {
      if (thread >= count)
        return;
      Reader reader;
      Status status = check(cudaSetDevice(device), "use the device");
      if (status.ok())
        status = reader.create(pinned.data() + thread * kBuffers * kBufferBytes,
                               staging.data() + thread * kBuffers * stagingBytes, stagingBytes);
      for (size_t i = 0; status.ok() && goOn() && (i = next++) < pieces.size();) {
        status = add(reader.load(pieces[i]), *pieces[i].part->weight);
        tell(pieces[i].elements() * dtypeBytes(pieces[i].part->to()));
      }
      fail(status.ok() ? reader.finish() : status);
    });
    return result();
  }

  Status makeRandom(uint64_t seed) {
    Stream stream;
    DISTC_TRY(stream.create());
    for (const Part &part : parts_) {
      if (!goOn())
        break;
      DISTC_TRY(add(makeRandom(part, seed, stream), *part.weight));
      tell(part.source.runs.elements() * dtypeBytes(part.to()));
    }
    DISTC_TRY(check(cudaStreamSynchronize(stream), "make random weights"));
    return result();
  }

private:
  /// Runs of one length whose distances are the same, in the tensor and in the weight: one launch.
  struct Rows {
    uint64_t from = 0, at = 0, count = 0, rows = 0, fromStride = 0, atStride = 0;

    bool add(uint64_t f, uint64_t a, uint64_t n) {
      if (rows == 1 && n == count) {
        fromStride = f - from;
        atStride = a - at;
      } else if (rows == 0 || n != count || f != from + rows * fromStride || a != at + rows * atStride) {
        return false;
      }
      ++rows;
      return true;
    }
  };

  static Status makeRandom(const Part &part, uint64_t seed, cudaStream_t stream) {
    const uint64_t size = dtypeBytes(part.to()), key = randomKey(seed, part.source.tensor->name()->string_view());
    const plan::Init asked = part.weight->init();
    const Init init = asked == plan::Init::Uniform ? Init::Uniform
                      : asked == plan::Init::Ones  ? Init::Ones
                                                   : Init::Zeros;
    cudaError_t error = cudaMemsetAsync(part.out, 0, part.source.runs.elements() * size, stream);
    Rows rows;
    auto launch = [&] {
      if (rows.rows != 0 && error == cudaSuccess)
        error =
            randomWeights(init, part.weight->init_scale(), key, rows.from, rows.fromStride,
                          static_cast<int64_t>(rows.rows), static_cast<int64_t>(rows.count),
                          {part.out + rows.at * size, typeOf(part.to())}, static_cast<int64_t>(rows.atStride), stream);
    };
    const SliceRuns &runs = part.source.runs;
    const uint64_t step = runs.stride() == 1 ? runs.elements() : runs.stride(); // rows of a transposed part one by one
    for (uint64_t begin = 0; begin < runs.elements(); begin += step)
      runs.forEachRun(begin, begin + step, [&](uint64_t from, uint64_t at, uint64_t n) {
        if (from == kZeroFill || rows.add(from, at, n))
          return;
        launch();
        rows = {from, at, n, 1};
      });
    launch();
    return check(error, "make random weights");
  }

  bool goOn() const {
    return !failed_.load(std::memory_order_relaxed) &&
           !(options_.interrupted && options_.interrupted->load(std::memory_order_relaxed));
  }
  void tell(uint64_t bytes) const {
    if (options_.loadedBytes)
      options_.loadedBytes->fetch_add(bytes, std::memory_order_relaxed);
  }
  void fail(Status status) {
    if (status.ok())
      return;
    std::lock_guard lock(mutex_);
    if (status_.ok())
      status_ = std::move(status);
    failed_ = true;
  }
  Status result() const {
    if (!status_.ok() || goOn())
      return status_;
    return cancelled("interrupted");
  }

  const LoadOptions &options_;
  ThreadPool &pool_;
  std::vector<Part> parts_;
  std::mutex mutex_;
  Status status_; // the first failure
  std::atomic<bool> failed_{false};
};

} // namespace

Status loadWeights(const plan::Plan &plan, const SourceFiles &files, const LoadOptions &options, ThreadPool &pool,
                   std::byte *memory) {
  Loader loader(options, pool);
  Status status = loader.collect(plan, files, memory);
  if (status.ok())
    status = options.randomSeed ? loader.makeRandom(*options.randomSeed) : loader.readAll();
  return status.code() == Code::Cancelled ? status : status.context("rank " + std::to_string(plan.mesh()->rank()));
}

} // namespace distc::cuda
