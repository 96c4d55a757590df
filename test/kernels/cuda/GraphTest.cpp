// The launchers in a graph: what is replayed follows the batch in device memory, not what it was at capture.
#include "DeviceTest.h"

namespace distc::cuda {
namespace {

class CudaGraphTest : public DeviceTest {};

TEST_F(CudaGraphTest, ReplayFollowsTheBatch) {
  reference::Attention d({8, 2, 64, 16, 0, 0.0f, {300, 20}, {}}, random);
  const int64_t width = d.c.heads * d.c.dim;
  const std::vector<float> table = normal(50 * width), ones(width, 1.0f);
  const DeviceValues dTable(table, Type::F32), weight(ones, Type::F32), cache(d.cache, Type::F32);
  const DeviceValues x(2 * width, Type::F32), q(2 * width, Type::F32), out(2 * width, Type::F32);
  DeviceArray<int32_t> tokens({1, 2}), positions({3, 4}), blocks(d.table), sequenceOf(d.c.sequenceOf);

  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  ASSERT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  ASSERT_CUDA(embedding(tokens.data(), 2, {dTable.data(), Type::F32, 50, width, width}, 0, x, stream));
  ASSERT_CUDA(rmsNorm(x, weight, 0.0f, width, 2, q, stream));
  ASSERT_CUDA(attention(q, 2, {cache.data(), Type::F32, 2, 16, 64}, {8, d.scale(), 0, 0.0f, 8},
                        {blocks.data(), d.blocksPerSequence, sequenceOf.data(), positions.data()}, out, stream));
  ASSERT_CUDA(cudaStreamEndCapture(stream, &graph));
  ASSERT_CUDA(cudaGraphInstantiate(&executable, graph, 0));

  const std::vector<int32_t> ids{41, 7};
  ASSERT_CUDA(cudaMemcpy(tokens.data(), ids.data(), 8, cudaMemcpyDefault));
  ASSERT_CUDA(cudaMemcpy(positions.data(), d.c.positions.data(), 8, cudaMemcpyDefault));
  ASSERT_CUDA(cudaGraphLaunch(executable, stream));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  for (int64_t t = 0; t < 2; ++t) {
    const std::vector<float> row(&table[ids[t] * width], &table[ids[t] * width] + width);
    const std::vector<double> normed = reference::rmsNorm(row, ones, 0);
    std::copy(normed.begin(), normed.end(), &d.q[t * width]);
  }
  EXPECT_LE(relativeError(out.values().data(), d.result()), 1e-5);
  EXPECT_CUDA(cudaGraphExecDestroy(executable));
  EXPECT_CUDA(cudaGraphDestroy(graph));
  EXPECT_CUDA(cudaStreamDestroy(stream));
}

} // namespace
} // namespace distc::cuda
