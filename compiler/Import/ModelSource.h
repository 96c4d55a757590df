// A model as the compiler is given it: opened, recognized, its values read and checked. Plain C++; ModelBuilder makes
// IR.
#pragma once

#include "compiler/Import/Family.h"
#include "compiler/Import/RopeScaling.h"
#include "compiler/Import/TokenizerImport.h"

#include <memory>
#include <set>

namespace distc::import {

struct ModelSource {
  std::string name; // for people and for the default output folder
  std::string path; // folder, file, or "models/shapes/NAME.json"; leads errors
  Format format = Format::HuggingFace;
  bool weights = true;               // false: shapes alone, no files
  std::optional<plan::DType> dtype;  // without weights: that of all tensors
  std::set<plan::DType> matrixTypes; // of the tensors of more than one dimension that the model uses
  GgufMetadata metadata;
  CheckpointIndex index;
  Status hole; // bytes that no tensor covers; a missing tensor is the better error, so it is
               // reported after all tensors have been found
  std::unique_ptr<ConfigSource> config;
  const Family *family = nullptr;
  ModelValues values;
  RopeFrequencies rope;
  TokenizerBytes tokenizer;
};

/// `model`: a Hugging Face folder, a .gguf file, or a name from models/shapes (then `weights` must be false).
Result<std::unique_ptr<ModelSource>> openModel(const std::string &model, bool weights);

/// The tensors that are stacked along a weight's first dimension, in order; most weights are one tensor. Each is
/// checked against the shape that the configuration implies. `layer` -1: not in a layer. Without weights they are made
/// up.
Result<std::vector<TensorEntry>> findTensors(const ModelSource &source, const WeightRule &rule, int64_t layer);

/// Whether each index of the weight's first dimension is a tensor of its own.
bool isStacked(const ModelSource &source, const WeightRule &rule);

/// Whether the model has no more positions than it says: it has learned each.
bool hasLearnedPositions(const ModelSource &source);

/// How a weight lies in its tensor; sizes are flat, one for each name of its dimensions. It is elements [first, first +
/// shape[0]) of dimension 0 of `view`, whose first `transposed` dimensions come last in the tensor.
struct WeightLayout {
  std::vector<int64_t> shape, view;
  int64_t first = 0;
  size_t transposed = 0;
};
WeightLayout weightLayout(const ModelSource &source, const WeightRule &rule);

} // namespace distc::import
