// Attention over a paged cache, of the heads of an 8B model or, of 64 elements, of a 1B model.
#include "bench/kernels_cuda/Bench.h"
#include "distc/kernels/CudaStage.h"

namespace distc::bench {
namespace {

enum class Kind { Stage, Rows, Prefill };

void attention(Bench &bench, Kind kind, int64_t context, int64_t sequences, int clusterBlocks = 1, int64_t dim = 128) {
  const int64_t heads = 32, kvHeads = 8;
  const Batch batch(context, sequences, kind == Kind::Prefill);
  const int64_t rows = batch.rows;
  const cuda::In q = bench.pool.in(rows * heads * dim);
  const cuda::Out out = bench.pool.out(rows * heads * dim);
  const size_t bytes = size_t(batch.blocks) * 2 * kvHeads * Batch::blockTokens * dim * 2;
  const cuda::AttentionParams params{heads, 0.088f, 0, 0.0f, clusterBlocks};
  const auto nextCache = [&] {
    return cuda::KvView{bench.pool.next(bytes), Type::BF16, kvHeads, Batch::blockTokens, dim};
  };
  const std::string name = "8B context " + std::to_string(context) + " batch " + std::to_string(sequences);
  if (kind == Kind::Prefill)
    bench.reportRate("attention prefill " + std::to_string(context) + ", heads of " + std::to_string(dim),
                     double(bytes), 2.0 * double(heads * dim * context * (context + 1)), [&] {
                       return cuda::attentionPrefill(q, rows, nextCache(), params, batch.view, out, bench.stream);
                     });
  else if (kind == Kind::Stage)
    bench.report("decode attention " + name, double(bytes), [&] {
      return cuda::decodeAttention(q, rows, nextCache(), params, batch.view, bench.sms, out, bench.stream);
    });
  else
    bench.report("attention " + name + " cluster " + std::to_string(clusterBlocks), double(bytes),
                 [&] { return cuda::attention(q, rows, nextCache(), params, batch.view, out, bench.stream); });
}

} // namespace

void attention(Bench &bench) {
  for (int64_t context : {512, 8192, 32768})
    for (int64_t sequences : {1, 8, 32, 64})
      if (context * sequences <= 65536)
        attention(bench, Kind::Stage, context, sequences);
  for (int64_t context : {512, 8192})
    for (int clusterBlocks : {1, 8})
      attention(bench, Kind::Rows, context, 1, clusterBlocks);
  attention(bench, Kind::Rows, 8192, 8, 8);
  for (int64_t rows : {512, 2048, 4096})
    attention(bench, Kind::Prefill, rows, 1);
  attention(bench, Kind::Prefill, 512, 1, 1, 64);
}

} // namespace distc::bench
