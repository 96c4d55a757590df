#include "compiler/Import/CheckpointIndex.h"
#include "compiler/Import/GgmlTypes.h"
#include "runtime/base/File.h"
#include "test/import/Support.h"

namespace distc::import {
namespace {

using namespace test;

// The format's numbers of value types and of the tensor types used here.
enum : uint32_t { U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64 };
enum : uint32_t { TensorF32 = 0, TensorQ4_1 = 3, TensorQ8_0 = 8, TensorQ4_K = 12 };

template <typename T> T arrayOf(const GgufFile &file, const std::string &key) {
  return std::get<T>(std::get<GgufArray>(file.metadata.at(key)));
}

TEST(Gguf, ReadsAFileOfLlamaCpp) {
  std::string path = dataPath("stories260K/stories260K-f32.gguf");
  auto file = readGguf(path);
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_EQ(file->index.files.size(), 1u);
  const FileEntry &entry = file->index.files[0];
  EXPECT_EQ(entry.size, 1185376u);
  EXPECT_EQ(entry.headerBytes, 14176u);
  auto bytes = readFile(path);
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ(entry.headerHash, hashBytes(std::string_view(*bytes).substr(0, 14176)));

  EXPECT_EQ(file->index.tensors.size(), 48u);
  const TensorEntry *k = file->index.find("blk.0.attn_k.weight");
  ASSERT_NE(k, nullptr);
  EXPECT_EQ(k->shape, (std::vector<uint64_t>{32, 64})); // outermost first
  EXPECT_EQ(k->dtype, plan::DType::F32);
  EXPECT_EQ(k->offset, 292960u);
  EXPECT_EQ(k->bytes, 8192u);

  EXPECT_EQ(file->metadata.size(), 19u);
  EXPECT_EQ(std::get<std::string>(file->metadata.at("general.architecture")), "llama");
  EXPECT_EQ(std::get<int64_t>(file->metadata.at("llama.feed_forward_length")), 172);
  EXPECT_EQ(std::get<double>(file->metadata.at("llama.attention.layer_norm_rms_epsilon")), double(1e-5f));
  auto tokens = arrayOf<std::vector<std::string>>(*file, "tokenizer.ggml.tokens");
  ASSERT_EQ(tokens.size(), 512u);
  EXPECT_EQ(tokens[3], "<0x00>");
  EXPECT_EQ(arrayOf<std::vector<double>>(*file, "tokenizer.ggml.scores").size(), 512u);
  EXPECT_EQ(arrayOf<std::vector<int64_t>>(*file, "tokenizer.ggml.token_type")[0], 2);
}

TEST(Gguf, ReadsValuesOfEveryType) {
  TemporaryFolder folder;
  GgufBuilder b(0, 15);
  b.key("u8", U8).u8(255).key("i8", I8).u8(255).key("u16", U16).u8(255).u8(255).key("i16", I16).u8(254).u8(255);
  b.key("u32", U32).u32(~0u).key("i32", I32).u32(~0u).key("f32", F32).f32(0.5f).key("bool", Bool).u8(1);
  b.key("string", String).text("a\xff").key("u64", U64).u64(INT64_MAX).key("i64", I64).u64(~uint64_t(0));
  b.key("f64", F64).f64(1e300);
  b.key("bools", Array).u32(Bool).u64(2).u8(1).u8(0);
  b.key("floats", Array).u32(F64).u64(1).f64(0.25);
  b.key("none", Array).u32(String).u64(0);
  auto file = readGguf(folder.write("a.gguf", b.bytes()));
  ASSERT_TRUE(file.ok()) << file.status().message();
  auto integer = [&](const char *key) { return std::get<int64_t>(file->metadata.at(key)); };
  EXPECT_EQ(integer("u8"), 255);
  EXPECT_EQ(integer("i8"), -1);
  EXPECT_EQ(integer("u16"), 65535);
  EXPECT_EQ(integer("i16"), -2);
  EXPECT_EQ(integer("u32"), 4294967295);
  EXPECT_EQ(integer("i32"), -1);
  EXPECT_EQ(integer("u64"), INT64_MAX);
  EXPECT_EQ(integer("i64"), -1);
  EXPECT_EQ(std::get<double>(file->metadata.at("f32")), 0.5);
  EXPECT_EQ(std::get<double>(file->metadata.at("f64")), 1e300);
  EXPECT_EQ(std::get<bool>(file->metadata.at("bool")), true);
  EXPECT_EQ(std::get<std::string>(file->metadata.at("string")), "a\xff");
  EXPECT_EQ(arrayOf<std::vector<int64_t>>(*file, "bools"), (std::vector<int64_t>{1, 0}));
  EXPECT_EQ(arrayOf<std::vector<double>>(*file, "floats"), std::vector<double>{0.25});
  EXPECT_TRUE(arrayOf<std::vector<std::string>>(*file, "none").empty());
  EXPECT_EQ(file->index.files[0].headerBytes, b.bytes().size()) << "without tensors the padding may be absent";
}

TEST(Gguf, KnowsBlocksAndPadding) {
  TemporaryFolder folder;
  // 64 Q8_0 = 68 bytes, padded to 96; 32 Q4_1 = 20, to 32; 512 Q4_K = 288; 3 F32 = 12, not padded at the end.
  GgufBuilder b(4, 0, 2);
  b.tensor("a", {32, 2}, TensorQ8_0, 0).tensor("b", {32}, TensorQ4_1, 96);
  b.tensor("c", {256, 1, 2, 1}, TensorQ4_K, 128).tensor("d", {3}, TensorF32, 416).data(428);
  auto file = readGguf(folder.write("a.gguf", b.bytes()));
  ASSERT_TRUE(file.ok()) << file.status().message();
  uint64_t start = file->index.files[0].headerBytes;
  EXPECT_EQ(start % 32, 0u);
  const TensorEntry *a = file->index.find("a"), *c = file->index.find("c");
  EXPECT_EQ(a->shape, (std::vector<uint64_t>{2, 32}));
  EXPECT_EQ(a->bytes, 68u);
  EXPECT_EQ(a->dtype, plan::DType::Q8_0);
  EXPECT_EQ(file->index.find("b")->bytes, 20u);
  EXPECT_EQ(file->index.find("b")->dtype, plan::DType::Q4_1);
  EXPECT_EQ(c->bytes, 288u);
  EXPECT_EQ(c->offset, start + 128);
  EXPECT_EQ(c->dtypeName, "Q4_K");
  EXPECT_EQ(c->dtype, plan::DType::Q4_K);
}

TEST(Gguf, ObeysTheAlignmentKey) {
  TemporaryFolder folder;
  GgufBuilder b(2, 1);
  b.key("general.alignment", U32).u32(128).tensor("a", {1}, TensorF32, 0).tensor("b", {1}, TensorF32, 128);
  auto file = readGguf(folder.write("a.gguf", b.data(132, 128).bytes()));
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->index.files[0].headerBytes % 128, 0u);
}

TEST(Gguf, HandsAHoleToACallerWhoAsks) {
  TemporaryFolder folder;
  std::string path = folder.write("a.gguf", GgufBuilder(1).tensor("a", {8}, TensorF32, 0).data(64).bytes());
  Status hole;
  EXPECT_TRUE(readGguf(path, &hole).ok());
  expectFailure(hole, {path, "no tensor covers bytes 96..128", "after tensor 'a'"});
}

// Sizes of blocks as llama.cpp states them, for types that no other test uses.
TEST(Gguf, KnowsGgmlTypes) {
  struct {
    uint32_t number;
    const char *name;
    uint64_t block, bytes;
  } const types[] = {{2, "Q4_0", 32, 18},      {10, "Q2_K", 256, 84}, {14, "Q6_K", 256, 210}, {16, "IQ2_XXS", 256, 66},
                     {23, "IQ4_XS", 256, 136}, {30, "BF16", 1, 2},    {35, "TQ2_0", 256, 66}, {39, "MXFP4", 32, 17}};
  for (auto [number, name, block, bytes] : types) {
    const GgmlType *type = findGgmlType(number);
    ASSERT_NE(type, nullptr) << name;
    EXPECT_STREQ(type->name, name);
    EXPECT_EQ(type->block, block) << name;
    EXPECT_EQ(type->bytes, bytes) << name;
  }
  for (uint32_t removed : {4, 5, 31, 32, 33, 36, 37, 38, 1000})
    EXPECT_EQ(findGgmlType(removed), nullptr);
}

struct BadFile {
  const char *name;
  std::string bytes;
  std::vector<std::string> message;
};

/// One tensor "t" in 32 bytes of data.
BadFile badTensor(const char *name, const std::vector<uint64_t> &dims, uint32_t type, uint64_t offset,
                  std::vector<std::string> message) {
  return {name, GgufBuilder(1).tensor("t", dims, type, offset).data(32).bytes(), std::move(message)};
}

BadFile badPair(const char *name, const GgufBuilder &builder, std::vector<std::string> message) {
  return {name, builder.bytes(), std::move(message)};
}

/// A file of one pair with key "k".
GgufBuilder pair(uint32_t type) { return GgufBuilder(0, 1).key("k", type); }

BadFile badAlignment(const char *name, uint32_t value) {
  return badPair(name, GgufBuilder(0, 1).key("general.alignment", U32).u32(value),
                 {"'general.alignment' is " + std::to_string(value), "expected a power of two"});
}

std::vector<BadFile> badFiles() {
  const uint64_t huge = uint64_t(1) << 62;
  std::string swapped = "GGUF";
  append<uint32_t>(swapped, 3u << 24);
  return {
      {"empty", "", {"not a GGUF file", "begins with ''"}},
      {"magic", "GGJT\1\0\0\0", {"not a GGUF file", "'GGJT'"}},
      {"magic alone", "GGUF", {"the version at byte 4 takes 4 bytes", "ends at 4"}},
      {"version 1", GgufBuilder(0, 0, 1).bytes(), {"GGUF version 1, expected 2 or 3"}},
      {"version 4", GgufBuilder(0, 0, 4).bytes(), {"GGUF version 4, expected 2 or 3"}},
      {"big-endian", swapped + std::string(16, '\0'), {"big-endian"}},
      {"no counts", GgufBuilder().bytes().substr(0, 12), {"the number of tensors at byte 8", "truncated"}},
      {"tensors", GgufBuilder(1'000'000'000).bytes(), {"1000000000 tensors", "holds at most 0"}},
      {"pairs", GgufBuilder(0, ~uint64_t(0)).data(100).bytes(), {"18446744073709551615 metadata pairs", "at most"}},
      {"end in a key", GgufBuilder(0, 1).u64(9).u32(1).u32(0).bytes(), {"a metadata key", "9 bytes", "truncated"}},
      {"key length", GgufBuilder(0, 1).u64(~uint64_t(0)).u64(0).bytes(), {"a metadata key", "18446744073709551615"}},
      badPair("value type", pair(13).u32(0), {"key 'k': unknown type 13"}),
      badPair("end in a value", pair(U64).u32(0), {"the value of key 'k'", "takes 8 bytes"}),
      badPair("string length", pair(String).u64(huge), {"the value of key 'k'", std::to_string(huge)}),
      badPair("boolean", pair(Bool).u8(2), {"key 'k': boolean of value 2, expected 0 or 1"}),
      badPair("integer", pair(U64).u64(~uint64_t(0)), {"key 'k'", "18446744073709551615 is above the largest"}),
      badPair("array of arrays", pair(Array).u32(Array).u64(1).u32(U8).u64(0), {"key 'k': an array of arrays"}),
      badPair("array type", pair(Array).u32(99).u64(0), {"key 'k': array of unknown type 99"}),
      badPair("array count", pair(Array).u32(U8).u64(huge), {"key 'k': array of " + std::to_string(huge)}),
      badPair("string count", pair(Array).u32(String).u64(2).text(""), {"array of 2 elements", "at most 1"}),
      badPair("string in array", pair(Array).u32(String).u64(2).u64(100).u64(0), {"a string of key 'k'", "100 bytes"}),
      badPair("boolean in array", pair(Array).u32(Bool).u64(1).u8(9), {"key 'k': boolean of value 9"}),
      badPair("key twice", GgufBuilder(0, 2).key("k", U32).u32(1).key("k", U32).u32(1), {"key 'k' occurs twice"}),
      badPair("split", GgufBuilder(0, 1).key("split.count", U16).u8(3).u8(0), {"one of 3 parts", "merge"}),
      badAlignment("alignment 0", 0),
      badAlignment("alignment 24", 24),
      badAlignment("alignment 2^31", 1u << 31),
      badPair("alignment of a kind", GgufBuilder(0, 1).key("general.alignment", String).text("8"), {"not an integer"}),
      {"tensor name",
       GgufBuilder(1).u64(5000).u64(0).u64(0).u64(0).bytes(),
       {"the name of tensor number 0", "5000 bytes"}},
      {"end in a tensor",
       GgufBuilder(1).text("name").u32(4).u64(1).bytes(),
       {"the description of tensor 'name'", "truncated"}},
      {"tensor twice",
       GgufBuilder(2).tensor("t", {1}, TensorF32, 0).tensor("t", {1}, TensorF32, 32).data(64).bytes(),
       {"tensor 't' occurs twice"}},
      badTensor("dims", {1, 1, 1, 1, 1}, TensorF32, 0, {"tensor 't': 5 dimensions, expected at most 4"}),
      badTensor("removed type", {1}, 4, 0, {"tensor 't': unknown type 4"}),
      badTensor("unknown type", {1}, 4000, 0, {"tensor 't': unknown type 4000"}),
      badTensor("part of a block", {33}, TensorQ8_0, 0, {"rows of 33 elements are not whole blocks of 32"}),
      badTensor("scalar block", {}, TensorQ8_0, 0, {"rows of 1 elements are not whole blocks of 32"}),
      badTensor("product", {huge, 8}, TensorF32, 0, {"shape [8, " + std::to_string(huge) + "] of F32 overflows"}),
      badTensor("product with zero", {huge, 8, 0}, TensorF32, 0, {"overflows"}),
      badTensor("bytes", {huge}, TensorF32, 0, {"of F32 overflows"}),
      badTensor("unaligned", {4}, TensorF32, 16, {"offset 16 is not a multiple of the alignment 32"}),
      badTensor("beyond", {16}, TensorF32, 0, {"64 bytes at offset 0 end beyond the data of 32 bytes", "truncated"}),
      badTensor("far beyond", {1}, TensorF32, ~uint64_t(31), {"tensor 't'", "end beyond the data of 32 bytes"}),
      badTensor("hole", {0}, TensorF32, 0, {"no tensor covers bytes", "after tensor 't'"}),
      {"no data", GgufBuilder(1).tensor("t", {1}, TensorF32, 0).bytes(), {"beyond the data of 0 bytes"}},
      {"overlap",
       GgufBuilder(2).tensor("s", {9}, TensorF32, 0).tensor("t", {1}, TensorF32, 32).data(64).bytes(),
       {"tensor 't' (bytes 128..132) overlaps tensor 's' (bytes 96..132)"}},
      {"hole between",
       GgufBuilder(2).tensor("s", {1}, TensorF32, 0).tensor("t", {1}, TensorF32, 64).data(96).bytes(),
       {"no tensor covers bytes 100..160, after tensor 's', before tensor 't'"}},
      {"hole first", GgufBuilder(1).tensor("t", {1}, TensorF32, 32).data(64).bytes(), {"before tensor 't'"}},
      {"text after the last",
       GgufBuilder(1).tensor("t", {8}, TensorF32, 0).data(33).bytes(),
       {"no tensor covers bytes 96..97, after tensor 't'"}},
  };
}

TEST(Gguf, RefusesBadFiles) {
  TemporaryFolder folder;
  for (const BadFile &file : badFiles()) {
    SCOPED_TRACE(file.name);
    std::string path = folder.write("bad.gguf", file.bytes);
    Status status = readGguf(path).status();
    expectFailure(status, file.message);
    EXPECT_TRUE(status.message().starts_with(path)) << status.message();
  }
  expectFailure(readGguf(folder.path() + "/none").status(), {"/none: cannot open"});
}

TEST(Gguf, RefusesEveryTruncation) {
  TemporaryFolder folder;
  GgufBuilder b(2, 2);
  b.key("a", String).text("text").key("b", Array).u32(U32).u64(2).u32(1).u32(2);
  b.tensor("s", {4, 2}, TensorF32, 0).tensor("t", {32}, TensorQ8_0, 32).data(66);
  std::string path = folder.write("a.gguf", b.bytes());
  ASSERT_TRUE(readGguf(path).ok()) << readGguf(path).status().message();
  for (size_t size = b.bytes().size(); size-- > 0;) {
    std::filesystem::resize_file(path, size);
    ASSERT_FALSE(readGguf(path).ok()) << size << " of " << b.bytes().size() << " bytes";
  }
}

} // namespace
} // namespace distc::import
