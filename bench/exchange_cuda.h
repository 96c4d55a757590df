// All-reduces between devices: of decode steps through their memory, longer ones through NCCL.
#pragma once

namespace distc::bench {

/// Prints a row for each length and number of devices, 2, 4, …; nothing where there are no two devices that can use
/// each other's memory.
void allReduces();

} // namespace distc::bench
