#include "runtime/comm/Reduce.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace distc {

namespace {

// Small enough for a block of the sum to stay in the first-level cache while the members stream by.
constexpr size_t kBlock = 2048;

template <typename T> T sum(T a, T b) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<std::make_unsigned_t<T>>(a) + static_cast<std::make_unsigned_t<T>>(b));
  else
    return a + b;
}

template <typename T, typename Combine>
void reduceWith(std::span<const void *const> ins, std::span<void *const> outs, size_t begin, size_t end, size_t shift,
                Combine combine) {
  T block[kBlock];
  for (size_t at = begin; at < end; at += kBlock) {
    const size_t n = std::min(kBlock, end - at);
    std::memcpy(block, static_cast<const T *>(ins[0]) + at, n * sizeof(T));
    for (size_t m = 1; m < ins.size(); ++m) {
      const T *in = static_cast<const T *>(ins[m]) + at;
      for (size_t i = 0; i < n; ++i)
        block[i] = combine(block[i], in[i]);
    }
    for (void *out : outs)
      std::memcpy(static_cast<T *>(out) + (at - shift), block, n * sizeof(T));
  }
}

template <typename T>
void reduceAs(std::span<const void *const> ins, std::span<void *const> outs, size_t begin, size_t end, size_t shift,
              plan::ReduceOp op) {
  if (op == plan::ReduceOp::Sum)
    reduceWith<T>(ins, outs, begin, end, shift, [](T a, T b) { return sum(a, b); });
  else
    reduceWith<T>(ins, outs, begin, end, shift, [](T a, T b) { return a < b ? b : a; });
}

} // namespace

bool canReduce(plan::DType dtype) { return dtype == plan::DType::F32 || dtype == plan::DType::I32; }

void reduce(std::span<const void *const> ins, std::span<void *const> outs, size_t begin, size_t end, size_t shift,
            plan::DType dtype, plan::ReduceOp op) {
  if (dtype == plan::DType::F32)
    reduceAs<float>(ins, outs, begin, end, shift, op);
  else
    reduceAs<int32_t>(ins, outs, begin, end, shift, op);
}

} // namespace distc
