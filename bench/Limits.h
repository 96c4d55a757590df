// What the machine can do at most, to hold a kernel's figures against. One thread.
#pragma once

#include <cstddef>

namespace distc::bench {

/// Bytes per second of reading `bytes` at `data` (64-byte aligned, a multiple of 4 KiB): the better of one stream and
/// four at once, with prefetches.
double readBandwidth(const void *data, size_t bytes);

/// Floating point operations per second of independent multiply-adds in registers, two operations each.
double fmaPeak();

} // namespace distc::bench
