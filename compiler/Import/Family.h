// A model family: the declarative description under models/families/ that turns a configuration and a set of tensors
// into a program. docs/adding-a-model-family.md explains the form.
#pragma once

#include "compiler/Import/CheckpointIndex.h"
#include "compiler/Import/ModelConfig.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace distc::import {

enum class Format { HuggingFace, Gguf };

/// The layers in which a value counts: from a list of the configuration with an entry for each layer, else by a rule.
struct LayerRule {
  std::vector<std::string> hf, gguf; // keys, the first that is there counts
  Json equals, otherwise;            // the entry of a layer in which it counts, and of one in which it does not
  Json fallback; // all (true) or none (false), those of another value, {"from": n} or {"every": n, "at": i}
};

/// Where a value of the configuration comes from, and of what kind it is.
struct ConfigRule {
  enum Kind { Integer, Number, Boolean, Activation } kind = Integer;
  std::vector<std::string> hf, gguf; // keys, the first that is there counts
  std::string ggufRowsOf;            // Integer: dimension 0 of this tensor
  std::string ggufWith, ggufWithout; // Boolean: whether this tensor is there / is not there
  Json fallback;                     // null: required; a string: another value's name, "a / b" or "a ^ b"
  Json ggufFallback;                 // instead of it in GGUF, where it is not null
  int64_t minimum = 1;
  std::string condition;           // Boolean value without which it is 0 or false; empty: none
  std::optional<LayerRule> layers; // the layers in which it counts, elsewhere it is 0 or false; none: in all
};

/// A weight: the tensor's name in each format, and its shape in named dimensions, grouped as the tensor's own
/// dimensions.
struct WeightRule {
  std::string hf, gguf; // "{layer}" stands for the layer's number
  std::vector<std::vector<std::string>> shape;
  std::vector<std::string>
      of; // what dimension 0 of the tensor is made of, if the weight is a part of it: `part` of them
  size_t part = 0;
  bool hfTransposed = false;  // a matrix that Hugging Face's tensor holds as [in, out]
  std::string condition;      // Boolean value that must be true for the weight to exist; empty: always
  std::string sameAs, sameIf; // another weight that it is, if that Boolean is true
  std::string init = "uniform";
};

/// `name = op(argument, …, option=value, …)`; arguments are names, or calls again.
struct Expression {
  std::string name; // of an op if `call`, else of a value, weight or configuration value
  bool call = false;
  std::vector<Expression> arguments;
  std::map<std::string, std::string> options; // names of configuration values
};
struct Statement {
  std::string result;
  Expression expression;
};

struct Refusal {
  std::string hf, gguf; // the key in each format; empty: none
  Json equals, unless;  // the value that is refused, or the only one that is not; both null: any is refused
  std::string because;
};

struct Family {
  std::string name;
  std::vector<std::string> hf, gguf; // architectures
  std::string hfPrefix;              // of tensor names, which a checkpoint may leave out
  std::string ggufIf;                // of families with one architecture in GGUF: the key, above 0, of this one's files
  std::map<std::string, ConfigRule> config;
  std::vector<Refusal> refusals;
  std::string hfRope, ggufRope; // "half" or "interleaved"
  std::map<std::string, WeightRule> weights, layerWeights;
  std::vector<Statement> begin, layer, end;
};

/// Reads a description, and what it is `like`; every error names it and what is wrong in it.
Result<Family> parseFamily(std::string_view text, const std::string &name);

/// All families that this program knows, in the order of their names.
const std::vector<Family> &families();

/// The family of an architecture; the error lists the supported ones.
Result<const Family *> findFamily(Format format, const std::string &architecture, const ConfigSource &config,
                                  const std::string &where);

/// The values of a family's configuration for one model, checked: integers in range, in the order of the names.
struct ModelValues {
  std::map<std::string, int64_t> integers;
  std::map<std::string, double> numbers;
  std::map<std::string, bool> booleans;
  std::map<std::string, std::string> activations;
  std::map<std::string, std::vector<bool>> layers; // of values that do not count in all layers: in which they do
  std::map<std::string, std::string> origin;       // "config.json: key 'hidden_size'", for errors

  bool counts(const std::string &name, int64_t layer) const {
    auto it = layers.find(name);
    return it == layers.end() || layer < 0 || it->second[static_cast<size_t>(layer)];
  }
  /// The value in a layer; layer -1: outside of the layers.
  int64_t integer(const std::string &name, int64_t layer) const { return counts(name, layer) ? integers.at(name) : 0; }
  bool boolean(const std::string &name, int64_t layer) const { return counts(name, layer) && booleans.at(name); }
};
Result<ModelValues> readValues(const Family &family, Format format, const ConfigSource &config,
                               const CheckpointIndex &index);

/// The JSON of a well-known model's shape under models/shapes/, or nothing; and all their names.
const std::string_view *findShape(const std::string &name);
std::vector<std::string> shapeNames();

} // namespace distc::import
