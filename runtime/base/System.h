// What this process may use of the machine.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace distc {

/// Bytes that can be allocated before the kernel must kill: MemAvailable, and what the memory limits of the control
/// groups (v1 or v2) of this process leave. `root` is prepended to /proc and /sys, for tests.
uint64_t availableMemory(const std::string &root = "");

/// The cores this process may run on, in order; fewer than there are where its affinity says so.
std::vector<int> allowedCores();

/// How many threads can really run at once: the allowed cores, or less where a control group limits processor time.
uint32_t usableCores(const std::string &root = "");

/// Keeps the calling thread, and those that it starts, on these cores, as far as the system lets it.
void pinThisThread(std::span<const int> cores);
inline void pinThisThread(int core) { pinThisThread(std::span(&core, 1)); }

} // namespace distc
