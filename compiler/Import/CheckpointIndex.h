// What a checkpoint holds, from its headers alone: files, tensors, where each lies. Plain C++: no MLIR here, so that
// the readers are tested and fuzzed without LLVM.
#pragma once

#include "distc/Status.h"
#include "runtime/schema/plan_generated.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace distc::import {

struct FileEntry {
  std::string path;
  uint64_t size = 0;
  uint64_t headerBytes = 0; // everything before the tensor data
  uint64_t headerHash = 0;  // XXH3-64 of those bytes
};

struct TensorEntry {
  std::string name;
  uint32_t file = 0;                // index into CheckpointIndex::files
  std::string dtypeName;            // as the format spells it: "BF16", "Q4_K"
  std::optional<plan::DType> dtype; // absent: a type that distc does not read; an error only if the tensor is used
  std::vector<uint64_t> shape;      // row-major, outermost first (GGUF's order is reversed)
  uint64_t offset = 0;              // of the data, from the start of the file
  uint64_t bytes = 0;
};

struct CheckpointIndex {
  std::vector<FileEntry> files;
  std::map<std::string, TensorEntry> tensors;

  const TensorEntry *find(const std::string &name) const {
    auto it = tensors.find(name);
    return it == tensors.end() ? nullptr : &it->second;
  }
};

/// A value of GGUF's metadata. Integers of every width are int64_t, except u64 above INT64_MAX (an error); floats
/// double; an array of booleans is one of 0 and 1. Strings are bytes, not always UTF-8.
using GgufArray = std::variant<std::vector<int64_t>, std::vector<double>, std::vector<std::string>>;
using GgufValue = std::variant<bool, int64_t, double, std::string, GgufArray>;
using GgufMetadata = std::map<std::string, GgufValue>;

struct GgufFile {
  CheckpointIndex index;
  GgufMetadata metadata;
};

// The readers read headers only, at most 100 MB of each. What they return is consistent in itself: every tensor lies
// inside its file, its size is that of its shape and type, tensors do not overlap, names are unique over all files. All
// bytes of a file are covered by tensors (but for GGUF's alignment padding): a range that none covers is an error, or,
// if the caller passes `hole`, is described there instead, so that a caller who knows which tensors a model has can
// name the missing one first. Such a caller returns `*hole` afterwards.

/// `path`: a .safetensors file. Format: https://github.com/huggingface/safetensors (8-byte header length, JSON, data).
Result<CheckpointIndex> readSafetensors(const std::string &path, Status *hole = nullptr);

/// `directory`: holds model.safetensors, or else model.safetensors.index.json and the shards that it names, which
/// become the index's files in the order of their names. Tensors of a shard that the index does not name are listed
/// too.
Result<CheckpointIndex> readSafetensorsFolder(const std::string &directory, Status *hole = nullptr);

/// `path`: a .gguf file, version 2 or 3, little-endian, not split. Format:
/// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
Result<GgufFile> readGguf(const std::string &path, Status *hole = nullptr);

} // namespace distc::import
