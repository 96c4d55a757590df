// A short busy wait before a thread blocks: a wake-up by the kernel costs tens of microseconds, a decode instruction
// often less. Only for threads that have a core of their own.
#pragma once

namespace distc {

inline void cpuRelax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Polls `ready` for some tens of microseconds; true as soon as it holds.
template <typename Ready> bool spinUntil(Ready ready) {
  for (int round = 0; round < 2000; ++round) {
    if (ready())
      return true;
    cpuRelax();
  }
  return false;
}

} // namespace distc
