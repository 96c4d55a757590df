// What works on rows or on single values. Bytes are what must be read and written.
#include "bench/kernels_cuda/Bench.h"

#include <algorithm>
#include <iterator>

namespace distc::bench {
namespace {

/// `rows` tokens of an 8B model: of a decode step, or of a prompt.
void ofRows(Bench &bench, int64_t rows) {
  constexpr int64_t hidden = 4096, inner = 14336, vocabulary = 128256, heads = 32, kvHeads = 8, dim = 128;
  Pool &pool = bench.pool;
  cudaStream_t stream = bench.stream;
  const cuda::In weight = pool.in(hidden), bias = pool.in(hidden);
  const cuda::HeadNorm norm{reinterpret_cast<const float *>(pool.next(dim * 4)), 1e-6f, 0, dim};
  const Batch batch(std::max<int64_t>(rows, Batch::blockTokens), 1, rows > 1);
  const auto *cosSin = reinterpret_cast<const float *>(pool.next(batch.blocks * Batch::blockTokens * dim * 4));
  const auto cache = [&] {
    return cuda::KvView{pool.next(batch.blocks * Batch::blockTokens * 2 * kvHeads * dim * 2), Type::BF16, kvHeads,
                        Batch::blockTokens, dim};
  };
  std::vector<int32_t> hostIds;
  for (int64_t t = 0; t < rows; ++t)
    hostIds.push_back(int32_t(t * 7919 % vocabulary));
  const Array<int32_t> ids(hostIds);
  /// A kernel that moves so many values for each row.
  const auto row = [&](const std::string &name, int64_t values, const std::function<cudaError_t()> &kernel) {
    bench.report(name + " rows " + std::to_string(rows), 2.0 * double(rows * values), kernel);
  };
  const int64_t n = rows * hidden, gated = rows * inner;
  row("rmsNorm 4096", 2 * hidden,
      [&] { return cuda::rmsNorm(pool.in(n), weight, 1e-5f, hidden, rows, pool.out(n), stream); });
  row("layerNorm 4096", 2 * hidden,
      [&] { return cuda::layerNorm(pool.in(n), weight, bias, 1e-5f, hidden, rows, pool.out(n), stream); });
  row("embedding 128256x4096", 2 * hidden, [&] {
    const cuda::Matrix table{pool.next(vocabulary * hidden * 2), Type::BF16, vocabulary, hidden, hidden};
    return cuda::embedding(ids, rows, table, 0, pool.out(n), stream);
  });
  row("rope 32 heads of 128", 2 * hidden, [&] {
    return cuda::rope(pool.in(n), batch.view.positions, cosSin, heads, dim, dim, cuda::RopeStyle::Half, rows,
                      pool.out(n), stream);
  });
  const int64_t ofKeys = rows * kvHeads * dim;
  row("kvAppend 8 heads of 128", 4 * kvHeads * dim,
      [&] { return cuda::kvAppend(pool.in(ofKeys), pool.in(ofKeys), rows, cache(), batch.view, stream); });
  for (bool normed : {false, true})
    row(normed ? "ropeAppend 32, 8 heads of 128, norms" : "ropeAppend 32, 8 heads of 128",
        2 * (hidden + 2 * kvHeads * dim), [&] {
          cuda::RopeAppend a;
          a.q = pool.in(n);
          a.k = pool.in(ofKeys);
          a.v = pool.in(ofKeys);
          a.heads = heads;
          if (normed)
            a.normQ = a.normK = norm;
          a.cosSin = cosSin;
          a.angleRows = batch.view.positions;
          a.rotated = dim;
          a.y = pool.out(n);
          return cuda::ropeAppend(a, rows, cache(), batch.view, stream);
        });
  row("add 4096", 3 * hidden, [&] { return cuda::add(pool.in(n), pool.in(n), n, pool.out(n), stream); });
  row("scale 4096", 2 * hidden, [&] { return cuda::scale(pool.in(n), 0.5f, n, pool.out(n), stream); });
  row("softCap 4096", 2 * hidden, [&] { return cuda::softCap(pool.in(n), 30.0f, n, pool.out(n), stream); });
  const char *names[] = {"silu", "gelu", "gelu tanh", "relu"};
  for (int kind = 0; kind < 4; ++kind)
    row(std::string("glu 14336 ") + names[kind], 3 * inner, [&] {
      return cuda::glu(pool.in(gated), pool.in(gated), cuda::Activation(kind), gated, pool.out(gated), stream);
    });
}

void sampling(Bench &bench, float temperature, int64_t rows) {
  const int64_t vocabulary = 128256, count = 256;
  const Array<SamplingRow> requests(std::vector<SamplingRow>(rows, {temperature, 0.9f, 0, 1, 0}));
  auto *logits = reinterpret_cast<float *>(bench.pool.next(rows * vocabulary * 4));
  CHECK(cuda::randomWeights(cuda::Init::Uniform, 3.0f, 2, 0, rows * vocabulary, {logits, Type::F32}, nullptr));
  CHECK(cudaDeviceSynchronize());
  auto *out = reinterpret_cast<float *>(bench.pool.next(rows * (count + 2) * 8));
  auto *ids = reinterpret_cast<int32_t *>(bench.pool.next(rows * 4));
  const std::string kind = (temperature > 0 ? "256 of 128256" : "128256 greedy") + (" rows " + std::to_string(rows));
  bench.report("topCandidates " + kind, double(rows * vocabulary) * 4, [&] {
    return cuda::topCandidates(logits, rows, vocabulary, vocabulary, 0, count, requests, out, bench.stream);
  });
  bench.report("sample " + kind, double(rows * (count + 2)) * 8,
               [&] { return cuda::sample(out, 1, rows, count, requests, ids, bench.stream); });
}

/// The matrix of a projection as it is loaded.
void dequantize(Bench &bench) {
  const char *names[] = {"q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k"};
  for (int i = 0; i < int(std::size(names)); ++i) {
    const auto type = WeightType(int(WeightType::Q8_0) + i);
    const int64_t n = 14336 * 4096, bytes = n / blockElements(type) * blockBytes(type);
    bench.report(std::string("dequantize ") + names[i] + " 14336x4096", double(bytes + n * 2),
                 [&] { return cuda::dequantize(type, bench.pool.next(bytes), n, bench.pool.out(n), bench.stream); });
  }
}

} // namespace

void rowOps(Bench &bench) {
  for (int64_t rows : {1, 4096})
    ofRows(bench, rows);
  for (int64_t rows : {1, 32})
    for (float temperature : {0.0f, 0.8f})
      sampling(bench, temperature, rows);
  dequantize(bench);
}

} // namespace distc::bench
