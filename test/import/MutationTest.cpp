// Random damage: a reader must refuse it or return an index that holds what CheckpointIndex.h promises.
#include "compiler/Import/CheckpointIndex.h"
#include "compiler/Import/ModelConfig.h"
#include "test/import/Support.h"

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <random>

namespace distc::import {
namespace {

using namespace test;

constexpr int kMutants = 4000;

class Mutator {
public:
  Mutator() : seed_(chooseSeed()), random_(seed_) {
    std::cout << "DISTC_TEST_SEED=" << seed_ << std::endl; // set it to repeat a run
  }

  uint64_t seed() const { return seed_; }

  std::string operator()(std::string bytes) {
    for (uint64_t rounds = 1 + below(3); rounds > 0 && !bytes.empty(); --rounds) {
      size_t at = below(bytes.size());
      size_t length = std::min<size_t>(1 + below(16), bytes.size() - at);
      switch (below(7)) {
      case 0:
        bytes[at] = char(bytes[at] ^ (1 << below(8)));
        break;
      case 1:
        bytes[at] = char(below(256));
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.erase(at, length);
        break;
      case 4:
        bytes.insert(at, bytes.substr(below(bytes.size()), length));
        break;
      case 5: { // a number of the kind that overflows
        static const uint64_t extremes[] = {0, 1, 31, ~uint64_t(0), uint64_t(1) << 63, uint64_t(1) << 32, 1u << 31};
        uint64_t value = extremes[below(std::size(extremes))] + below(3) - 1;
        std::memcpy(bytes.data() + at, &value, std::min<size_t>(sizeof value, bytes.size() - at));
        break;
      }
      default: // digits stay digits, so that JSON stays JSON
        if (at = bytes.find_first_of("0123456789", at); at != bytes.npos)
          bytes[at] = char('0' + below(10));
      }
    }
    return bytes;
  }

private:
  static uint64_t chooseSeed() {
    const char *given = std::getenv("DISTC_TEST_SEED");
    return given ? std::strtoull(given, nullptr, 10) : std::random_device()();
  }
  uint64_t below(uint64_t bound) { return random_() % bound; }

  uint64_t seed_;
  std::mt19937_64 random_;
};

void expectConsistent(const CheckpointIndex &index) {
  for (uint32_t number = 0; number < index.files.size(); ++number) {
    const FileEntry &file = index.files[number];
    ASSERT_LE(file.headerBytes, file.size);
    std::vector<std::pair<uint64_t, uint64_t>> ranges;
    for (const auto &[name, tensor] : index.tensors) {
      ASSERT_EQ(name, tensor.name);
      ASSERT_LT(tensor.file, index.files.size());
      if (tensor.file == number)
        ranges.emplace_back(tensor.offset, tensor.bytes);
    }
    std::sort(ranges.begin(), ranges.end());
    uint64_t end = file.headerBytes;
    for (auto [offset, bytes] : ranges) {
      ASSERT_GE(offset, end);
      ASSERT_LE(bytes, file.size - offset);
      end = offset + bytes;
    }
    ASSERT_LE(end, file.size);
  }
}

/// Reads mutants of `bytes`; some must be refused, or the test tests nothing.
template <typename Read> void readMutants(const std::string &name, const std::string &bytes, Read read) {
  TemporaryFolder folder;
  Mutator mutate;
  SCOPED_TRACE("seed " + std::to_string(mutate.seed()));
  ASSERT_TRUE(read(folder.write(name, bytes))) << "the original is good";
  int refused = 0;
  for (int i = 0; i < kMutants && !::testing::Test::HasFatalFailure(); ++i)
    refused += !read(folder.write(name, mutate(bytes)));
  EXPECT_GT(refused, kMutants / 10);
}

bool accepted(const Result<CheckpointIndex> &index) {
  if (index.ok())
    expectConsistent(*index);
  else
    EXPECT_FALSE(index.status().message().empty());
  return index.ok();
}

TEST(Mutation, Safetensors) {
  std::string bytes = safetensors(R"({"__metadata__":{"format":"pt"},
"a.weight":{"dtype":"BF16","shape":[16,2],"data_offsets":[0,64]},"b":{"dtype":"F32","shape":[4],"data_offsets":[64,80]},
"c":{"dtype":"F4","shape":[8],"data_offsets":[80,84]},"e":{"dtype":"I64","shape":[0],"data_offsets":[84,84]}})",
                                  84);
  readMutants("a.safetensors", bytes, [](const std::string &path) { return accepted(readSafetensors(path)); });
}

TEST(Mutation, SafetensorsIndex) {
  readMutants("model.safetensors.index.json",
              R"({"metadata":{"total_size":8},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})",
              [](const std::string &path) {
                std::filesystem::path folder = std::filesystem::path(path).parent_path();
                for (const char *name : {"a", "b"}) {
                  std::string header =
                      std::string("{\"") + name + R"(":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})";
                  std::ofstream((folder / (name[0] == 'a' ? "1.safetensors" : "2.safetensors")).string())
                      << safetensors(header, 4);
                }
                return accepted(readSafetensorsFolder(folder.string()));
              });
}

TEST(Mutation, Gguf) {
  GgufBuilder b(3, 5);
  b.key("general.architecture", 8).text("llama").key("general.alignment", 4).u32(32);
  b.key("tokens", 9).u32(8).u64(3).text("a").text("").text("bc").key("scores", 9).u32(6).u64(2).f32(0).f32(-1);
  b.key("flag", 7).u8(1);
  b.tensor("a", {32, 2}, 8, 0).tensor("b", {4}, 0, 96).tensor("c", {256}, 12, 128).data(128 + 144);
  readMutants("a.gguf", b.bytes(), [](const std::string &path) {
    auto file = readGguf(path);
    if (!file.ok())
      return false;
    expectConsistent(file->index);
    auto config = GgufConfig::open(file->metadata, path);
    for (const char *key : {"tokens", "scores", "flag", "general.alignment"})
      EXPECT_TRUE(!config.ok() || config->value(key).ok());
    return true;
  });
}

TEST(Mutation, GgufOfLlamaCpp) {
  std::ifstream stream(dataPath("stories260K/stories260K-f32.gguf"), std::ios::binary);
  std::string header(14176, '\0');
  stream.read(header.data(), std::streamsize(header.size()));
  ASSERT_TRUE(stream);
  TemporaryFolder folder;
  Mutator mutate;
  SCOPED_TRACE("seed " + std::to_string(mutate.seed()));
  for (int i = 0; i < kMutants / 4; ++i) {
    std::string path = folder.write("a.gguf", mutate(header));
    // The tensors' bytes need not be there to be counted.
    std::filesystem::resize_file(path, std::max<uint64_t>(std::filesystem::file_size(path), 1185376));
    auto file = readGguf(path);
    if (file.ok()) {
      ASSERT_NO_FATAL_FAILURE(expectConsistent(file->index));
    }
  }
}

TEST(Mutation, Config) {
  readMutants("config.json", R"({"hidden_size":4096,"rope_scaling":{"factor":8.0,"rope_type":"llama3"},"tie":null})",
              [](const std::string &path) {
                auto config = HfConfig::open(path);
                if (!config.ok())
                  return false;
                bool good = config->integer("hidden_size").ok();
                good &= config->number("rope_scaling.factor").ok();
                good &= config->string("rope_scaling.rope_type").ok();
                good &= config->boolean("tie").ok();
                return good;
              });
}

} // namespace
} // namespace distc::import
