// A plan set as a folder: written beside its place, proven there, then put in place whole.
#pragma once

#include "distc/Status.h"
#include "runtime/schema/PlanFile.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace distc {

/// The folder that `output` names: absolute, its symbolic links followed, so that paths relative to it hold wherever it
/// is reached from.
Result<std::string> planSetFolder(const std::string &output);

/// `path` as a plan in `folder` names it: relative to the folder. A file that is a link keeps its own name.
std::string relativeToFolder(const std::string &path, const std::string &folder);

/// Verifies the framed files of all ranks, in rank order, and replaces what `folder` holds by them and the tokenizer. A
/// failure leaves the folder as it was; so does a folder that holds what is not of a plan set. Returns the set as it
/// can be read now. `prove` off: for plans that are to be wrong.
Result<std::vector<PlanFile>> replacePlanSet(const std::vector<std::vector<uint8_t>> &files,
                                             const std::optional<std::vector<uint8_t>> &tokenizer,
                                             const std::string &folder, bool prove = true);

} // namespace distc
