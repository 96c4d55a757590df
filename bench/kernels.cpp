// The CPU kernels on one thread, beside the limits of the machine measured in the same run: GB/s of weights or cache
// that are streamed from memory (`share` of the bandwidth of plain reads), GFLOP/s (`share` of the peak of
// multiply-adds).
#include "bench/Limits.h"
#include "distc/kernels/Cpu.h"

#include "benchmark/benchmark.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

using namespace distc;

namespace {

double bandwidth, peak; // of this machine, per second

/// What all benchmarks stream from: larger than the last-level cache, so that each call finds its weights in memory.
/// Holds f32 values; their halves are bf16 and f16 values as well.
struct Pool {
  static constexpr size_t bytes = size_t(512) << 20;
  std::unique_ptr<void, decltype(&std::free)> memory{std::aligned_alloc(4096, bytes), &std::free};

  Pool() {
    std::mt19937 random(1);
    std::uniform_int_distribution<uint32_t> mantissa(0, 0x3FF);
    auto *halves = static_cast<uint16_t *>(memory.get());
    for (size_t i = 0; i < bytes / 2; ++i)
      halves[i] = uint16_t(0x3C00 | mantissa(random) | (i & 1) << 15);
  }
  /// Successive pieces, from the start again at the end.
  const void *next(size_t size) {
    if (position + size > bytes)
      position = 0;
    const void *piece = static_cast<char *>(memory.get()) + position;
    position += size;
    return piece;
  }
  size_t position = 0;
};

Pool &pool() {
  static Pool instance;
  return instance;
}

std::vector<float> randomFloats(size_t n) {
  std::mt19937 random(2);
  std::normal_distribution<float> distribution;
  std::vector<float> values(n);
  for (float &v : values)
    v = distribution(random);
  return values;
}

void report(benchmark::State &state, double bytesPerCall, double flopsPerCall) {
  using benchmark::Counter;
  const double calls = double(state.iterations());
  state.counters["GB/s"] = Counter(bytesPerCall * calls * 1e-9, Counter::kIsRate);
  state.counters["GFLOP/s"] = Counter(flopsPerCall * calls * 1e-9, Counter::kIsRate);
  state.counters["share_bw"] = Counter(bytesPerCall * calls / bandwidth, Counter::kIsRate);
  state.counters["share_fma"] = Counter(flopsPerCall * calls / peak, Counter::kIsRate);
}

void linear(benchmark::State &state, cpu::WeightType type, int64_t cols, int64_t rows, int64_t tokens) {
  const auto bytes = size_t(rows * cols / blockElements(type) * blockBytes(type));
  const std::vector<float> x = randomFloats(tokens * cols);
  std::vector<float> y(tokens * rows);
  for (auto _ : state) {
    const cpu::Matrix w{pool().next(bytes), type, rows, cols, cols};
    cpu::linear(x.data(), tokens, w, nullptr, y.data(), rows, 0, rows);
    benchmark::DoNotOptimize(y.data());
  }
  report(state, double(bytes), 2.0 * double(rows * cols * tokens));
}

void attention(benchmark::State &state, int64_t heads, int64_t kvHeads, int64_t headDim, int64_t context) {
  const int64_t blockTokens = 32, blocks = (context + blockTokens - 1) / blockTokens;
  const size_t bytes = size_t(blocks * 2 * kvHeads * blockTokens * headDim) * 4;
  const std::vector<float> q = randomFloats(heads * headDim);
  std::vector<float> out(q.size());
  std::vector<int32_t> table(blocks);
  for (int64_t i = 0; i < blocks; ++i)
    table[i] = int32_t(i);
  const int32_t sequence = 0, position = int32_t(context - 1);
  for (auto _ : state) {
    // The kernel only reads: the view is not const as kvAppend's is not.
    auto *cache = static_cast<float *>(const_cast<void *>(pool().next(bytes)));
    cpu::attention(q.data(), {cache, kvHeads, blockTokens, headDim}, {heads, 1.0f / std::sqrt(float(headDim)), 0, 0.0f},
                   table.data(), blocks, &sequence, &position, out.data(), 0, kvHeads);
    benchmark::DoNotOptimize(out.data());
  }
  report(state, double(context * 2 * kvHeads * headDim) * 4, 4.0 * double(context * heads * headDim));
}

void attentionPrefill(benchmark::State &state, int64_t heads, int64_t kvHeads, int64_t headDim, int64_t tokens) {
  const int64_t blockTokens = 32, blocks = (tokens + blockTokens - 1) / blockTokens;
  std::vector<float> cache = randomFloats(blocks * 2 * kvHeads * blockTokens * headDim);
  const std::vector<float> q = randomFloats(tokens * heads * headDim);
  std::vector<float> out(q.size());
  std::vector<int32_t> table(blocks), sequences(tokens), positions(tokens);
  for (int64_t i = 0; i < blocks; ++i)
    table[i] = int32_t(i);
  for (int64_t t = 0; t < tokens; ++t)
    positions[t] = int32_t(t);
  for (auto _ : state) {
    cpu::attention(q.data(), {cache.data(), kvHeads, blockTokens, headDim},
                   {heads, 1.0f / std::sqrt(float(headDim)), 0, 0.0f}, table.data(), blocks, sequences.data(),
                   positions.data(), out.data(), 0, tokens * kvHeads);
    benchmark::DoNotOptimize(out.data());
  }
  report(state, double(cache.size()) * 4, 2.0 * double(tokens * (tokens + 1) * heads * headDim));
}

void glu(benchmark::State &state, cpu::Activation activation) {
  const int64_t n = 14336;
  const std::vector<float> gate = randomFloats(n), up = randomFloats(n);
  std::vector<float> out(n);
  for (auto _ : state) {
    cpu::glu(gate.data(), up.data(), activation, out.data(), 0, n);
    benchmark::DoNotOptimize(out.data());
  }
  state.counters["elements/s"] = benchmark::Counter(double(n * state.iterations()), benchmark::Counter::kIsRate);
}

void topCandidates(benchmark::State &state, float temperature, float spread) {
  const int64_t vocabulary = 128256, count = 64;
  std::vector<float> logits = randomFloats(vocabulary);
  for (float &logit : logits)
    logit *= spread;
  std::vector<float> out((count + 2) * 2);
  cpu::SamplingRow row{temperature, 0.9f, 0, 1, 0};
  for (auto _ : state) {
    ++row.counter;
    cpu::topCandidates(logits.data(), vocabulary, vocabulary, 0, count, &row, out.data(), 0, 1);
    benchmark::DoNotOptimize(out.data());
  }
  report(state, double(vocabulary) * 4, 0);
}

template <class F, class... Args> void add(const std::string &name, F f, Args... args) {
  benchmark::RegisterBenchmark(name.c_str(), f, args...)->Unit(benchmark::kMicrosecond)->UseRealTime();
}

} // namespace

int main(int argc, char **argv) {
  for (int i = 0; i < 5; ++i) {
    bandwidth = std::max(bandwidth, bench::readBandwidth(pool().memory.get(), Pool::bytes));
    peak = std::max(peak, bench::fmaPeak());
  }
  std::printf("%s, one thread: reads %.1f GB/s, multiply-adds %.1f GFLOP/s\n", cpu::simdTarget(), bandwidth * 1e-9,
              peak * 1e-9);

  const std::pair<const char *, cpu::WeightType> types[] = {
      {"bf16", WeightType::BF16}, {"f16", WeightType::F16},   {"f32", WeightType::F32},   {"q8_0", WeightType::Q8_0},
      {"q4_0", WeightType::Q4_0}, {"q4_1", WeightType::Q4_1}, {"q5_0", WeightType::Q5_0}, {"q5_1", WeightType::Q5_1},
      {"q2_k", WeightType::Q2_K}, {"q3_k", WeightType::Q3_K}, {"q4_k", WeightType::Q4_K}, {"q5_k", WeightType::Q5_K},
      {"q6_k", WeightType::Q6_K}};
  const std::pair<int64_t, int64_t> shapes[] = {{576, 1536}, {2048, 8192}, {4096, 14336}};
  for (auto [typeName, type] : types)
    for (auto [cols, rows] : shapes) {
      if (cols % blockElements(type) != 0)
        continue;
      const std::string name = std::string(typeName) + "/" + std::to_string(cols) + "x" + std::to_string(rows) + "/";
      for (int64_t tokens : {1, 2, 4, 8, 16})
        add("linear/decode/" + name + std::to_string(tokens), linear, type, cols, rows, tokens);
      if (rows <= 8192)
        for (int64_t tokens : {128, 512})
          add("linear/prefill/" + name + std::to_string(tokens), linear, type, cols, rows, tokens);
    }
  for (int64_t context : {256, 4096}) {
    add("attention/decode/32x8x128/" + std::to_string(context), attention, 32, 8, 128, context);
    add("attention/decode/32x32x128/" + std::to_string(context), attention, 32, 32, 128, context);
    add("attention/decode/9x3x64/" + std::to_string(context), attention, 9, 3, 64, context);
  }
  add("attention/prefill/32x8x128/512", attentionPrefill, 32, 8, 128, 512);
  add("glu/silu", glu, cpu::Activation::Silu);
  add("glu/gelu", glu, cpu::Activation::Gelu);
  add("glu/gelu_tanh", glu, cpu::Activation::GeluTanh);
  add("topCandidates/128k/greedy", topCandidates, 0.0f, 3.0f);
  add("topCandidates/128k/sampled", topCandidates, 0.8f, 3.0f);
  add("topCandidates/128k/flat", topCandidates, 1.0f, 0.001f);

  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv))
    return 1;
  benchmark::RunSpecifiedBenchmarks();
}
