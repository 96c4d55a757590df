// Weights on their way into device memory: streamed from the files through a small ring of pinned buffers, or made
// there.
#pragma once

#include "runtime/plan/WeightLoader.h"

namespace distc::cuda {

/// Fills `memory`, plan.ledger.weights_loaded bytes of the current device, with the weights of a rank, none of them
/// mapped; returns when they are there. The pool's threads read, each only the slices that the rank takes; elements of
/// another type than the weight's are converted on the device. Holds at most 64 MiB of pinned memory, and as much of
/// the device's where elements are converted. The values are those of RankWeights::load, bit for bit.
Status loadWeights(const plan::Plan &plan, const SourceFiles &files, const LoadOptions &options, ThreadPool &pool,
                   std::byte *memory);

} // namespace distc::cuda
