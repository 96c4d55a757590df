#include "bench/kernels_cuda/Bench.h"

#include <algorithm>
#include <numeric>

namespace distc::bench {

Pool::Pool() {
  CHECK(cuda::randomWeights(cuda::Init::Uniform, 0.02f, 1, 0, int64_t(bytes / 2), {memory, Type::BF16}, nullptr));
}

char *Pool::next(size_t size) {
  size = (size + 255) / 256 * 256;
  if (position + size > bytes)
    position = 0;
  position += size;
  return memory + position - size;
}

namespace {
/// Block tables, the rows' sequences, their positions.
std::vector<int32_t> batchOf(int64_t context, int64_t sequences, bool prefill) {
  const int64_t rows = prefill ? context : sequences;
  std::vector<int32_t> batch(sequences * (context / Batch::blockTokens)), sequenceOf(rows), positions(rows);
  const auto blocks = int64_t(batch.size());
  // Not in order, as in a pool that was used for a while: an odd step through a power of two.
  for (int64_t i = 0; i < blocks; ++i)
    batch[i] = int32_t(i * 37 % blocks);
  std::fill(positions.begin(), positions.end(), int32_t(context) - 1);
  std::iota(prefill ? positions.begin() : sequenceOf.begin(), prefill ? positions.end() : sequenceOf.end(), 0);
  batch.insert(batch.end(), sequenceOf.begin(), sequenceOf.end());
  batch.insert(batch.end(), positions.begin(), positions.end());
  return batch;
}
} // namespace

Batch::Batch(int64_t context, int64_t sequences, bool prefill)
    : rows(prefill ? context : sequences), blocks(sequences * (context / blockTokens)),
      device(batchOf(context, sequences, prefill)) {
  view = {device, context / blockTokens, device + blocks, device + blocks + rows};
}

std::vector<float> spreadRoutes(int64_t tokens, int64_t count, int64_t experts) {
  std::vector<float> routes;
  for (int64_t i = 0; i < tokens * count; ++i)
    routes.insert(routes.end(), {1.0f / float(count), float(i % experts)});
  return routes;
}

Bench::Bench(std::string wanted) : wanted(std::move(wanted)) {
  CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  CHECK(cudaDeviceSynchronize());
  cudaDeviceProp properties;
  CHECK(cudaGetDeviceProperties(&properties, 0));
  sms = properties.multiProcessorCount;
  const auto reads = [&](auto read) {
    return double(Pool::bytes) / seconds(Pool::bytes, [&] { return read(pool.memory, Pool::bytes, stream, nullptr); });
  };
  limit = reads(cuda::readAll);
  std::printf("%s, %d multiprocessors; plain reads %.1f GB/s, TMA reads %.1f GB/s\n", properties.name, sms,
              limit * 1e-9, reads(cuda::readAllByCopies) * 1e-9);
}

double Bench::seconds(double bytes, const std::function<cudaError_t()> &kernel) const {
  constexpr int replays = 40, warm = 3;
  constexpr double longEnough = 0.2;
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

void Bench::report(const std::string &name, double bytes, const std::function<cudaError_t()> &kernel) const {
  if (!wants(name))
    return;
  const double time = seconds(bytes, kernel);
  std::printf("%-44s %9.2f us %8.1f GB/s  share %.3f\n", name.c_str(), time * 1e6, bytes / time * 1e-9,
              bytes / time / limit);
}

void Bench::reportRate(const std::string &name, double bytes, double operations,
                       const std::function<cudaError_t()> &kernel) const {
  if (!wants(name))
    return;
  const double time = seconds(bytes, kernel);
  std::printf("%-44s %9.2f us %8.1f TFLOP/s share %.3f\n", name.c_str(), time * 1e6, operations / time * 1e-12,
              operations / time / peakOperations);
}

} // namespace distc::bench
