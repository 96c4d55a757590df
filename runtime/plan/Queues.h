// What the two queues of a program gain.
#pragma once

#include "runtime/schema/plan_generated.h"

namespace distc {

/// Whether queue 0 has something to do while a communication that waits for others is under way: an instruction of it
/// stands behind one, and need not wait for it. Else both queues in program order, one after the other, lose nothing.
bool isOverlapped(const plan::Program &program);

} // namespace distc
