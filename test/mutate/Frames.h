// Faults in the files of a plan set: the frame of a plan, and which files there are.
#pragma once

#include "test/mutate/Plans.h"

#include <string>

namespace distc::mutate {

/// The number of kinds, and the name of one.
size_t frameKinds();
const char *frameKind(size_t kind);

/// Damages the plan set that was written into `folder`; says where, or nothing if it has no place for this kind.
std::string damage(size_t kind, const std::string &folder, const Payloads &payloads, const Payloads &ofAnotherSet,
                   Random &random);

} // namespace distc::mutate
