// Stages of decode, one after the other over all multiprocessors; each call streams other weights.
#include "bench/kernels_cuda/Bench.h"
#include "distc/kernels/CudaStage.h"

#include <algorithm>
#include <numeric>

namespace distc::bench {
namespace {

struct Shape {
  const char *name;
  cuda::StageForm form;
  std::vector<int> rows; // of each weight; of one expert
  int cols;
  bool norm;
  int headDim = 0;            // Qkv
  int experts = 1, count = 1; // of experts
};

void stage(Bench &bench, const Shape &s, int tokens) {
  Pool &pool = bench.pool;
  const int weights = int(s.rows.size()), rows = std::accumulate(s.rows.begin(), s.rows.end(), 0);
  const int places = tokens * s.count, used = std::min(s.experts, places);
  const double bytes = 2.0 * used * rows * s.cols;
  const Array<float> routes(spreadRoutes(tokens, s.count, s.experts));
  const Batch batch(512, tokens);
  char *y = pool.next(size_t(places) * rows * 4);
  cuda::MatrixStage stage;
  stage.form = s.form;
  stage.cols = s.cols;
  stage.weightCount = weights;
  stage.sms = bench.sms;
  stage.ringBytes = cuda::maxRingBytes;
  stage.norm = s.norm ? reinterpret_cast<const float *>(pool.next(size_t(s.cols) * 4)) : nullptr;
  if (s.experts > 1) {
    stage.routes = routes;
    stage.count = s.count;
    stage.experts = s.experts;
  }
  if (s.headDim > 0) {
    stage.headDim = s.headDim;
    stage.cosSin = reinterpret_cast<const float *>(pool.next(size_t(512) * s.headDim * 4));
    stage.cache = {pool.next(size_t(batch.blocks) * 2 * Batch::blockTokens * s.rows[1] * 2), Type::BF16,
                   s.rows[1] / s.headDim, Batch::blockTokens, s.headDim};
  }
  cuda::StageInput input;
  input.x = pool.next(size_t(places) * s.cols * 2);
  input.tokens = tokens;
  input.batch = batch.view;
  const int sets = int(512e6 / bytes) + 1; // as many weights as do not fit the cache
  std::vector<cuda::TileMaps> hostMaps(size_t(sets) * weights);
  for (size_t i = 0; i < hostMaps.size(); ++i) {
    const int64_t all = int64_t(s.experts) * s.rows[i % weights];
    CHECK(cuda::encodeTileMaps({pool.next(size_t(all) * s.cols * 2), Type::BF16, all, s.cols, s.cols}, hostMaps[i]));
  }
  const Array<cuda::TileMaps> maps(hostMaps);
  for (int w = 0; w < weights; ++w) {
    stage.weights[w].rows = s.rows[w];
    stage.weights[w].y = {y, Type::BF16};
    stage.weights[w].yStride = s.rows[w];
  }
  std::vector<cuda::StageTile> hostTiles(1);
  if (s.form != cuda::StageForm::ExpertGlu) { // which deals out its tiles itself
    const int64_t units = (s.form == cuda::StageForm::Glu ? s.rows[0] : rows) / cuda::unitRows(s.form);
    std::vector<uint32_t> bounds;
    for (int i = 0; i <= bench.sms; ++i)
      bounds.push_back(uint32_t(units * i / bench.sms));
    hostTiles = cuda::listTiles(stage, bounds);
  }
  const Array<cuda::StageTile> tiles(hostTiles);
  stage.tiles = tiles;
  int set = 0;
  bench.report(std::string("stage ") + s.name + " " + std::to_string(rows) + "x" + std::to_string(s.cols) + " tokens " +
                   std::to_string(tokens),
               bytes, [&] {
                 for (int w = 0; w < weights; ++w)
                   stage.weights[w].maps = maps + set * weights + w;
                 set = (set + 1) % sets;
                 return cuda::matrixStage(stage, input, bench.stream);
               });
}

void router(Bench &bench, int experts, int count, int cols, int tokens) {
  const Array<uint32_t> arrived(std::vector<uint32_t>{0});
  const auto floats = [&](size_t n) { return reinterpret_cast<float *>(bench.pool.next(n * 4)); };
  cuda::RouterStage stage;
  stage.cols = cols;
  stage.experts = experts;
  stage.count = count;
  stage.x = bench.pool.next(size_t(tokens) * cols * 2);
  stage.norm = floats(cols);
  stage.eps = 1e-5f;
  stage.normed = bench.pool.next(size_t(tokens) * cols * 2);
  stage.logits = floats(size_t(tokens) * experts);
  stage.routes = floats(size_t(tokens) * count * 2);
  stage.arrived = arrived;
  bench.report("stage router " + std::to_string(count) + " of " + std::to_string(experts) + "x" + std::to_string(cols) +
                   " tokens " + std::to_string(tokens),
               2.0 * experts * cols, [&] {
                 stage.weights = bench.pool.next(size_t(experts) * cols * 2);
                 return cuda::routerStage(stage, tokens, bench.stream);
               });
}

} // namespace

void stages(Bench &bench) {
  using Form = cuda::StageForm;
  const Shape shapes[] = {{"qkv 1B", Form::Qkv, {2048, 512, 512}, 2048, true, 64},
                          {"o 1B", Form::Rows, {2048}, 2048, false},
                          {"gate, up 1B", Form::Glu, {8192, 8192}, 2048, true},
                          {"down 1B", Form::Rows, {2048}, 8192, false},
                          {"qkv 8B", Form::Qkv, {4096, 1024, 1024}, 4096, true, 128},
                          {"o 8B", Form::Rows, {4096}, 4096, false},
                          {"gate, up 8B", Form::Glu, {14336, 14336}, 4096, true},
                          {"down 8B", Form::Rows, {4096}, 14336, false},
                          {"head 8B", Form::Rows, {128256}, 4096, true},
                          {"up gpt2", Form::Activated, {3072}, 768, true}};
  for (int tokens : {1, 8, 16, 32, 64})
    for (const Shape &shape : shapes)
      stage(bench, shape, tokens);
  const Shape ofExperts[] = {{"experts gate, up 8x7B", Form::ExpertGlu, {14336, 14336}, 4096, false, 0, 8, 2},
                             {"experts down 8x7B", Form::ExpertSum, {4096}, 14336, false, 0, 8, 2},
                             {"experts gate, up 30B-A3B", Form::ExpertGlu, {768, 768}, 2048, false, 0, 128, 8},
                             {"experts down 30B-A3B", Form::ExpertSum, {2048}, 768, false, 0, 128, 8}};
  for (int tokens : {1, 8}) {
    for (const Shape &shape : ofExperts)
      stage(bench, shape, tokens);
    router(bench, 8, 2, 4096, tokens);
    router(bench, 128, 8, 2048, tokens);
  }
}

} // namespace distc::bench
