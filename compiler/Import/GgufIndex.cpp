#include "compiler/Import/CheckpointIndex.h"

#include "compiler/Import/GgmlTypes.h"
#include "compiler/Import/Json.h"
#include "compiler/Import/Layout.h"
#include "runtime/base/File.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace distc::import {

namespace {

static_assert(std::endian::native == std::endian::little, "the reader copies little-endian values as they are");

// Real headers, vocabularies of 256 thousand tokens included, take up to 20 MB. The bound keeps a hostile one from
// costing gigabytes: a byte of an array becomes 8 in memory.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr uint32_t kMaxDims = 4;
constexpr int64_t kDefaultAlignment = 32;
constexpr int64_t kMaxAlignment = 1 << 24; // padding is hashed with the header

// The format's numbers for the types of metadata values.
enum class ValueType : uint32_t { U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64 };

/// Bytes of a scalar in the file; of a string, its length field.
uint64_t valueBytes(ValueType type) {
  switch (type) {
  case ValueType::U8:
  case ValueType::I8:
  case ValueType::Bool:
    return 1;
  case ValueType::U16:
  case ValueType::I16:
    return 2;
  case ValueType::U32:
  case ValueType::I32:
  case ValueType::F32:
    return 4;
  default:
    return 8;
  }
}

class Reader {
public:
  Reader(const std::string &path, std::span<const std::byte> file)
      : path_(path), fileBytes_(file.size()), bytes_(file.first(std::min<uint64_t>(file.size(), kMaxHeaderBytes))) {}

  Result<GgufFile> read(Status &hole);

private:
  uint64_t left() const { return bytes_.size() - at_; }

  /// `what` is given as a function, since most reads succeed and need no text.
  template <typename What> Status need(uint64_t count, What what) const {
    if (count <= left())
      return {};
    if (bytes_.size() < fileBytes_)
      return dataLoss(path_ + ": the header is larger than " + std::to_string(kMaxHeaderBytes) + " bytes at " + what() +
                      "; damaged, or not a model");
    return dataLoss(path_ + ": " + what() + " at byte " + std::to_string(at_) + " takes " + std::to_string(count) +
                    " bytes, the file ends at " + std::to_string(fileBytes_) + "; truncated or damaged");
  }

  template <typename T> T take() {
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }

  template <typename T, typename What> Status number(T &value, What what) {
    DISTC_TRY(need(sizeof value, what));
    value = take<T>();
    return {};
  }

  template <typename What> Status string(std::string &value, What what) {
    uint64_t length = 0;
    DISTC_TRY(number(length, what));
    DISTC_TRY(need(length, what));
    value.assign(reinterpret_cast<const char *>(bytes_.data() + at_), length);
    at_ += length;
    return {};
  }

  Status frame(uint64_t &tensors, uint64_t &pairs);
  Status integerOf(ValueType type, int64_t &value, const std::string &key);
  double floatOf(ValueType type) { return type == ValueType::F32 ? double(take<float>()) : take<double>(); }
  Status value(const std::string &key, GgufValue &out);
  Status array(const std::string &key, GgufArray &out);
  Status pair(GgufMetadata &metadata);
  Status tensorInfo(uint64_t number, int64_t alignment, TensorEntry &tensor);

  const std::string &path_;
  uint64_t fileBytes_;
  std::span<const std::byte> bytes_;
  uint64_t at_ = 0;
};

bool isInteger(ValueType type) {
  return type != ValueType::F32 && type != ValueType::F64 && type != ValueType::String && type != ValueType::Array;
}

Status Reader::frame(uint64_t &tensors, uint64_t &pairs) {
  if (left() < 4 || std::memcmp(bytes_.data(), "GGUF", 4) != 0)
    return dataLoss(path_ + ": not a GGUF file: it begins with " +
                    inQuotes({reinterpret_cast<const char *>(bytes_.data()), std::min<size_t>(4, bytes_.size())}) +
                    ", expected 'GGUF'");
  at_ = 4;
  uint32_t version = 0;
  DISTC_TRY(number(version, [] { return std::string("the version"); }));
  // No version has its low half empty, unless its bytes are in the other order.
  if (version != 0 && (version & 0xffff) == 0)
    return dataLoss(path_ + ": big-endian GGUF, which is not supported; convert it to little-endian");
  if (version != 2 && version != 3)
    return dataLoss(path_ + ": GGUF version " + std::to_string(version) + ", expected 2 or 3");
  DISTC_TRY(number(tensors, [] { return std::string("the number of tensors"); }));
  DISTC_TRY(number(pairs, [] { return std::string("the number of metadata pairs"); }));
  // The least that one takes: name length, dims, type, offset | key length, type, value.
  struct {
    uint64_t count, least;
    const char *what;
  } const bounds[] = {{tensors, 24, "tensors"}, {pairs, 13, "metadata pairs"}};
  for (auto [count, least, what] : bounds)
    if (count > left() / least)
      return dataLoss(path_ + ": says that it has " + std::to_string(count) + " " + what + ", but a header of " +
                      std::to_string(bytes_.size()) + " bytes holds at most " + std::to_string(left() / least) +
                      "; truncated or damaged");
  return {};
}

/// A scalar that is known to be there.
Status Reader::integerOf(ValueType type, int64_t &value, const std::string &key) {
  switch (type) {
  case ValueType::U8:
    value = take<uint8_t>();
    break;
  case ValueType::I8:
    value = take<int8_t>();
    break;
  case ValueType::U16:
    value = take<uint16_t>();
    break;
  case ValueType::I16:
    value = take<int16_t>();
    break;
  case ValueType::U32:
    value = take<uint32_t>();
    break;
  case ValueType::I32:
    value = take<int32_t>();
    break;
  case ValueType::I64:
    value = take<int64_t>();
    break;
  case ValueType::Bool:
    value = take<uint8_t>();
    if (value > 1)
      return dataLoss(path_ + ": key " + inQuotes(key) + ": boolean of value " + std::to_string(value) +
                      ", expected 0 or 1");
    break;
  default: {
    auto wide = take<uint64_t>();
    value = static_cast<int64_t>(wide);
    if (value < 0)
      return dataLoss(path_ + ": key " + inQuotes(key) + ": " + std::to_string(wide) +
                      " is above the largest integer " + std::to_string(INT64_MAX));
  }
  }
  return {};
}

Status Reader::array(const std::string &key, GgufArray &out) {
  auto what = [&] { return "the array of key " + inQuotes(key); };
  uint32_t typeNumber = 0;
  uint64_t count = 0;
  DISTC_TRY(number(typeNumber, what));
  DISTC_TRY(number(count, what));
  auto type = static_cast<ValueType>(typeNumber);
  if (type == ValueType::Array)
    return dataLoss(path_ + ": key " + inQuotes(key) + ": an array of arrays, which is not supported");
  if (type > ValueType::F64)
    return dataLoss(path_ + ": key " + inQuotes(key) + ": array of unknown type " + std::to_string(typeNumber));
  if (count > left() / valueBytes(type))
    return dataLoss(path_ + ": key " + inQuotes(key) + ": array of " + std::to_string(count) + " elements, but " +
                    std::to_string(left()) + " bytes left hold at most " + std::to_string(left() / valueBytes(type)) +
                    "; truncated or damaged");
  if (type == ValueType::String) {
    std::vector<std::string> strings(count);
    for (std::string &element : strings)
      DISTC_TRY(string(element, [&] { return "a string of key " + inQuotes(key); }));
    out = std::move(strings);
  } else if (isInteger(type)) {
    std::vector<int64_t> integers(count);
    for (int64_t &element : integers)
      DISTC_TRY(integerOf(type, element, key));
    out = std::move(integers);
  } else {
    std::vector<double> floats(count);
    for (double &element : floats)
      element = floatOf(type);
    out = std::move(floats);
  }
  return {};
}

Status Reader::value(const std::string &key, GgufValue &out) {
  auto what = [&] { return "the value of key " + inQuotes(key); };
  uint32_t typeNumber = 0;
  DISTC_TRY(number(typeNumber, what));
  auto type = static_cast<ValueType>(typeNumber);
  if (type > ValueType::F64)
    return dataLoss(path_ + ": key " + inQuotes(key) + ": unknown type " + std::to_string(typeNumber));
  if (type == ValueType::Array)
    return array(key, out.emplace<GgufArray>());
  if (type == ValueType::String)
    return string(out.emplace<std::string>(), what);
  DISTC_TRY(need(valueBytes(type), what));
  if (!isInteger(type)) {
    out = floatOf(type);
    return {};
  }
  int64_t integer = 0;
  DISTC_TRY(integerOf(type, integer, key));
  if (type == ValueType::Bool)
    out = integer != 0;
  else
    out = integer;
  return {};
}

Status Reader::pair(GgufMetadata &metadata) {
  std::string key;
  DISTC_TRY(string(key, [] { return std::string("a metadata key"); }));
  auto [slot, inserted] = metadata.emplace(std::move(key), GgufValue());
  if (!inserted)
    return dataLoss(path_ + ": key " + inQuotes(slot->first) + " occurs twice");
  return value(slot->first, slot->second);
}

Status Reader::tensorInfo(uint64_t position, int64_t alignment, TensorEntry &tensor) {
  DISTC_TRY(string(tensor.name, [&] { return "the name of tensor number " + std::to_string(position); }));
  auto what = [&] { return "the description of tensor " + inQuotes(tensor.name); };
  std::string where = path_ + ": tensor " + inQuotes(tensor.name);
  uint32_t dims = 0;
  DISTC_TRY(number(dims, what));
  if (dims > kMaxDims)
    return dataLoss(where + ": " + std::to_string(dims) + " dimensions, expected at most " + std::to_string(kMaxDims));
  tensor.shape.resize(dims);
  for (uint64_t &dim : tensor.shape)
    DISTC_TRY(number(dim, what));
  uint64_t innermost = dims ? tensor.shape[0] : 1;
  std::reverse(tensor.shape.begin(), tensor.shape.end()); // the file has the innermost first
  uint32_t typeNumber = 0;
  DISTC_TRY(number(typeNumber, what));
  DISTC_TRY(number(tensor.offset, what));

  const GgmlType *type = findGgmlType(typeNumber);
  if (!type)
    return dataLoss(where + ": unknown type " + std::to_string(typeNumber) + " (removed from the format, or newer)");
  tensor.dtypeName = type->name;
  tensor.dtype = type->dtype;
  std::string shape = "shape " + showShape(tensor.shape) + " of " + type->name;
  if (innermost % type->block != 0)
    return dataLoss(where + ": " + shape + ": rows of " + std::to_string(innermost) +
                    " elements are not whole blocks of " + std::to_string(type->block));
  std::optional<uint64_t> elements = elementCount(tensor.shape);
  if (!elements || __builtin_mul_overflow(*elements / type->block, type->bytes, &tensor.bytes))
    return dataLoss(where + ": " + shape + " overflows");
  if (tensor.offset % static_cast<uint64_t>(alignment) != 0)
    return dataLoss(where + ": offset " + std::to_string(tensor.offset) + " is not a multiple of the alignment " +
                    std::to_string(alignment));
  return {};
}

/// general.alignment, or its default.
Result<int64_t> alignmentOf(const GgufMetadata &metadata, const std::string &path) {
  auto entry = metadata.find("general.alignment");
  if (entry == metadata.end())
    return kDefaultAlignment;
  const int64_t *value = std::get_if<int64_t>(&entry->second);
  if (!value || *value <= 0 || *value > kMaxAlignment || (*value & (*value - 1)) != 0)
    return dataLoss(path + ": key 'general.alignment' is " + (value ? std::to_string(*value) : "not an integer") +
                    ", expected a power of two, at most " + std::to_string(kMaxAlignment));
  return *value;
}

Status refuseSplit(const GgufMetadata &metadata, const std::string &path) {
  auto entry = metadata.find("split.count");
  const int64_t *parts = entry == metadata.end() ? nullptr : std::get_if<int64_t>(&entry->second);
  if (parts && *parts > 1)
    return failedPrecondition(path + ": one of " + std::to_string(*parts) +
                              " parts of a split GGUF file; merge the parts into one file first");
  return {};
}

Result<GgufFile> Reader::read(Status &hole) {
  uint64_t tensors = 0, pairs = 0;
  DISTC_TRY(frame(tensors, pairs));
  GgufFile file;
  for (uint64_t i = 0; i < pairs; ++i)
    DISTC_TRY(pair(file.metadata));
  DISTC_TRY(refuseSplit(file.metadata, path_));
  DISTC_ASSIGN(int64_t alignment, alignmentOf(file.metadata, path_));

  std::vector<const TensorEntry *> layout;
  for (uint64_t i = 0; i < tensors; ++i) {
    TensorEntry tensor;
    DISTC_TRY(tensorInfo(i, alignment, tensor));
    std::string name = tensor.name;
    auto [slot, inserted] = file.index.tensors.emplace(std::move(name), std::move(tensor));
    if (!inserted)
      return dataLoss(path_ + ": tensor " + inQuotes(slot->first) + " occurs twice");
    layout.push_back(&slot->second);
  }

  auto step = static_cast<uint64_t>(alignment);
  uint64_t dataStart = (at_ + step - 1) / step * step;
  uint64_t dataBytes = fileBytes_ - std::min(fileBytes_, dataStart);
  for (auto &[name, tensor] : file.index.tensors) {
    if (tensor.offset > dataBytes || tensor.bytes > dataBytes - tensor.offset)
      return dataLoss(path_ + ": tensor " + inQuotes(name) + ": " + std::to_string(tensor.bytes) + " bytes at offset " +
                      std::to_string(tensor.offset) + " end beyond the data of " + std::to_string(dataBytes) +
                      " bytes; the file is truncated or damaged");
    tensor.offset += dataStart;
  }
  FileEntry entry;
  entry.path = path_;
  entry.size = fileBytes_;
  // A file without tensors, a vocabulary alone, may end before the padding.
  entry.headerBytes = std::min(fileBytes_, dataStart);
  DISTC_TRY(checkLayout(entry, dataStart, step, std::move(layout), hole));
  file.index.files.push_back(std::move(entry));
  return file;
}

} // namespace

Result<GgufFile> readGguf(const std::string &path, Status *hole) {
  Status found;
  DISTC_ASSIGN(MappedFile mapped, MappedFile::open(path));
  DISTC_ASSIGN(GgufFile file, Reader(path, mapped.bytes()).read(found));
  FileEntry &entry = file.index.files.front();
  entry.headerHash = hashBytes(mapped.bytes().first(entry.headerBytes));
  if (hole)
    *hole = found;
  else
    DISTC_TRY(found);
  return file;
}

} // namespace distc::import
