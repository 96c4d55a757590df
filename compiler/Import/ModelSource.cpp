#include "compiler/Import/ModelSource.h"

#include "compiler/Import/Layout.h"
#include "runtime/schema/PlanFile.h"

#include <algorithm>
#include <filesystem>

namespace distc::import {

namespace fs = std::filesystem;

namespace {

// Of all heads together, as of every other dimension.
constexpr int64_t kMaxWidth = int64_t(1) << 24;
// Of all layers together: each has tensors of its own.
constexpr int64_t kMaxExperts = int64_t(1) << 17;

constexpr std::string_view kLayerMark = "{layer}", kExpertMark = "{expert}";

std::string list(const std::vector<std::string> &names) {
  std::string text;
  for (const std::string &name : names)
    text += (text.empty() ? "" : ", ") + name;
  return text;
}

Status openGguf(const std::string &model, ModelSource &source) {
  DISTC_ASSIGN(GgufFile file, readGguf(model, &source.hole));
  source.format = Format::Gguf;
  source.metadata = std::move(file.metadata);
  source.index = std::move(file.index);
  DISTC_ASSIGN(GgufConfig config, GgufConfig::open(source.metadata, model));
  DISTC_ASSIGN(source.family, findFamily(Format::Gguf, config.architecture(), config, model));
  source.config = std::make_unique<GgufConfig>(std::move(config));
  DISTC_ASSIGN(source.tokenizer, importGgufTokenizer(source.metadata, model));
  return {};
}

// The architecture names the family; a configuration that was made by hand may have model_type alone.
Status recognize(HfConfig config, ModelSource &source) {
  DISTC_ASSIGN(std::optional<Json> architectures, config.value("architectures"));
  std::string architecture;
  if (architectures) {
    if (!architectures->is_array() || architectures->size() != 1 || !(*architectures)[0].is_string())
      return invalidArgument(config.where("architectures") + ": expected a list of one name, got " +
                             architectures->dump());
    architecture = (*architectures)[0].get<std::string>();
  } else {
    DISTC_ASSIGN(std::optional<std::string> type, config.string("model_type"));
    if (!type)
      return invalidArgument(config.where("architectures") + " is missing");
    architecture = *type;
    for (const Family &family : families())
      if (family.name == *type)
        architecture = family.hf.front();
  }
  DISTC_ASSIGN(source.family, findFamily(Format::HuggingFace, architecture, config, config.path()));
  DISTC_ASSIGN(std::optional<Json> quantization, config.value("quantization_config"));
  if (quantization)
    return invalidArgument(config.where("quantization_config") +
                           ": quantized checkpoints are supported as GGUF; from Hugging Face folders F32, F16 and BF16 "
                           "are");
  source.config = std::make_unique<HfConfig>(std::move(config));
  return {};
}

Status openFolder(const std::string &model, ModelSource &source) {
  DISTC_ASSIGN(HfConfig config, HfConfig::open(model));
  DISTC_TRY(recognize(std::move(config), source));
  if (source.weights) {
    DISTC_ASSIGN(source.index, readSafetensorsFolder(model, &source.hole));
  }
  DISTC_ASSIGN(source.tokenizer, importHfTokenizer(model));
  return {};
}

Status openShape(std::string_view text, ModelSource &source) {
  DISTC_ASSIGN(HfConfig config, HfConfig::parse(text, source.path));
  return recognize(std::move(config), source);
}

Status readDtype(ModelSource &source) {
  std::string key = "dtype";
  DISTC_ASSIGN(std::optional<std::string> name, source.config->string(key));
  if (!name) {
    key = "torch_dtype";
    DISTC_ASSIGN(name, source.config->string(key));
  }
  if (!name || *name == "bfloat16")
    source.dtype = plan::DType::BF16;
  else if (*name == "float16")
    source.dtype = plan::DType::F16;
  else if (*name == "float32")
    source.dtype = plan::DType::F32;
  else
    return invalidArgument(source.config->where(key) + ": '" + *name +
                           "' is not supported; supported are float32, float16, bfloat16");
  source.matrixTypes.insert(*source.dtype);
  return {};
}

const std::string &namePattern(const ModelSource &source, const WeightRule &rule) {
  return source.format == Format::HuggingFace ? rule.hf : rule.gguf;
}

std::string tensorName(const ModelSource &source, const WeightRule &rule, int64_t layer, int64_t expert = 0) {
  std::string name = namePattern(source, rule);
  for (auto [number, mark] : {std::pair(layer, kLayerMark), std::pair(expert, kExpertMark)})
    if (size_t at = name.find(mark); at != std::string::npos)
      name.replace(at, mark.size(), std::to_string(number));
  const std::string &prefix = source.family->hfPrefix;
  if (source.format == Format::HuggingFace && !prefix.empty() && name.starts_with(prefix) &&
      source.index.find(name.substr(prefix.size())) && !source.index.find(name))
    name.erase(0, prefix.size());
  return name;
}

// The dimensions of a weight's tensor, in the order in which it lies.
struct TensorDim {
  uint64_t size = 1;
  std::string origin; // what the configuration says of it: "num_attention_heads (8) × head_dim (16)"
};
std::vector<TensorDim> tensorDims(const ModelSource &source, const WeightRule &rule) {
  auto originOf = [&](const std::string &name) {
    auto origin = source.values.origin.find(name);
    return (origin == source.values.origin.end() ? name : origin->second) + " (" +
           std::to_string(source.values.integers.at(name)) + ")";
  };
  const WeightLayout layout = weightLayout(source, rule);
  std::vector<TensorDim> dims;
  size_t at = 0;
  for (const std::vector<std::string> &group : rule.shape) {
    TensorDim &dim = dims.emplace_back();
    for (const std::string &name : group) {
      dim.origin += dim.origin.empty() ? "" : " × ";
      if (at == 0 && !rule.of.empty())
        for (size_t i = 0; i < rule.of.size(); ++i)
          dim.origin += (i == 0 ? "(" : " + ") + originOf(rule.of[i]) + (i + 1 == rule.of.size() ? ")" : "");
      else
        dim.origin += originOf(name);
      dim.size *= static_cast<uint64_t>(layout.view[at++]);
    }
  }
  if (layout.transposed != 0)
    std::swap(dims[0], dims[1]);
  if (isStacked(source, rule))
    dims.erase(dims.begin());
  return dims;
}

// The tensor of a weight, or one of those that are stacked.
Result<TensorEntry> findTensor(const ModelSource &source, const WeightRule &rule, int64_t layer, int64_t expert) {
  std::string name = tensorName(source, rule, layer, expert);
  const std::vector<TensorDim> dims = tensorDims(source, rule);
  std::vector<uint64_t> expected;
  for (const TensorDim &dim : dims)
    expected.push_back(dim.size);
  if (!source.weights) {
    TensorEntry made;
    made.name = name;
    made.dtype = source.dtype;
    made.shape = expected;
    made.bytes = dtypeBytes(*made.dtype);
    for (uint64_t size : expected)
      made.bytes *= size;
    return made;
  }
  const TensorEntry *tensor = source.index.find(name);
  if (!tensor)
    return dataLoss(source.path + ": tensor '" + name + "' is missing: family " + source.family->name +
                    " expects it with shape " + showShape(expected));
  const std::string &file = source.index.files[tensor->file].path;
  if (tensor->shape.size() != expected.size())
    return dataLoss(file + ": tensor '" + name + "' has shape " + showShape(tensor->shape) + ", expected " +
                    showShape(expected));
  for (size_t dim = 0; dim < expected.size(); ++dim)
    if (tensor->shape[dim] != expected[dim])
      return dataLoss(file + ": tensor '" + name + "' has shape " + showShape(tensor->shape) + ", expected " +
                      showShape(expected) + ": dimension " + std::to_string(dim) + " contradicts " + dims[dim].origin);
  if (!tensor->dtype || *tensor->dtype == plan::DType::I32)
    return dataLoss(file + ": tensor '" + name + "' is " + tensor->dtypeName +
                    ", which is not supported; supported are F32, F16, BF16, and in GGUF Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, "
                    "Q2_K, Q3_K, Q4_K, Q5_K, Q6_K");
  return *tensor;
}

// A tensor that the model, as configured, would leave out: then the configuration is not this checkpoint's.
Status checkUnused(const ModelSource &source, const WeightRule &rule, int64_t layer, const std::string &value,
                   const std::string &is) {
  const TensorEntry *tensor = source.index.find(tensorName(source, rule, layer));
  if (!tensor)
    return {};
  auto origin = source.values.origin.find(value);
  return dataLoss(source.index.files[tensor->file].path + ": tensor '" + tensor->name + "' contradicts " +
                  (origin == source.values.origin.end() ? value : origin->second) + ", which is " + is);
}

// Every tensor of the model is there as the configuration says, before anything is sized by the configuration alone.
Status checkTensors(ModelSource &source) {
  const ModelValues &values = source.values;
  const int64_t layers = values.integers.at("layers");
  auto check = [&](const WeightRule &rule, int64_t layer) -> Status {
    if (!rule.condition.empty() && !values.boolean(rule.condition, layer))
      return checkUnused(source, rule, layer, rule.condition, "false");
    if (rule.sameAs.empty() || !values.booleans.at(rule.sameIf)) {
      DISTC_ASSIGN(const std::vector<TensorEntry> tensors, findTensors(source, rule, layer));
      for (const TensorEntry &tensor : tensors)
        if (tensor.shape.size() > 1)
          source.matrixTypes.insert(*tensor.dtype);
    }
    return {};
  };
  for (const auto &[name, rule] : source.family->weights)
    DISTC_TRY(check(rule, -1));
  for (int64_t layer = 0; layer < layers; ++layer)
    for (const auto &[name, rule] : source.family->layerWeights)
      DISTC_TRY(check(rule, layer));
  for (const auto &[name, rule] : source.family->layerWeights)
    DISTC_TRY(checkUnused(source, rule, layers, "layers", std::to_string(layers)));
  // Only now: a missing tensor is a better error than the hole that it leaves.
  return source.hole;
}

} // namespace

Result<std::unique_ptr<ModelSource>> openModel(const std::string &model, bool weights) {
  auto source = std::make_unique<ModelSource>();
  source->path = model;
  source->weights = weights;
  std::error_code ignored;
  fs::path path = fs::path(model).lexically_normal();
  if (!path.has_filename())
    path = path.parent_path();
  source->name = path.stem().string();
  if (fs::is_directory(path, ignored)) {
    source->name = path.filename().string();
    DISTC_TRY(openFolder(model, *source));
  } else if (fs::exists(path, ignored)) {
    DISTC_TRY(openGguf(model, *source));
  } else if (const std::string_view *shape = findShape(model)) {
    source->name = model;
    source->path = "models/shapes/" + model + ".json";
    if (weights)
      return invalidArgument("'" + model +
                             "' is the shape of a model, without weights: add --weights none, or name the "
                             "folder that holds the checkpoint");
    DISTC_TRY(openShape(*shape, *source));
  } else {
    return invalidArgument("'" + model +
                           "' is neither a folder with a config.json, nor a .gguf file, nor a known shape (" +
                           list(shapeNames()) + ")");
  }
  DISTC_ASSIGN(source->values, readValues(*source->family, source->format, *source->config, source->index));
  const std::map<std::string, int64_t> &values = source->values.integers;
  if (values.at("heads") % values.at("kv_heads") != 0)
    return invalidArgument(source->values.origin["heads"] + " is " + std::to_string(values.at("heads")) +
                           ", expected a multiple of " + source->values.origin["kv_heads"] + ", " +
                           std::to_string(values.at("kv_heads")));
  if (const int64_t width = values.at("heads") * values.at("head_dim"); width > kMaxWidth)
    return invalidArgument(source->values.origin["heads"] + " × " + source->values.origin["head_dim"] + " is " +
                           std::to_string(width) + ", expected at most " + std::to_string(kMaxWidth));
  if (auto experts = values.find("experts");
      experts != values.end() && experts->second * values.at("layers") > kMaxExperts)
    return invalidArgument(source->values.origin["layers"] + " × " + source->values.origin["experts"] + " is " +
                           std::to_string(experts->second * values.at("layers")) + ", expected at most " +
                           std::to_string(kMaxExperts));
  if (values.at("head_dim") % 2 != 0)
    return invalidArgument(source->values.origin["head_dim"] + " is " + std::to_string(values.at("head_dim")) +
                           ", expected an even number: rotary embedding turns pairs");
  if (weights)
    DISTC_TRY(checkTensors(*source));
  else
    DISTC_TRY(readDtype(*source));
  DISTC_ASSIGN(source->rope, ropeFrequencies(source->format, *source->config, source->index, values.at("head_dim"),
                                             values.at("context")));
  return source;
}

bool hasLearnedPositions(const ModelSource &source) {
  return std::any_of(source.family->weights.begin(), source.family->weights.end(), [](const auto &weight) {
    const auto &shape = weight.second.shape;
    return !shape.empty() && shape[0] == std::vector<std::string>{"context"};
  });
}

WeightLayout weightLayout(const ModelSource &source, const WeightRule &rule) {
  WeightLayout layout;
  for (const std::vector<std::string> &group : rule.shape)
    for (const std::string &name : group)
      layout.shape.push_back(source.values.integers.at(name));
  layout.view = layout.shape;
  for (size_t i = 0; i < rule.of.size(); ++i) {
    const int64_t size = source.values.integers.at(rule.of[i]);
    if (i < rule.part)
      layout.first += size;
    if (i != rule.part)
      layout.view[0] += size;
  }
  if (rule.hfTransposed && source.format == Format::HuggingFace)
    layout.transposed = rule.shape[0].size();
  return layout;
}

bool isStacked(const ModelSource &source, const WeightRule &rule) {
  return namePattern(source, rule).find(kExpertMark) != std::string::npos;
}

Result<std::vector<TensorEntry>> findTensors(const ModelSource &source, const WeightRule &rule, int64_t layer) {
  const int64_t count = isStacked(source, rule) ? weightLayout(source, rule).shape[0] : 1;
  std::vector<TensorEntry> tensors;
  for (int64_t expert = 0; expert < count; ++expert) {
    DISTC_ASSIGN(TensorEntry tensor, findTensor(source, rule, layer, expert));
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

} // namespace distc::import
