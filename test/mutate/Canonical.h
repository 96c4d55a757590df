// When two plan sets that verify compute the same, told from the plans alone.
#pragma once

#include "test/mutate/Plans.h"

namespace distc::mutate {

/// What a rank computes, without what the verifier has shown to make no difference to it: where memory lies, which
/// order of instructions, which events, which shares of a stage; and without what no step reads: names, labels, ids of
/// instructions, how random weights are made; and without how much it takes at a time where all ranks agree on that:
/// the host refuses what is more.
///
/// Two sets that verify and have this in common compute the same: a buffer is written by one instruction, so that the
/// instructions, in whatever order, say what each value is; that a value is read after it is written, and its memory is
/// nobody else's until then, is what the verifier shows of any order, place, event and share.
std::vector<uint8_t> canonicalForm(const std::vector<uint8_t> &payload);

/// The same of a plan that does not say which model it is of: which of the checkpoint's tensors is which, which type of
/// so many bytes their elements have, by what angles pairs are turned. Nothing else that a plan holds tells that, so
/// the verifier cannot know (docs/plan-format.md, What is proven).
std::vector<uint8_t> formOfAnyModel(const std::vector<uint8_t> &payload);

} // namespace distc::mutate
