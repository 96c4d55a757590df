// The all-reduce of decode steps on two devices, through their memory and through NCCL.
#pragma once

namespace distc::bench {

/// Prints a row for each length; nothing where there are no two devices that can use each other's memory.
void allReduces();

} // namespace distc::bench
