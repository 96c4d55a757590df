#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/Target.cpp"
#include "hwy/foreach_target.h" // IWYU pragma: keep

#include "distc/kernels/Cpu.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace distc::cpu::HWY_NAMESPACE {
namespace {
const char *targetName() { return hwy::TargetName(HWY_TARGET); }
} // namespace
} // namespace distc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace distc::cpu {
HWY_EXPORT(targetName);
const char *simdTarget() { return HWY_DYNAMIC_DISPATCH(targetName)(); }
} // namespace distc::cpu
#endif
