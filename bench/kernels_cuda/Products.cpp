// Products: of few tokens, of prefill, of mixtures of experts.
#include "bench/kernels_cuda/Bench.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <set>

namespace distc::bench {
namespace {

/// One projection of a mixture of experts; places of a token are of neighbouring experts.
void expertLinear(Bench &bench, int64_t experts, int64_t count, int64_t rows, int64_t cols, int64_t tokens) {
  const Array<float> routes(spreadRoutes(tokens, count, experts));
  const Array<char> x(size_t(tokens * cols) * 2), y(size_t(tokens * count * rows) * 2);
  const int64_t used = std::min(experts, tokens * count);
  bench.report("experts " + std::to_string(experts) + " of " + std::to_string(rows) + "x" + std::to_string(cols) +
                   ", " + std::to_string(count) + " each, tokens " + std::to_string(tokens),
               double(used * rows * cols * 2), [&] {
                 return cuda::expertLinear(
                     {x, Type::BF16}, count, routes, tokens * count,
                     {bench.pool.next(size_t(experts * rows * cols) * 2), Type::BF16, experts, rows, cols},
                     {y, Type::BF16}, bench.stream);
               });
}

void linear(Bench &bench, int64_t rows, int64_t cols, int64_t tokens) {
  const char *x = bench.pool.next(tokens * cols * 2);
  char *y = bench.pool.next(tokens * rows * 4);
  const size_t bytes = size_t(rows) * cols * 2;
  bench.report("linear " + std::to_string(rows) + "x" + std::to_string(cols) + " tokens " + std::to_string(tokens),
               double(bytes), [&] {
                 return cuda::linear({x, Type::BF16}, tokens, {bench.pool.next(bytes), Type::BF16, rows, cols, cols},
                                     {}, {y, Type::F32}, rows, bench.stream);
               });
}

/// A product of prefill with weights [columns, depth], gated by the first half of them or plain.
void product(Bench &bench, int64_t rows, int64_t columns, int64_t depth, bool gated) {
  const char *x = bench.pool.next(rows * depth * 2);
  char *y = bench.pool.next(rows * columns * 2);
  const size_t bytes = size_t(columns) * depth * 2;
  const cuda::ProductPart part{y, nullptr, columns};
  bench.reportRate((gated ? "gated product " : "product ") + std::to_string(rows) + " x " + std::to_string(columns) +
                       " x " + std::to_string(depth),
                   double(bytes), 2.0 * double(rows) * double(columns) * double(depth), [&] {
                     const cuda::Matrix w{bench.pool.next(bytes), Type::BF16, columns, depth, depth};
                     return gated
                                ? cuda::gatedProduct({x, Type::BF16}, rows, w, cuda::Activation::Silu, y, bench.stream)
                                : cuda::product({x, Type::BF16}, rows, w, &part, 1, {}, bench.stream);
                   });
}

/// The projections of a mixture of experts in prefill: [inner, outer] of gate and up, [outer, inner] of down, each
/// token's experts chosen at random. The share is of the larger of what the weights of the experts that are used take
/// at the bandwidth of plain reads, and the products at 786 TFLOP/s.
void experts(Bench &bench, const std::string &model, int64_t experts, int64_t count, int64_t inner, int64_t outer,
             int64_t tokens) {
  const int64_t places = tokens * count;
  std::mt19937 random(1);
  std::vector<float> chosen;
  std::vector<int64_t> ids(experts);
  std::iota(ids.begin(), ids.end(), 0);
  std::set<int64_t> used;
  for (int64_t t = 0; t < tokens; ++t) {
    std::shuffle(ids.begin(), ids.end(), random);
    for (int64_t j = 0; j < count; ++j) {
      used.insert(ids[j]);
      chosen.insert(chosen.end(), {1.0f / float(count), float(ids[j])});
    }
  }
  const Array<float> routes(chosen);
  const Array<char> lists(cuda::expertListBytes(places, experts)), x(tokens * outer * 2), h(places * inner * 2),
      y(places * outer * 2);
  CHECK(cuda::listExperts(routes, places, experts, lists, bench.stream));
  CHECK(cuda::randomWeights(cuda::Init::Uniform, 1.0f, 3, 0, tokens * outer, {x, Type::BF16}, bench.stream));
  CHECK(cuda::randomWeights(cuda::Init::Uniform, 1.0f, 4, 0, places * inner, {h, Type::BF16}, bench.stream));
  const auto row = [&](const char *what, int matrices, const std::function<cudaError_t()> &kernel) {
    const std::string name = "experts " + model + " " + what + " tokens " + std::to_string(tokens);
    if (!bench.wants(name))
      return;
    const double bytes = double(matrices) * double(used.size()) * double(inner * outer) * 2,
                 operations = 2.0 * matrices * double(places) * double(inner * outer);
    const double time = bench.seconds(std::max(bytes, 4e6), kernel);
    std::printf("%-44s %9.2f us %8.1f GB/s %8.1f TFLOP/s share %.3f\n", name.c_str(), time * 1e6, bytes / time * 1e-9,
                operations / time * 1e-12, std::max(bytes / bench.limit, operations / peakOperations) / time);
  };
  const size_t bytes = size_t(experts * inner * outer) * 2;
  const auto weights = [&](int64_t rows, int64_t cols) {
    return cuda::ExpertMatrices{bench.pool.next(bytes), Type::BF16, experts, rows, cols};
  };
  row("list", 0, [&] { return cuda::listExperts(routes, places, experts, lists, bench.stream); });
  row("gated", 2, [&] {
    const cuda::ExpertMatrices gate = weights(inner, outer);
    return cuda::groupedGatedProduct({x, Type::BF16}, count, lists, places, gate, bench.pool.next(bytes),
                                     cuda::Activation::Silu, h, bench.stream);
  });
  row("up", 1, [&] {
    return cuda::groupedProduct({x, Type::BF16}, count, lists, places, weights(inner, outer), h, bench.stream);
  });
  row("down", 1,
      [&] { return cuda::groupedProduct({h, Type::BF16}, 1, lists, places, weights(outer, inner), y, bench.stream); });
  row("combine", 0,
      [&] { return cuda::combine({y, Type::BF16}, routes, tokens, count, outer, {}, {x, Type::BF16}, bench.stream); });
}

} // namespace

void products(Bench &bench) {
  for (int64_t tokens : {1, 8}) {
    linear(bench, 4096, 4096, tokens);
    linear(bench, 1024, 4096, tokens);
    linear(bench, 14336, 4096, tokens);
    linear(bench, 4096, 14336, tokens);
    linear(bench, 128256, 4096, tokens);
    expertLinear(bench, 128, 8, 768, 2048, tokens);
    expertLinear(bench, 8, 2, 14336, 4096, tokens);
  }
  for (int64_t tokens : {16, 64, 512, 2048}) {
    experts(bench, "8x7B", 8, 2, 14336, 4096, tokens);
    experts(bench, "30B-A3B", 128, 8, 768, 2048, tokens);
  }
  for (int64_t tokens : {2, 4, 16, 64, 512})
    linear(bench, 14336, 4096, tokens);
  for (int64_t rows : {512, 2048, 4096}) { // the products of an 8B model
    product(bench, rows, 6144, 4096, false);
    product(bench, rows, 4096, 4096, false);
    product(bench, rows, 28672, 4096, true);
    product(bench, rows, 4096, 14336, false);
  }
  product(bench, 512, 3072, 2048, false); // of a 1B model
  product(bench, 512, 2048, 2048, false);
  product(bench, 512, 16384, 2048, true);
  product(bench, 512, 2048, 8192, false);
  product(bench, 512, 2560, 8192, false); // q, k, v of a 70B model at tp 4 and 8
  product(bench, 512, 1280, 8192, false);
}

} // namespace distc::bench
