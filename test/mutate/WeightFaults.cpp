// Faults in what the ranks take from the checkpoint.
#include "test/mutate/Faults.h"

#include <algorithm>

namespace distc::mutate {

namespace {

struct Place {
  size_t rank = 0;
  plan::WeightT *weight = nullptr;
  plan::WeightSourceT *source = nullptr;
  size_t sourceIndex = 0, dim = 0;
  std::vector<plan::Segment> &segments() const { return source->dims[dim]->segments; }
  std::string text() const {
    return "rank " + std::to_string(rank) + ", weight '" + weight->name + "', source " + std::to_string(sourceIndex) +
           ", dimension " + std::to_string(dim);
  }
};

Place anySlice(Plans &plans, Random &random) {
  Place at;
  at.rank = random.below(plans.size());
  at.weight = random.pick(plans[at.rank]->weights).get();
  at.sourceIndex = random.below(at.weight->sources.size());
  at.source = at.weight->sources[at.sourceIndex].get();
  at.dim = random.below(at.source->dims.size());
  return at;
}

bool isZero(const plan::Segment &segment) { return segment.begin() == kZeroFill; }

/// The first number in the name of a tensor.
int layerOf(const std::string &tensor) {
  const size_t at = tensor.find_first_of("0123456789");
  return at == std::string::npos ? -1 : std::atoi(tensor.c_str() + at);
}

plan::WeightT *named(plan::PlanT &plan, const std::string &name) {
  for (auto &weight : plan.weights)
    if (weight->name == name)
      return weight.get();
  return nullptr;
}

/// The same weight on the ranks of the stage; or on the one alone.
std::vector<plan::WeightT *> onStage(Plans &plans, size_t rank, const std::string &name, bool all) {
  std::vector<plan::WeightT *> list;
  for (size_t r = 0; r < plans.size(); ++r)
    if (r == rank || (all && plans[r]->mesh->stage == plans[rank]->mesh->stage))
      if (plan::WeightT *weight = named(*plans[r], name))
        list.push_back(weight);
  return list;
}

std::string dropSlice(Plans &plans, Random &random) {
  const Place at = anySlice(plans, random);
  auto &segments = at.segments();
  const size_t s = random.below(segments.size());
  const uint64_t count = segments[s].count(), lost = random.chance(50) ? count : 1 + random.below(count);
  const bool zeros = random.chance(70); // so that the shape stays
  if (lost == count && zeros)
    segments[s] = {kZeroFill, count};
  else if (lost == count)
    segments.erase(segments.begin() + static_cast<std::ptrdiff_t>(s));
  else {
    segments[s] = {segments[s].begin(), count - lost};
    if (zeros)
      segments.insert(segments.begin() + static_cast<std::ptrdiff_t>(s) + 1, plan::Segment(kZeroFill, lost));
  }
  return at.text();
}

std::string doubleSlice(Plans &plans, Random &random) {
  const Place at = anySlice(plans, random);
  auto &segments = at.segments();
  const plan::Segment other = random.pick(segments);
  if (random.chance(50)) { // what another rank of the stage holds too
    plan::WeightT *twin = named(*random.pick(plans), at.weight->name);
    if (!twin || twin == at.weight || twin->sources.size() <= at.sourceIndex)
      return {};
    at.source->dims[at.dim]->segments = twin->sources[at.sourceIndex]->dims[at.dim]->segments;
    return at.text();
  }
  if (segments.size() > 1)
    random.pick(segments) = other;
  else
    segments.push_back(other);
  return at.text();
}

std::string shiftSlice(Plans &plans, Random &random) {
  const Place at = anySlice(plans, random);
  const uint64_t by = random.chance(70) ? 1 : 1 + random.below(16), sign = random.below(2);
  const bool all = random.chance(30);
  for (plan::WeightT *weight : onStage(plans, at.rank, at.weight->name, all)) {
    if (weight->sources.size() <= at.sourceIndex)
      continue;
    plan::Segment &segment = weight->sources[at.sourceIndex]->dims[at.dim]->segments[0];
    if (!isZero(segment))
      segment = {sign ? segment.begin() + by : segment.begin() - by, segment.count()};
  }
  return at.text();
}

std::string swapSlices(Plans &plans, Random &random) {
  const Place at = anySlice(plans, random);
  auto &segments = at.segments();
  switch (random.below(3)) {
  case 0: // two ranks
    if (plan::WeightT *twin = named(*random.pick(plans), at.weight->name);
        twin && twin->sources.size() == at.weight->sources.size()) {
      std::swap(at.weight->sources, twin->sources);
      return at.text();
    }
    return {};
  case 1: // the order on one
    if (segments.size() == 1) {
      const plan::Segment old = segments[0];
      if (old.count() < 2)
        return {};
      const uint64_t half = 1 + random.below(old.count() - 1);
      if (isZero(old))
        return {};
      segments = {{old.begin() + half, old.count() - half}, {old.begin(), half}};
    } else {
      std::swap(random.pick(segments), random.pick(segments));
    }
    return at.text();
  default: // two weights of one rank
    plan::WeightT &other = *random.pick(plans[at.rank]->weights);
    if (other.shape != at.weight->shape || other.placement != at.weight->placement)
      return {};
    std::swap(at.weight->sources, other.sources);
    return at.text() + " with '" + other.name + "'";
  }
}

std::string moveZeros(Plans &plans, Random &random) {
  std::vector<Place> places;
  for (size_t r = 0; r < plans.size(); ++r)
    for (auto &weight : plans[r]->weights)
      for (size_t s = 0; s < weight->sources.size(); ++s)
        for (size_t d = 0; d < weight->sources[s]->dims.size(); ++d) {
          Place at{r, weight.get(), weight->sources[s].get(), s, d};
          if (std::any_of(at.segments().begin(), at.segments().end(), isZero))
            places.push_back(at);
        }
  if (places.empty())
    return {};
  const Place &at = random.pick(places);
  auto &segments = at.segments();
  const size_t zero = static_cast<size_t>(std::find_if(segments.begin(), segments.end(), isZero) - segments.begin());
  const size_t other = random.below(segments.size());
  if (other == zero) { // of another length: before, or in place of, what is held
    const uint64_t count = segments[zero].count();
    segments[zero] = {kZeroFill, random.chance(50) && count > 1 ? count - 1 : count + 1};
  } else if (random.chance(50)) {
    std::swap(segments[zero], segments[other]);
  } else if (segments[other].count() > 1) { // one more zero, one less of the tensor
    segments[zero] = {kZeroFill, segments[zero].count() + 1};
    segments[other] = {segments[other].begin(), segments[other].count() - 1};
  }
  return at.text();
}

/// Another tensor of the same shape: of another layer, or another of the same.
std::string otherTensor(Plans &plans, Random &random) {
  const Place at = anySlice(plans, random);
  const auto &tensors = plans[at.rank]->tensors;
  const plan::SourceTensorT &old = *tensors[at.source->tensor];
  std::vector<const plan::SourceTensorT *> alike;
  for (const auto &tensor : tensors)
    if (tensor.get() != &old && tensor->shape == old.shape && tensor->dtype == old.dtype)
      alike.push_back(tensor.get());
  if (alike.empty())
    return {};
  const std::string name = random.pick(alike)->name;
  const bool all = random.chance(60), both = random.chance(50);
  std::string from = old.name;
  if (both && (all || plans[0]->mesh->tp == 1) && layerOf(name) == layerOf(from))
    return {}; // which is the key's and which the value's projection, only the checkpoint knows
  for (size_t r = 0; r < plans.size(); ++r) {
    if (r != at.rank && !(all && plans[r]->mesh->stage == plans[at.rank]->mesh->stage))
      continue;
    auto &table = plans[r]->tensors;
    const auto find = [&](const std::string &wanted) {
      return static_cast<uint32_t>(
          std::find_if(table.begin(), table.end(), [&](auto &tensor) { return tensor->name == wanted; }) -
          table.begin());
    };
    const uint32_t a = find(from), b = find(name);
    if (a == table.size() || b == table.size())
      continue;
    for (auto &weight : plans[r]->weights)
      for (auto &source : weight->sources) {
        if (source->tensor == a && (both || weight->name == at.weight->name))
          source->tensor = b;
        else if (source->tensor == b && both)
          source->tensor = a;
      }
  }
  return at.text() + ": '" + name + "' for '" + from + "'" + (both ? " and back" : "") + (all ? ", stage" : "");
}

std::string swapNames(Plans &plans, Random &random) {
  const size_t rank = random.below(plans.size());
  const bool all = random.chance(60);
  plan::WeightT &a = *random.pick(plans[rank]->weights), &b = *random.pick(plans[rank]->weights);
  if (&a == &b || a.shape != b.shape || a.dtype != b.dtype)
    return {};
  const std::string one = a.name, two = b.name;
  for (plan::WeightT *weight : onStage(plans, rank, one, all))
    weight->name = "?";
  for (plan::WeightT *weight : onStage(plans, rank, two, all))
    weight->name = one;
  for (plan::WeightT *weight : onStage(plans, rank, "?", all))
    weight->name = two;
  return "rank " + std::to_string(rank) + (all ? " and its stage" : "") + ": '" + one + "' and '" + two + "'";
}

std::string otherDeclaration(Plans &plans, Random &random) {
  const size_t rank = random.below(plans.size());
  const plan::WeightT &weight = *random.pick(plans[rank]->weights);
  const std::string name = weight.name;
  const unsigned what = static_cast<unsigned>(random.below(4));
  const bool all = what != 1 && random.chance(50); // a type that all ranks agree on is a choice
  if (what == 1 && plans[0]->mesh->tp == 1)
    return {};
  const size_t d = random.below(weight.shape.size());
  for (plan::WeightT *each : onStage(plans, rank, name, all)) {
    if (what == 0)
      each->copies = each->copies == 1 ? static_cast<uint32_t>(plans.size()) : 1;
    else if (what == 1)
      each->dtype = each->dtype == plan::DType::F32 ? plan::DType::BF16 : plan::DType::F32;
    else if (what == 2)
      std::reverse(each->shape.begin(), each->shape.end());
    else if (each->shape.size() > 1 && each->shape[d] % 2 == 0) {
      each->shape[d] /= 2;
      each->shape[(d + 1) % each->shape.size()] *= 2;
    }
  }
  return "rank " + std::to_string(rank) + (all ? " and its stage" : "") + ": '" + name + "'";
}

} // namespace

std::vector<FaultKind> weightFaults() {
  return {
      {"slice dropped, or zeros instead", dropSlice, {}},
      {"slice doubled", doubleSlice, {}},
      {"slice shifted", shiftSlice, {}},
      {"slices swapped", swapSlices, {}},
      {"zeros moved", moveZeros, {}},
      {"another tensor of the shape", otherTensor, {}},
      {"names of weights swapped", swapNames, {}},
      {"copies, dtype or shape of a weight", otherDeclaration, {}},
  };
}

} // namespace distc::mutate
