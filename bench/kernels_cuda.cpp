// The CUDA kernels beside the card's limit measured in the same run: microseconds, GB/s of weights or cache, and the
// share of the bandwidth of plain reads. Each kernel runs many times in a graph, over operands that do not fit the
// cache; the figure is the median of many replays. An argument is a part of the names that are wanted; with `exchange`:
// all-reduces on two devices alone.
#include "bench/exchange_cuda.h"
#include "distc/kernels/Cuda.h"
#include "distc/kernels/CudaStage.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

using namespace distc;
using cuda::Type;

namespace {

void check(cudaError_t error, const char *what) {
  if (error == cudaSuccess)
    return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}
#define CHECK(call) check(call, #call)

template <class T> T *deviceMemory(size_t n) {
  void *memory;
  CHECK(cudaMalloc(&memory, n * sizeof(T)));
  return static_cast<T *>(memory);
}

/// What all kernels stream from: larger than the cache. Random values in bf16.
struct Pool {
  static constexpr size_t bytes = size_t(4) << 30;
  char *memory;
  size_t position = 0;

  Pool() : memory(deviceMemory<char>(bytes)) {
    CHECK(cuda::randomWeights(cuda::Init::Uniform, 0.02f, 1, 0, int64_t(bytes / 2), {memory, Type::BF16}, nullptr));
  }
  /// Successive pieces, from the start again at the end.
  char *next(size_t size) {
    size = (size + 255) / 256 * 256;
    if (position + size > bytes)
      position = 0;
    position += size;
    return memory + position - size;
  }
};

struct Bench {
  Pool pool;
  cudaStream_t stream;
  double limit = 0; // bytes per second
  int sms = 0;
  std::string wanted;

  Bench() {
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CHECK(cudaDeviceSynchronize());
  }

  /// Median seconds of one call of `kernel`, which moves `bytes`.
  double seconds(double bytes, const std::function<cudaError_t()> &kernel) const {
    constexpr int replays = 50, warm = 3;
    constexpr double longEnough = 0.3;
    const int calls = int(std::clamp(1e9 / bytes, 4.0, 256.0)); // together they move far more than the cache holds
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < calls; ++i)
      CHECK(kernel());
    CHECK(cudaStreamEndCapture(stream, &graph));
    CHECK(cudaGraphInstantiate(&executable, graph, 0));
    cudaEvent_t begin, end;
    CHECK(cudaEventCreate(&begin));
    CHECK(cudaEventCreate(&end));
    std::vector<double> times;
    double total = 0;
    for (int i = 0; i < replays && (total < longEnough || times.size() < 5); ++i) {
      CHECK(cudaEventRecord(begin, stream));
      CHECK(cudaGraphLaunch(executable, stream));
      CHECK(cudaEventRecord(end, stream));
      CHECK(cudaEventSynchronize(end));
      float milliseconds;
      CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
      total += milliseconds * 1e-3;
      if (i >= warm)
        times.push_back(milliseconds * 1e-3 / calls);
    }
    CHECK(cudaEventDestroy(begin));
    CHECK(cudaEventDestroy(end));
    CHECK(cudaGraphExecDestroy(executable));
    CHECK(cudaGraphDestroy(graph));
    std::nth_element(times.begin(), times.begin() + int(times.size() / 2), times.end());
    return times[times.size() / 2];
  }

  void report(const std::string &name, double bytes, const std::function<cudaError_t()> &kernel) const {
    if (name.find(wanted) == std::string::npos)
      return;
    const double time = seconds(bytes, kernel);
    std::printf("%-44s %9.2f us %8.1f GB/s  share %.3f\n", name.c_str(), time * 1e6, bytes / time * 1e-9,
                bytes / time / limit);
  }

  /// One projection of a mixture of experts; places of a token are of neighbouring experts, as spread out as can be.
  void expertLinear(int64_t experts, int64_t count, int64_t rows, int64_t cols, int64_t tokens) {
    std::vector<float> chosen;
    for (int64_t i = 0; i < tokens * count; ++i)
      chosen.insert(chosen.end(), {1.0f / float(count), float(i % experts)});
    float *routes = deviceMemory<float>(chosen.size());
    CHECK(cudaMemcpy(routes, chosen.data(), chosen.size() * sizeof(float), cudaMemcpyHostToDevice));
    char *x = deviceMemory<char>(size_t(tokens * cols) * 2), *y = deviceMemory<char>(chosen.size() * size_t(rows));
    const int64_t used = std::min(experts, tokens * count);
    report("experts " + std::to_string(experts) + " of " + std::to_string(rows) + "x" + std::to_string(cols) + ", " +
               std::to_string(count) + " each, tokens " + std::to_string(tokens),
           double(used * rows * cols * 2), [&] {
             return cuda::expertLinear({x, Type::BF16}, count, routes, tokens * count,
                                       {pool.next(size_t(experts * rows * cols) * 2), Type::BF16, experts, rows, cols},
                                       {y, Type::BF16}, stream);
           });
    for (void *memory : {static_cast<void *>(x), static_cast<void *>(y), static_cast<void *>(routes)})
      CHECK(cudaFree(memory));
  }

  void linear(int64_t rows, int64_t cols, int64_t tokens) {
    const char *x = pool.next(tokens * cols * 2);
    char *y = pool.next(tokens * rows * 4);
    const size_t bytes = size_t(rows) * cols * 2;
    report("linear " + std::to_string(rows) + "x" + std::to_string(cols) + " tokens " + std::to_string(tokens),
           double(bytes), [&] {
             return cuda::linear({x, Type::BF16}, tokens, {pool.next(bytes), Type::BF16, rows, cols, cols}, {}, {},
                                 {y, Type::F32}, rows, stream);
           });
  }

  /// The share is of 786 TFLOP/s, what the library's products of bf16 reach on an H100 at best.
  void reportRate(const std::string &name, double bytes, double operations,
                  const std::function<cudaError_t()> &kernel) const {
    if (name.find(wanted) == std::string::npos)
      return;
    const double time = seconds(bytes, kernel);
    std::printf("%-44s %9.2f us %8.1f TFLOP/s share %.3f\n", name.c_str(), time * 1e6, operations / time * 1e-12,
                operations / time / 786e12);
  }

  /// A product of prefill with weights [columns, depth], gated by the first half of them or plain.
  void product(int64_t rows, int64_t columns, int64_t depth, bool gated) {
    const char *x = pool.next(rows * depth * 2);
    char *y = pool.next(rows * columns * 2);
    const size_t bytes = size_t(columns) * depth * 2;
    const cuda::ProductPart part{y, nullptr, columns};
    reportRate((gated ? "gated product " : "product ") + std::to_string(rows) + " x " + std::to_string(columns) +
                   " x " + std::to_string(depth),
               double(bytes), 2.0 * double(rows) * double(columns) * double(depth), [&] {
                 const cuda::Matrix w{pool.next(bytes), Type::BF16, columns, depth, depth};
                 return gated ? cuda::gatedProduct({x, Type::BF16}, rows, w, cuda::Activation::Silu, y, stream)
                              : cuda::product({x, Type::BF16}, rows, w, &part, 1, {}, stream);
               });
  }

  /// The projections of a mixture of experts in prefill: [inner, outer] of gate and up, [outer, inner] of down, each
  /// token's experts chosen at random. The share is of the larger of what the weights of the experts that are used take
  /// at the bandwidth of plain reads, and the products at 786 TFLOP/s.
  void experts(const std::string &model, int64_t experts, int64_t count, int64_t inner, int64_t outer, int64_t tokens) {
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
    auto *routes = deviceMemory<float>(chosen.size());
    CHECK(cudaMemcpy(routes, chosen.data(), chosen.size() * sizeof(float), cudaMemcpyDefault));
    auto *lists = deviceMemory<char>(cuda::expertListBytes(places, experts));
    CHECK(cuda::listExperts(routes, places, experts, lists, stream));
    auto *x = deviceMemory<char>(tokens * outer * 2), *h = deviceMemory<char>(places * inner * 2),
         *y = deviceMemory<char>(places * outer * 2);
    CHECK(cuda::randomWeights(cuda::Init::Uniform, 1.0f, 3, 0, tokens * outer, {x, Type::BF16}, stream));
    CHECK(cuda::randomWeights(cuda::Init::Uniform, 1.0f, 4, 0, places * inner, {h, Type::BF16}, stream));
    const auto row = [&](const char *what, int matrices, const std::function<cudaError_t()> &kernel) {
      const std::string name = "experts " + model + " " + what + " tokens " + std::to_string(tokens);
      if (name.find(wanted) == std::string::npos)
        return;
      const double bytes = double(matrices) * double(used.size()) * double(inner * outer) * 2,
                   operations = 2.0 * matrices * double(places) * double(inner * outer);
      const double time = seconds(std::max(bytes, 4e6), kernel);
      std::printf("%-44s %9.2f us %8.1f GB/s %8.1f TFLOP/s share %.3f\n", name.c_str(), time * 1e6, bytes / time * 1e-9,
                  operations / time * 1e-12, std::max(bytes / limit, operations / 786e12) / time);
    };
    const size_t bytes = size_t(experts * inner * outer) * 2;
    const auto weights = [&](int64_t rows, int64_t cols) {
      return cuda::ExpertMatrices{pool.next(bytes), Type::BF16, experts, rows, cols};
    };
    row("list", 0, [&] { return cuda::listExperts(routes, places, experts, lists, stream); });
    row("gated", 2, [&] {
      const cuda::ExpertMatrices gate = weights(inner, outer);
      return cuda::groupedGatedProduct({x, Type::BF16}, count, lists, places, gate, pool.next(bytes),
                                       cuda::Activation::Silu, h, stream);
    });
    row("up", 1,
        [&] { return cuda::groupedProduct({x, Type::BF16}, count, lists, places, weights(inner, outer), h, stream); });
    row("down", 1,
        [&] { return cuda::groupedProduct({h, Type::BF16}, 1, lists, places, weights(outer, inner), y, stream); });
    row("combine", 0,
        [&] { return cuda::combine({y, Type::BF16}, routes, tokens, count, outer, {}, {x, Type::BF16}, stream); });
    for (void *memory : {x, h, y, lists, reinterpret_cast<char *>(routes)})
      CHECK(cudaFree(memory));
  }

  /// Decode of `sequences` sequences of one length, or prefill of one, whose every token counts what it multiplies; the
  /// heads of an 8B model, or of a 1B model.
  void attention(int32_t context, int64_t sequences, int clusterBlocks, bool prefill = false, int64_t dim = 128,
                 bool stage = false) {
    const int64_t heads = 32, kvHeads = 8, blockTokens = 16, perSequence = context / blockTokens;
    const int64_t rows = prefill ? context : sequences;
    std::vector<int32_t> table(sequences * perSequence), sequenceOf(rows), positions(rows, context - 1);
    std::iota(table.begin(), table.end(), 0);
    if (prefill)
      std::iota(positions.begin(), positions.end(), 0);
    else
      std::iota(sequenceOf.begin(), sequenceOf.end(), 0);
    // Not in order, as in a pool that was used for a while: an odd step through a power of two.
    for (int32_t &block : table)
      block = int32_t(block * 37ll % int64_t(table.size()));
    std::vector<int32_t> batch = table;
    batch.insert(batch.end(), sequenceOf.begin(), sequenceOf.end());
    batch.insert(batch.end(), positions.begin(), positions.end());
    auto *device = deviceMemory<int32_t>(batch.size());
    CHECK(cudaMemcpy(device, batch.data(), batch.size() * 4, cudaMemcpyDefault));
    const cuda::BatchView view{device, perSequence, device + table.size(), device + table.size() + rows};
    const char *q = pool.next(rows * heads * dim * 2);
    char *out = pool.next(rows * heads * dim * 2);
    const size_t bytes = table.size() * 2 * kvHeads * blockTokens * dim * 2;
    const cuda::AttentionParams params{heads, 0.088f, 0, 0.0f, clusterBlocks};
    const auto nextCache = [&] { return cuda::KvView{pool.next(bytes), Type::BF16, kvHeads, blockTokens, dim}; };
    if (prefill)
      reportRate("attention prefill " + std::to_string(context) + ", heads of " + std::to_string(dim), double(bytes),
                 4.0 * double(heads * dim) * context * (context + 1) / 2.0, [&] {
                   return cuda::attentionPrefill({q, Type::BF16}, rows, nextCache(), params, view, {out, Type::BF16},
                                                 stream);
                 });
    else if (stage)
      report("decode attention 8B context " + std::to_string(context) + " batch " + std::to_string(sequences),
             double(bytes), [&] {
               return cuda::decodeAttention({q, Type::BF16}, rows, nextCache(), params, view, sms, {out, Type::BF16},
                                            stream);
             });
    else
      report("attention 8B context " + std::to_string(context) + " batch " + std::to_string(sequences) + " cluster " +
                 std::to_string(clusterBlocks),
             double(bytes), [&] {
               return cuda::attention({q, Type::BF16}, rows, nextCache(), params, view, {out, Type::BF16}, stream);
             });
    CHECK(cudaFree(device));
  }

  /// A stage of one weight, or the gated one of two, over all multiprocessors. Each call streams other weights.
  void stage(const char *name, cuda::StageForm form, int rows, int cols, int tokens, bool norm) {
    const int weights = form == cuda::StageForm::Glu ? 2 : 1;
    const size_t bytes = size_t(rows) * cols * 2;
    std::vector<uint32_t> bounds(sms + 1);
    const int64_t units = rows / cuda::unitRows(form);
    for (int s = 0; s <= sms; ++s)
      bounds[s] = uint32_t(units * s / sms);
    cuda::MatrixStage stage;
    stage.form = form;
    stage.cols = cols;
    stage.weightCount = weights;
    stage.sms = sms;
    stage.ringBytes = cuda::maxRingBytes;
    stage.norm = norm ? reinterpret_cast<const float *>(pool.next(size_t(cols) * 4)) : nullptr;
    char *y = pool.next(size_t(tokens) * rows * 4);
    cuda::StageInput input;
    input.x = pool.next(size_t(tokens) * cols * 2);
    input.tokens = tokens;
    // As many weights as do not fit the cache.
    const int sets = int((size_t(512) << 20) / (bytes * weights)) + 1;
    std::vector<cuda::TileMaps> hostMaps(size_t(sets) * weights);
    for (cuda::TileMaps &maps : hostMaps)
      CHECK(cuda::encodeTileMaps({pool.next(bytes), Type::BF16, rows, cols, cols}, maps));
    auto *maps = deviceMemory<cuda::TileMaps>(hostMaps.size());
    CHECK(cudaMemcpy(maps, hostMaps.data(), hostMaps.size() * sizeof(*maps), cudaMemcpyDefault));
    for (int w = 0; w < weights; ++w) {
      stage.weights[w].rows = rows;
      stage.weights[w].y = {y, Type::BF16};
      stage.weights[w].yStride = rows;
    }
    const std::vector<cuda::StageTile> hostTiles = cuda::listTiles(stage, bounds);
    auto *tiles = deviceMemory<cuda::StageTile>(hostTiles.size());
    CHECK(cudaMemcpy(tiles, hostTiles.data(), hostTiles.size() * sizeof(*tiles), cudaMemcpyDefault));
    stage.tiles = tiles;
    int set = 0;
    report(std::string("stage ") + name + " " + std::to_string(weights * rows) + "x" + std::to_string(cols) +
               " tokens " + std::to_string(tokens),
           double(bytes) * weights, [&] {
             for (int w = 0; w < weights; ++w)
               stage.weights[w].maps = maps + set * weights + w;
             set = (set + 1) % sets;
             return cuda::matrixStage(stage, input, stream);
           });
    CHECK(cudaFree(maps));
    CHECK(cudaFree(tiles));
  }

  void rmsNorm(int64_t width, int64_t rows) {
    const size_t bytes = size_t(rows) * width * 2;
    const char *weight = pool.next(width * 2);
    report("rmsNorm " + std::to_string(width) + " rows " + std::to_string(rows), 2.0 * double(bytes), [&] {
      return cuda::rmsNorm({pool.next(bytes), Type::BF16}, {weight, Type::BF16}, 1e-5f, width, rows,
                           {pool.next(bytes), Type::BF16}, stream);
    });
  }

  void sampling(float temperature, int64_t rows) {
    const int64_t vocabulary = 128256, count = 256;
    const std::vector<SamplingRow> host(rows, {temperature, 0.9f, 0, 1, 0});
    auto *requests = deviceMemory<SamplingRow>(rows);
    char *logits = pool.next(rows * vocabulary * 4);
    CHECK(cuda::randomWeights(cuda::Init::Uniform, 3.0f, 2, 0, rows * vocabulary, {logits, Type::F32}, nullptr));
    float *out = reinterpret_cast<float *>(pool.next(rows * (count + 2) * 8));
    auto *ids = reinterpret_cast<int32_t *>(pool.next(rows * 4));
    CHECK(cudaMemcpy(requests, host.data(), rows * sizeof(SamplingRow), cudaMemcpyDefault));
    const std::string kind = (temperature > 0 ? "256 of 128256" : "128256 greedy") + (" rows " + std::to_string(rows));
    report("topCandidates " + kind, double(rows * vocabulary) * 4, [&] {
      return cuda::topCandidates(reinterpret_cast<float *>(logits), rows, vocabulary, vocabulary, 0, count, requests,
                                 out, stream);
    });
    report("sample " + kind, double(rows * (count + 2)) * 8,
           [&] { return cuda::sample(out, 1, rows, count, requests, ids, stream); });
    CHECK(cudaFree(requests));
  }
};

} // namespace

int main(int argc, char **argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  bench::allReduces();
  if (argc > 1 && std::string_view(argv[1]) == "exchange")
    return 0;
  cudaDeviceProp properties;
  CHECK(cudaGetDeviceProperties(&properties, 0));
  Bench bench;
  bench.sms = properties.multiProcessorCount;
  bench.wanted = argc > 1 ? argv[1] : "";
  bench.limit = double(Pool::bytes) /
                bench.seconds(Pool::bytes, [&] { return cuda::readAll(bench.pool.memory, Pool::bytes, bench.stream); });
  std::printf("%s, %d multiprocessors; plain reads %.1f GB/s\n", properties.name, properties.multiProcessorCount,
              bench.limit * 1e-9);
  for (int64_t tokens : {1, 8}) {
    bench.linear(4096, 4096, tokens);
    bench.linear(1024, 4096, tokens);
    bench.linear(14336, 4096, tokens);
    bench.linear(4096, 14336, tokens);
    bench.linear(128256, 4096, tokens);
    bench.expertLinear(128, 8, 768, 2048, tokens);
    bench.expertLinear(8, 2, 14336, 4096, tokens);
  }
  for (int64_t tokens : {16, 64, 512, 2048}) {
    bench.experts("8x7B", 8, 2, 14336, 4096, tokens);
    bench.experts("30B-A3B", 128, 8, 768, 2048, tokens);
  }
  for (int64_t tokens : {2, 4, 16, 64, 512})
    bench.linear(14336, 4096, tokens);
  for (int tokens : {1, 8, 16, 32, 64}) {
    bench.stage("qkv 1B", cuda::StageForm::Rows, 3072, 2048, tokens, true);
    bench.stage("o 1B", cuda::StageForm::Rows, 2048, 2048, tokens, false);
    bench.stage("gate, up 1B", cuda::StageForm::Glu, 8192, 2048, tokens, true);
    bench.stage("down 1B", cuda::StageForm::Rows, 2048, 8192, tokens, false);
    bench.stage("qkv 8B", cuda::StageForm::Rows, 6144, 4096, tokens, true);
    bench.stage("o 8B", cuda::StageForm::Rows, 4096, 4096, tokens, false);
    bench.stage("gate, up 8B", cuda::StageForm::Glu, 14336, 4096, tokens, true);
    bench.stage("down 8B", cuda::StageForm::Rows, 4096, 14336, tokens, false);
    bench.stage("head 8B", cuda::StageForm::Rows, 128256, 4096, tokens, true);
  }
  for (int32_t context : {512, 8192, 32768})
    for (int64_t sequences : {1, 8, 32, 64})
      if (context * sequences <= 65536)
        bench.attention(context, sequences, 1, false, 128, true);
  for (int32_t context : {512, 8192})
    for (int clusterBlocks : {1, 8})
      bench.attention(context, 1, clusterBlocks);
  bench.attention(8192, 8, 8);
  for (int64_t rows : {512, 2048, 4096}) { // the products of an 8B model
    bench.product(rows, 6144, 4096, false);
    bench.product(rows, 4096, 4096, false);
    bench.product(rows, 28672, 4096, true);
    bench.product(rows, 4096, 14336, false);
    bench.attention(int32_t(rows), 1, 1, true);
  }
  bench.product(512, 3072, 2048, false); // of a 1B model
  bench.product(512, 2048, 2048, false);
  bench.product(512, 16384, 2048, true);
  bench.product(512, 2048, 8192, false);
  bench.product(512, 2560, 8192, false); // q, k, v of a 70B model at tp 4 and 8
  bench.product(512, 1280, 8192, false);
  bench.attention(512, 1, 1, true, 64);
  bench.rmsNorm(4096, 1);
  bench.rmsNorm(4096, 4096);
  for (int64_t rows : {1, 32}) {
    bench.sampling(0.0f, rows);
    bench.sampling(0.8f, rows);
  }
  return 0;
}
