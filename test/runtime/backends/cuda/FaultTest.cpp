// A kernel that fails: each in a process of its own, for whose device nothing works afterwards.
#include "DeviceTest.h"
#include "Sequences.h"
#include "runtime/backends/cuda/CudaBackend.h"
#include "runtime/comm/InProcess.h"
#include "runtime/exec/Rank.h"

namespace distc::test {
namespace {

class CudaFault : public DeviceTest {
protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    DeviceTest::SetUp();
  }

  // A step whose block table, which nothing checks below the runner, leads far out of the cache.
  static void run() {
    TinyModel model(1, {});
    const std::vector<uint8_t> payload = packPayload(*model.plans()[0]);
    const std::vector<std::vector<CommGroup>> groups(1, {{"tp0", {0}}, {"pp0", {0}}});
    auto communicators = connectInProcess(groups, {.memory = createDeviceMemory()});
    Rank rank(*flatbuffers::GetRoot<plan::Plan>(payload.data()), std::move(communicators), {});
    LoadOptions load;
    load.randomSeed = 1;
    const SourceFiles files;
    rank.startLoad(files, load);
    Status status = *rank.wait();
    if (status.ok()) {
      std::mt19937 random(1);
      auto sequences = randomSequences(random, 1, 10);
      std::fill(sequences[0].blocks.begin(), sequences[0].blocks.end(), 1 << 30);
      const Batch batch = makeBatch({&sequences[0]}, {10}, false);
      const StepInput input{0, &batch, std::vector<int32_t>(10, 0)};
      int32_t id = 0;
      StepOutput output{&id, nullptr, TinyModel::kVocabulary};
      rank.startStep(0, {{&input, &output}});
      status = *rank.wait();
    }
    std::fprintf(stderr, "%s\n", status.message().c_str());
    std::fflush(stderr);
    std::_Exit(0);
  }
};

TEST_F(CudaFault, IsReportedWithTheStep) {
  EXPECT_EXIT(run(), ::testing::ExitedWithCode(0),
              "rank 0: .*cudaErrorIllegalAddress.*a kernel before it failed: run again with DISTC_CUDA_SYNC=1");
}

TEST_F(CudaFault, IsReportedAtItsInstruction) {
  EXPECT_EXIT((::setenv("DISTC_CUDA_SYNC", "1", 1), run()), ::testing::ExitedWithCode(0),
              "rank 0: instruction [0-9]+ \\(layers.0.attention.append\\): KvAppend: cannot run the kernel: "
              ".*cudaErrorIllegalAddress");
}

} // namespace
} // namespace distc::test
