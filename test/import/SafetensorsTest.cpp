#include "compiler/Import/CheckpointIndex.h"
#include "runtime/base/File.h"
#include "test/import/Support.h"

namespace distc::import {
namespace {

using namespace test;

TEST(Safetensors, ReadsAFileOfTransformers) {
  std::string path = dataPath("fixtures/llama-mha/model.safetensors");
  auto index = readSafetensors(path);
  ASSERT_TRUE(index.ok()) << index.status().message();
  ASSERT_EQ(index->files.size(), 1u);
  const FileEntry &file = index->files[0];
  EXPECT_EQ(file.path, path);
  EXPECT_EQ(file.size, 2234960u);
  EXPECT_EQ(file.headerBytes, 3152u);
  auto bytes = readFile(path);
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ(file.headerHash, hashBytes(std::string_view(*bytes).substr(0, 3152)));
  EXPECT_EQ(index->tensors.size(), 30u);
  const TensorEntry *head = index->find("lm_head.weight");
  ASSERT_NE(head, nullptr);
  EXPECT_EQ(head->name, "lm_head.weight");
  EXPECT_EQ(head->dtypeName, "F32");
  EXPECT_EQ(head->dtype, plan::DType::F32);
  EXPECT_EQ(head->shape, (std::vector<uint64_t>{256, 128}));
  EXPECT_EQ(head->offset, 3152u);
  EXPECT_EQ(head->bytes, 131072u);
  EXPECT_EQ(index->find("no.such.tensor"), nullptr);
}

TEST(Safetensors, ReadsEveryFixture) {
  size_t folders = 0;
  for (const auto &entry : std::filesystem::directory_iterator(dataPath("fixtures"))) {
    auto index = readSafetensorsFolder(entry.path().string());
    ASSERT_TRUE(index.ok()) << index.status().message();
    EXPECT_GE(index->tensors.size(), 18u) << entry.path();
    auto golden = readSafetensors((entry.path() / "golden.safetensors").string());
    ASSERT_TRUE(golden.ok()) << golden.status().message();
    const TensorEntry *ids = golden->find("input_ids");
    ASSERT_NE(ids, nullptr);
    EXPECT_EQ(ids->dtypeName, "I64");
    EXPECT_FALSE(ids->dtype.has_value());
    ++folders;
  }
  EXPECT_GE(folders, 6u);
}

TEST(Safetensors, ReadsShards) {
  auto index = readSafetensorsFolder(dataPath("fixtures/llama-gqa"));
  ASSERT_TRUE(index.ok()) << index.status().message();
  ASSERT_EQ(index->files.size(), 3u);
  for (size_t i = 0; i < 3; ++i)
    EXPECT_THAT(index->files[i].path, ::testing::HasSubstr("model-0000" + std::to_string(i + 1)));
  EXPECT_EQ(index->find("lm_head.weight")->file, 2u);
  EXPECT_EQ(index->find("model.embed_tokens.weight")->file, 0u);
}

TEST(Safetensors, AcceptsWhatTheFormatAllows) {
  TemporaryFolder folder;
  // A scalar, an empty tensor, types narrower than a byte, white space after the header, unordered names.
  auto index = readSafetensors(folder.write(
      "a.safetensors", safetensors(R"({"z":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},"__metadata__":{"a":"b"},
"e":{"dtype":"F32","shape":[0,7],"data_offsets":[2,2]},"f":{"dtype":"F4","shape":[3,2],"data_offsets":[2,5]},
"s":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[5,8]}}    )",
                                   8)));
  ASSERT_TRUE(index.ok()) << index.status().message();
  EXPECT_EQ(index->tensors.size(), 4u);
  EXPECT_TRUE(index->find("z")->shape.empty());
  EXPECT_EQ(index->find("e")->bytes, 0u);
  EXPECT_EQ(index->find("f")->offset, index->files[0].headerBytes + 2);
}

struct BadFile {
  const char *name;
  std::string bytes;
  std::vector<std::string> message;
};

std::string object(const std::string &members) { return std::string("{").append(members).append("}"); }

/// A header of the members given, with 16 bytes of data.
BadFile bad(const char *name, const std::string &members, std::vector<std::string> message) {
  return {name, safetensors(object(members), 16), std::move(message)};
}

/// A description of tensor t.
std::string t(const std::string &description) { return std::string(R"("t":)").append(object(description)); }

const std::string kA = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
const std::string kB = R"("b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]})";

std::string declaredLength(uint64_t length) {
  std::string bytes;
  append(bytes, length);
  return bytes + "{}";
}

std::vector<BadFile> badFiles() {
  std::string deep = std::string(R"("d":)").append(100000, '[').append(100000, ']');
  return {
      {"empty", "", {"not a safetensors file", "0 bytes"}},
      {"seven bytes", std::string(7, '\0'), {"7 bytes", "at least 8"}},
      {"header beyond the file", declaredLength(3), {"header of 3 bytes in a file of 10 bytes"}},
      {"header above the limit", declaredLength(100'000'001), {"100000001", "at most 100000000"}},
      {"largest length", declaredLength(~uint64_t(0)), {"18446744073709551615"}},
      {"no header", safetensors("", 0), {"does not begin with '{'"}},
      {"an array", safetensors("[]", 0), {"does not begin with '{'"}},
      {"not JSON", safetensors("{\"a\":}", 0), {"header: not valid JSON", "line 1, column 6"}},
      {"cut JSON", safetensors("{\"a\":{", 0), {"not valid JSON", "end of input"}},
      {"text after JSON", safetensors("{} x", 0), {"not valid JSON"}},
      {"zeros after JSON", safetensors(std::string_view("{}\0\0", 4), 0), {"not valid JSON: byte 2 is zero"}},
      {"broken UTF-8", safetensors("{\"\xff\":1}", 0), {"not valid JSON", "UTF-8"}},
      bad("deep", deep, {"nested deeper than 64 levels"}),
      bad("tensor twice", kA + "," + kA, {"key 'a' occurs twice"}),
      bad("key twice", t(R"("dtype":"F32","dtype":"F16")"), {"key 't.dtype' occurs twice"}),
      bad("not an object", R"("t":3)", {"tensor 't'", "is 3, expected an object"}),
      bad("metadata", R"("__metadata__":[])", {"'__metadata__' is an array, expected an object"}),
      bad("no dtype", t(R"("shape":[],"data_offsets":[0,4])"), {"tensor 't'", "no key 'dtype'"}),
      bad("no shape", t(R"("dtype":"F32","data_offsets":[0,4])"), {"tensor 't'", "no key 'shape'"}),
      bad("no offsets", t(R"("dtype":"F32","shape":[])"), {"tensor 't'", "no key 'data_offsets'"}),
      bad("dtype of a kind", t(R"("dtype":1)"), {"tensor 't'", "'dtype' is 1, expected a string"}),
      bad("dtype unknown", t(R"("dtype":"F33","shape":[])"), {"tensor 't'", "unknown dtype 'F33'"}),
      bad("shape of a kind", t(R"("dtype":"F32","shape":"4")"), {"'shape' is \"4\", expected an array"}),
      bad("negative", t(R"("dtype":"F32","shape":[-1])"), {"'shape' holds -1, expected an unsigned integer"}),
      bad("fraction", t(R"("dtype":"F32","shape":[4.0])"), {"'shape' holds 4.0"}),
      bad("beyond 64 bits", t(R"("dtype":"F32","shape":[18446744073709551616])"), {"'shape' holds 1.8"}),
      bad("product", t(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0])"),
          {"tensor 't'", "[4294967296, 4294967296] of F32 overflows"}),
      bad("product with zero", t(R"("dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0])"),
          {"overflows"}),
      bad("bits", t(R"("dtype":"F64","shape":[1152921504606846976],"data_offsets":[0,0])"), {"overflows"}),
      bad("one offset", t(R"("dtype":"F32","shape":[4],"data_offsets":[0])"), {"1 elements, expected 2"}),
      bad("backwards", t(R"("dtype":"F32","shape":[4],"data_offsets":[16,0])"), {"16..0", "before the begin"}),
      bad("beyond the data", t(R"("dtype":"F32","shape":[4],"data_offsets":[4,20])"),
          {"tensor 't'", "4..20 end beyond the data of 16 bytes"}),
      bad("far beyond", t(R"("dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,18446744073709551615])"),
          {"end beyond the data of 16 bytes"}),
      bad("size", t(R"("dtype":"F32","shape":[2,2],"data_offsets":[0,8])"),
          {"tensor 't'", "shape [2, 2] of F32 takes 16 bytes, data_offsets 0..8 give 8"}),
      bad("half a byte", t(R"("dtype":"F4","shape":[3],"data_offsets":[0,2])"), {"whole number of bytes"}),
      bad("overlap", kA + R"(,"t":{"dtype":"F32","shape":[3],"data_offsets":[4,16]})",
          {"tensor 't' (bytes ", "overlaps tensor 'a' (bytes "}),
      bad("same place", kA + "," + kB + R"(,"t":{"dtype":"F32","shape":[2],"data_offsets":[8,16]})",
          {"tensor 't'", "overlaps tensor 'b'"}),
      bad("empty inside", kA + "," + kB + R"(,"t":{"dtype":"F32","shape":[0],"data_offsets":[4,4]})",
          {"tensor 't'", "overlaps tensor 'a'"}),
      bad("hole first", kB, {"no tensor covers bytes", "before tensor 'b'"}),
      bad("hole last", kA, {"no tensor covers bytes", "after tensor 'a'"}),
      bad("hole between", kA + R"(,"t":{"dtype":"F32","shape":[1],"data_offsets":[12,16]})",
          {"after tensor 'a', before tensor 't'"}),
      bad("no tensor", "", {"no tensor covers bytes 10..26"}),
      bad("escapes", R"("a\n\u001b[31m":3)", {R"('a\x0a\x1b[31m')"}),
      bad("long name", std::string("\"").append(5000, 'n').append("\":3"),
          {std::string("tensor '").append(120, 'n'), "n…'"}),
  };
}

TEST(Safetensors, RefusesBadFiles) {
  TemporaryFolder folder;
  for (const BadFile &file : badFiles()) {
    SCOPED_TRACE(file.name);
    std::string path = folder.write("bad.safetensors", file.bytes);
    Status status = readSafetensors(path).status();
    expectFailure(status, file.message);
    EXPECT_TRUE(status.message().starts_with(path)) << status.message();
    EXPECT_LT(status.message().size(), path.size() + 600);
  }
}

TEST(Safetensors, RefusesMissingFilesAndFolders) {
  TemporaryFolder folder;
  expectFailure(readSafetensors(folder.path() + "/none").status(), {"/none: cannot open", "No such file"});
  expectFailure(readSafetensors(folder.path()).status(), {folder.path(), "is a folder"});
  expectFailure(readSafetensorsFolder(folder.path() + "/none").status(), {"/none: not a folder"});
  expectFailure(readSafetensorsFolder(folder.path()).status(),
                {folder.path(), "neither model.safetensors nor model.safetensors.index.json"});
}

TEST(Safetensors, HandsAHoleToACallerWhoAsks) {
  TemporaryFolder folder;
  std::string path = folder.write("model.safetensors", safetensors(object(kA), 16));
  Status hole;
  auto index = readSafetensors(path, &hole);
  ASSERT_TRUE(index.ok());
  expectFailure(hole, {path, "no tensor covers bytes", "after tensor 'a'"});
  EXPECT_TRUE(readSafetensorsFolder(folder.path(), &hole).ok());
  EXPECT_FALSE(hole.ok());
  folder.write("model.safetensors", safetensors(object(kA + "," + kB), 16));
  EXPECT_TRUE(readSafetensorsFolder(folder.path(), &hole).ok());
  EXPECT_TRUE(hole.ok()) << "a status of before must not stay";
}

/// Two shards, a.safetensors with tensor a and b.safetensors with tensor b, and an index.
class Folder : public ::testing::Test {
protected:
  void SetUp() override {
    folder.write("a.safetensors", safetensors(object(kA), 8));
    folder.write("b.safetensors", safetensors(R"({"b":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})", 4));
    index(R"("a":"a.safetensors","b":"b.safetensors")");
  }
  void index(const std::string &weightMap) {
    folder.write("model.safetensors.index.json", R"({"metadata":{"total_size":12},"weight_map":{)" + weightMap + "}}");
  }
  Status read() { return readSafetensorsFolder(folder.path()).status(); }

  TemporaryFolder folder;
};

TEST_F(Folder, IsReadAsOne) {
  auto result = readSafetensorsFolder(folder.path());
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_EQ(result->files.size(), 2u);
  EXPECT_EQ(result->find("b")->file, 1u);
}

TEST_F(Folder, ListsTensorsThatTheIndexLacks) {
  folder.write("b.safetensors", safetensors(R"({"b":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},
"c":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})",
                                            6));
  auto result = readSafetensorsFolder(folder.path());
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_EQ(result->find("c")->file, 1u);
}

TEST_F(Folder, PrefersTheSingleFile) {
  folder.write("model.safetensors", safetensors(object(kA), 8));
  auto result = readSafetensorsFolder(folder.path());
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->files.size(), 1u);
}

TEST_F(Folder, RefusesAMissingShard) {
  std::filesystem::remove(folder.path() + "/b.safetensors");
  expectFailure(read(), {folder.path() + "/b.safetensors: no such file", "index.json names it"});
}

TEST_F(Folder, RefusesATruncatedShard) {
  std::filesystem::resize_file(folder.path() + "/b.safetensors", 60);
  expectFailure(read(), {folder.path() + "/b.safetensors"});
}

TEST_F(Folder, RefusesShardsElsewhere) {
  for (const char *name : {"../b.safetensors", "/etc/passwd", "x/b.safetensors", "..", ".", "", "x\\\\b", "b\\u0000"}) {
    SCOPED_TRACE(name);
    index(std::string(R"("a":"a.safetensors","b":")").append(name).append("\""));
    expectFailure(read(), {"index.json: weight_map, tensor 'b'", "is not a plain file name"});
  }
}

TEST_F(Folder, NamesTheMissingTensorBeforeItsHole) {
  folder.write("b.safetensors", safetensors(R"({"c":{"dtype":"F16","shape":[2],"data_offsets":[4,8]}})", 8));
  expectFailure(read(), {"/b.safetensors: has no tensor 'b'", "index.json"});
}

TEST_F(Folder, NamesTheShardThatHasTheTensor) {
  index(R"("a":"b.safetensors","b":"a.safetensors")");
  expectFailure(read(), {"/b.safetensors: has no tensor 'a'", "it is in " + folder.path() + "/a.safetensors"});
}

TEST_F(Folder, RefusesATensorInTwoShards) {
  folder.write("b.safetensors", safetensors(object(kA), 8));
  index(R"("a":"a.safetensors","b":"b.safetensors")");
  expectFailure(read(), {"/b.safetensors: tensor 'a' is also in " + folder.path() + "/a.safetensors"});
}

TEST_F(Folder, RefusesABadIndex) {
  struct {
    const char *text, *message;
  } const cases[] = {
      {"{", "not valid JSON"},
      {"[]", "is an array, expected an object"},
      {"{}", "no key 'weight_map'"},
      {R"({"weight_map":"x"})", "key 'weight_map' is \"x\", expected an object"},
      {R"({"weight_map":{"a":1}})", "tensor 'a': is 1, expected the name of a shard"},
      {R"({"weight_map":{"a":"a.safetensors","a":"b.safetensors"}})", "key 'weight_map.a' occurs twice"}};
  for (auto [text, message] : cases) {
    SCOPED_TRACE(text);
    folder.write("model.safetensors.index.json", text);
    expectFailure(read(), {folder.path() + "/model.safetensors.index.json: ", message});
  }
}

} // namespace
} // namespace distc::import
