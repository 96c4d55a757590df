#include "compiler/Import/CheckpointIndex.h"

#include "compiler/Import/Json.h"
#include "compiler/Import/Layout.h"
#include "runtime/base/File.h"

#include <cstring>
#include <filesystem>
#include <set>

namespace distc::import {

namespace {

// The format's own limit, which keeps a hostile header from costing gigabytes.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr uint64_t kLengthBytes = 8;

struct Type {
  const char *name;
  unsigned bits;
  std::optional<plan::DType> dtype;
};

// Every type of the format (safetensors 0.8). An unknown one is an error: its size cannot be checked.
constexpr Type kTypes[] = {
    {"F32", 32, plan::DType::F32},    {"F16", 16, plan::DType::F16}, {"BF16", 16, plan::DType::BF16},
    {"I32", 32, plan::DType::I32},    {"F64", 64, std::nullopt},     {"C64", 64, std::nullopt},
    {"I64", 64, std::nullopt},        {"U64", 64, std::nullopt},     {"U32", 32, std::nullopt},
    {"I16", 16, std::nullopt},        {"U16", 16, std::nullopt},     {"I8", 8, std::nullopt},
    {"U8", 8, std::nullopt},          {"BOOL", 8, std::nullopt},     {"F8_E5M2", 8, std::nullopt},
    {"F8_E4M3", 8, std::nullopt},     {"F8_E8M0", 8, std::nullopt},  {"F8_E5M2FNUZ", 8, std::nullopt},
    {"F8_E4M3FNUZ", 8, std::nullopt}, {"F6_E2M3", 6, std::nullopt},  {"F6_E3M2", 6, std::nullopt},
    {"F4", 4, std::nullopt},
};

const Type *findType(std::string_view name) {
  for (const Type &type : kTypes)
    if (name == type.name)
      return &type;
  return nullptr;
}

/// The member `key` of a tensor's description as a list of unsigned integers.
Status unsignedList(const Json &info, const char *key, const std::string &where, std::vector<uint64_t> &out) {
  auto member = info.find(key);
  if (member == info.end())
    return dataLoss(where + ": has no key '" + key + "'");
  if (!member->is_array())
    return dataLoss(where + ": key '" + key + "' is " + show(*member) + ", expected an array of unsigned integers");
  for (const Json &element : *member) {
    if (!element.is_number_unsigned())
      return dataLoss(where + ": key '" + key + "' holds " + show(element) + ", expected an unsigned integer");
    out.push_back(element.get<uint64_t>());
  }
  return {};
}

/// One tensor of a header, checked on its own against the data's size. Offset and file are the caller's to complete.
Result<TensorEntry> readTensor(const std::string &name, const Json &info, uint64_t dataBytes, const std::string &path) {
  std::string where = path + ": tensor " + inQuotes(name);
  TensorEntry tensor;
  tensor.name = name;
  if (!info.is_object())
    return dataLoss(where + ": is " + show(info) + ", expected an object");
  auto dtype = info.find("dtype");
  if (dtype == info.end())
    return dataLoss(where + ": has no key 'dtype'");
  if (!dtype->is_string())
    return dataLoss(where + ": key 'dtype' is " + show(*dtype) + ", expected a string");
  tensor.dtypeName = dtype->get_ref<const std::string &>();
  const Type *type = findType(tensor.dtypeName);
  if (!type)
    return dataLoss(where + ": unknown dtype " + inQuotes(tensor.dtypeName));
  tensor.dtype = type->dtype;
  DISTC_TRY(unsignedList(info, "shape", where, tensor.shape));
  std::vector<uint64_t> offsets;
  DISTC_TRY(unsignedList(info, "data_offsets", where, offsets));
  if (offsets.size() != 2)
    return dataLoss(where + ": data_offsets has " + std::to_string(offsets.size()) + " elements, expected 2");

  auto [begin, end] = std::pair(offsets[0], offsets[1]);
  std::string range = "data_offsets " + std::to_string(begin) + ".." + std::to_string(end);
  if (begin > end)
    return dataLoss(where + ": " + range + ": the end lies before the begin");
  std::optional<uint64_t> elements = elementCount(tensor.shape);
  uint64_t bits = 0;
  std::string what = "shape " + showShape(tensor.shape) + " of " + type->name;
  if (!elements || __builtin_mul_overflow(*elements, type->bits, &bits))
    return dataLoss(where + ": " + what + " overflows");
  if (bits % 8 != 0)
    return dataLoss(where + ": " + what + " is not a whole number of bytes");
  if (bits / 8 != end - begin)
    return dataLoss(where + ": " + what + " takes " + std::to_string(bits / 8) + " bytes, " + range + " give " +
                    std::to_string(end - begin));
  if (end > dataBytes)
    return dataLoss(where + ": " + range + " end beyond the data of " + std::to_string(dataBytes) +
                    " bytes; the file is truncated or damaged");
  tensor.offset = begin;
  tensor.bytes = end - begin;
  return tensor;
}

struct Shard {
  FileEntry file;
  std::vector<TensorEntry> tensors; // by name
};

Result<Shard> readShard(const std::string &path) {
  DISTC_ASSIGN(MappedFile mapped, MappedFile::open(path));
  Shard shard;
  shard.file.path = path;
  shard.file.size = mapped.size();
  if (mapped.size() < kLengthBytes)
    return dataLoss(path + ": not a safetensors file: " + std::to_string(mapped.size()) +
                    " bytes, expected at least 8 for the length of the header");
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i)
    length |= std::to_integer<uint64_t>(mapped.bytes()[i]) << (8 * i);
  if (length > kMaxHeaderBytes)
    return dataLoss(path + ": header of " + std::to_string(length) + " bytes, expected at most " +
                    std::to_string(kMaxHeaderBytes) + "; not a safetensors file, or damaged");
  if (length > mapped.size() - kLengthBytes)
    return dataLoss(path + ": header of " + std::to_string(length) + " bytes in a file of " +
                    std::to_string(mapped.size()) + " bytes; truncated, or not a safetensors file");
  shard.file.headerBytes = kLengthBytes + length;
  auto header = mapped.bytes().first(shard.file.headerBytes);
  std::string_view text(reinterpret_cast<const char *>(header.data()) + kLengthBytes, length);
  if (text.empty() || text[0] != '{')
    return dataLoss(path + ": not a safetensors file: the header does not begin with '{'");
  DISTC_ASSIGN(Json json, parseJson(text, path + ": header"));
  shard.file.headerHash = hashBytes(header);

  uint64_t dataBytes = mapped.size() - shard.file.headerBytes;
  for (const auto &item : json.items()) {
    if (item.key() == "__metadata__") {
      if (!item.value().is_object())
        return dataLoss(path + ": key '__metadata__' is " + show(item.value()) + ", expected an object");
      continue;
    }
    DISTC_ASSIGN(TensorEntry tensor, readTensor(item.key(), item.value(), dataBytes, path));
    tensor.offset += shard.file.headerBytes;
    shard.tensors.push_back(std::move(tensor));
  }
  return shard;
}

/// Moves a shard into the index; `hole` as checkLayout's.
Status addShard(CheckpointIndex &index, Shard shard, Status &hole) {
  std::vector<const TensorEntry *> layout;
  auto number = static_cast<uint32_t>(index.files.size());
  for (TensorEntry &tensor : shard.tensors) {
    tensor.file = number;
    std::string name = tensor.name;
    auto [slot, inserted] = index.tensors.emplace(std::move(name), std::move(tensor));
    if (!inserted)
      return dataLoss(shard.file.path + ": tensor " + inQuotes(slot->first) + " is also in " +
                      index.files[slot->second.file].path);
    layout.push_back(&slot->second);
  }
  DISTC_TRY(checkLayout(shard.file, shard.file.headerBytes, 1, std::move(layout), hole));
  index.files.push_back(std::move(shard.file));
  return {};
}

/// The shard that each tensor is in, from model.safetensors.index.json.
Result<std::map<std::string, std::string>> readWeightMap(const std::string &path) {
  DISTC_ASSIGN(Json json, parseJsonFile(path));
  if (!json.is_object())
    return dataLoss(path + ": is " + kindOf(json) + ", expected an object");
  auto weightMap = json.find("weight_map");
  if (weightMap == json.end())
    return dataLoss(path + ": has no key 'weight_map'");
  if (!weightMap->is_object())
    return dataLoss(path + ": key 'weight_map' is " + show(*weightMap) + ", expected an object");
  std::map<std::string, std::string> shardOf;
  for (const auto &item : weightMap->items()) {
    std::string where = path + ": weight_map, tensor " + inQuotes(item.key());
    if (!item.value().is_string())
      return dataLoss(where + ": is " + show(item.value()) + ", expected the name of a shard");
    const std::string &shard = item.value().get_ref<const std::string &>();
    // A shard stands beside its index: an index must not make us read any other file.
    if (shard.empty() || shard == "." || shard == ".." ||
        shard.find_first_of(std::string_view("/\\\0", 3)) != shard.npos)
      return dataLoss(where + ": shard " + inQuotes(shard) + " is not a plain file name");
    shardOf.emplace(item.key(), shard);
  }
  return shardOf;
}

Result<CheckpointIndex> readIndexed(const std::filesystem::path &directory, const std::string &indexPath,
                                    Status &hole) {
  DISTC_ASSIGN(auto shardOf, readWeightMap(indexPath));
  std::set<std::string> shards;
  for (const auto &[tensor, shard] : shardOf)
    shards.insert(shard);
  CheckpointIndex index;
  std::map<std::string, uint32_t> numberOf;
  for (const std::string &name : shards) {
    std::string path = (directory / name).string();
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored))
      return failedPrecondition(path + ": no such file, but " + indexPath + " names it; download the shard");
    DISTC_ASSIGN(Shard shard, readShard(path));
    numberOf[name] = static_cast<uint32_t>(index.files.size());
    DISTC_TRY(addShard(index, std::move(shard), hole));
  }
  for (const auto &[name, shard] : shardOf) {
    const TensorEntry *tensor = index.find(name);
    if (tensor && tensor->file == numberOf[shard])
      continue;
    std::string elsewhere = tensor ? "; it is in " + index.files[tensor->file].path : "";
    return dataLoss(index.files[numberOf[shard]].path + ": has no tensor " + inQuotes(name) + ", but " + indexPath +
                    " says so" + elsewhere);
  }
  return index;
}

} // namespace

Result<CheckpointIndex> readSafetensors(const std::string &path, Status *hole) {
  CheckpointIndex index;
  Status found;
  DISTC_ASSIGN(Shard shard, readShard(path));
  DISTC_TRY(addShard(index, std::move(shard), found));
  if (hole)
    *hole = found;
  else
    DISTC_TRY(found);
  return index;
}

Result<CheckpointIndex> readSafetensorsFolder(const std::string &directory, Status *hole) {
  std::filesystem::path folder(directory);
  std::string single = (folder / "model.safetensors").string();
  std::string indexPath = (folder / "model.safetensors.index.json").string();
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored))
    return failedPrecondition(directory + ": not a folder");
  if (std::filesystem::exists(single, ignored))
    return readSafetensors(single, hole);
  if (!std::filesystem::exists(indexPath, ignored))
    return failedPrecondition(directory + ": holds neither model.safetensors nor model.safetensors.index.json");
  Status found;
  DISTC_ASSIGN(CheckpointIndex index, readIndexed(folder, indexPath, found));
  if (hole)
    *hole = found;
  else
    DISTC_TRY(found);
  return index;
}

} // namespace distc::import
