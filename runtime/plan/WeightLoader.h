// A rank's weights, ready to be read by kernels.
#pragma once

#include "distc/Status.h"
#include "runtime/base/AnonymousMemory.h"
#include "runtime/base/ThreadPool.h"
#include "runtime/plan/SourceFiles.h"

#include <atomic>
#include <optional>
#include <vector>

namespace distc {

/// One weight in memory or in the mapped file: index i of dimension 0 starts rowStride elements after index i-1.
struct LoadedWeight {
  const void *data = nullptr;
  plan::DType dtype = plan::DType::F32;
  uint64_t elements = 0;
  uint64_t rows = 0; // shape[0]
  uint64_t rowStride = 0;
};

struct LoadOptions {
  std::optional<uint64_t> randomSeed;             // random values: the files are not read
  bool prefault = true;                           // bring mapped weights into memory now, not at the first step
  std::atomic<uint64_t> *loadedBytes = nullptr;   // counts weight bytes as they are ready
  const std::atomic<bool> *interrupted = nullptr; // ends the load with Code::Cancelled
  bool observed = false;                          // every instruction is to write its result, as an observer expects it
  bool traced = false;                            // Backend::times will be asked for
};

class RankWeights {
public:
  /// Loads the weights of `plan`; `files` are its files, unused with random weights. Every range is checked against the
  /// file and the weight memory before it is touched.
  static Result<RankWeights> load(const plan::Plan &plan, const SourceFiles &files, const LoadOptions &options,
                                  ThreadPool &pool);

  const LoadedWeight &operator[](uint32_t index) const { return weights_[index]; }
  size_t size() const { return weights_.size(); }

private:
  AnonymousMemory memory_, randomMapped_;
  SourceFiles files_; // keeps the mappings
  std::vector<LoadedWeight> weights_;
};

/// Bytes that the placements Map of a plan take where they are made in memory, too: with random weights.
uint64_t mappedInMemoryBytes(const plan::Plan &plan);

} // namespace distc
