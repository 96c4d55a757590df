#include "compiler/Analysis/Machine.h"

#include "compiler/Import/EmbeddedModels.h"
#include "compiler/Import/Json.h"
#include "runtime/base/File.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>

namespace distc {

using import::Json;

double RateCurve::at(double x) const {
  if (points_.empty())
    return 0;
  const auto above = std::lower_bound(points_.begin(), points_.end(), x,
                                      [](const auto &point, double value) { return point.first < value; });
  if (above == points_.begin() || above == points_.end())
    return above == points_.end() ? points_.back().second : above->second;
  const auto below = above - 1;
  const double place = std::log(x / below->first) / std::log(above->first / below->first);
  return below->second * std::pow(above->second / below->second, place);
}

namespace {

std::string shown(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

// An object of the file: each key is read once, and what was not read is an unknown key.
class Section {
public:
  Section(const Json &json, std::string file, std::string path)
      : json_(json), file_(std::move(file)), path_(std::move(path)) {}

  Status isObject() const {
    return json_.is_object() ? Status() : bad(path_.empty() ? "the file" : place(""), "an object", &json_);
  }

  Status number(const char *key, double low, double high, double &out, double unit = 1) {
    const Json *value = find(key);
    const std::string range = "a number from " + shown(low) + " to " + shown(high);
    if (!value || !value->is_number())
      return bad(place(key), range, value);
    const double number = value->get<double>();
    if (!(number >= low && number <= high)) // nor a NaN
      return bad(place(key), range, value);
    out = number * unit;
    return {};
  }
  Status integer(const char *key, uint64_t low, uint64_t high, uint64_t &out) {
    const Json *value = find(key);
    const std::string range = "an integer from " + std::to_string(low) + " to " + std::to_string(high);
    if (!value || !value->is_number_unsigned() || value->get<uint64_t>() < low || value->get<uint64_t>() > high)
      return bad(place(key), range, value);
    out = value->get<uint64_t>();
    return {};
  }
  Status text(const char *key, std::string &out) {
    const Json *value = find(key);
    if (!value || !value->is_string() || value->get_ref<const std::string &>().empty())
      return bad(place(key), "a text that is not empty", value);
    out = value->get<std::string>();
    return {};
  }
  Result<Section> object(const char *key) {
    const Json *value = find(key);
    if (!value || !value->is_object())
      return bad(place(key), "an object", value);
    return Section(*value, file_, place(key));
  }
  /// The items of a list of at least one object.
  Result<std::vector<Section>> list(const char *key) {
    const Json *value = find(key);
    if (value && value->is_array() && value->empty())
      return badKey(key, "is an empty list, expected 1 to 64 objects");
    if (!value || !value->is_array() || value->size() > 64)
      return bad(place(key), "a list of 1 to 64 objects", value);
    std::vector<Section> items;
    for (size_t i = 0; i < value->size(); ++i) {
      items.emplace_back((*value)[i], file_, place(key) + "[" + std::to_string(i) + "]");
      DISTC_TRY(items.back().isObject());
    }
    return items;
  }
  Result<std::vector<std::string>> names(const char *key) {
    const Json *value = find(key);
    std::vector<std::string> result;
    if (value && value->is_array())
      for (const Json &item : *value)
        if (item.is_string())
          result.push_back(item.get<std::string>());
    if (!value || !value->is_array() || result.size() != value->size())
      return bad(place(key), "a list of texts", value);
    return result;
  }
  std::vector<std::string> keys() const {
    std::vector<std::string> result;
    for (const auto &[key, value] : json_.items())
      result.push_back(key);
    return result;
  }

  Status done() const {
    for (const auto &[key, value] : json_.items())
      if (!read_.contains(key)) {
        std::string known;
        for (const std::string &name : read_)
          known += (known.empty() ? "" : ", ") + name;
        return dataLoss(file_ + ": key " + import::inQuotes(path_.empty() ? key : path_ + "." + key) +
                        " is not known, expected " + known);
      }
    return {};
  }
  Status bad(const std::string &where, const std::string &expected, const Json *found) const {
    return dataLoss(file_ + ": " + where + (found ? " is " + import::show(*found) : " is missing") + ", expected " +
                    expected);
  }
  Status badKey(const std::string &key, const std::string &message) const {
    return dataLoss(file_ + ": " + place(key) + ": " + message);
  }

private:
  std::string place(const std::string &key) const {
    return path_.empty() || key.empty() ? path_ + key : path_ + "." + key;
  }
  const Json *find(const char *key) {
    read_.insert(key);
    const auto at = json_.find(key);
    return at == json_.end() ? nullptr : &*at;
  }

  const Json &json_;
  std::string file_, path_;
  std::set<std::string> read_;
};

constexpr double kGiga = 1e9, kMicro = 1e-6;
// Rates beyond any machine, and below any that would end: a unit was mistaken.
constexpr double kLeastRate = 1e-3, kMostGflops = 1e8, kMostGBs = 1e6, kMostMicroseconds = 1e6;

/// A point's place: larger than that of the point before it.
Status place(Section &item, const char *key, double unit, double &last) {
  double next = 0;
  DISTC_TRY(item.number(key, 1, 1 << 24, next, unit));
  if (next <= last)
    return item.badKey(key,
                       "is " + shown(next / unit) + ", expected more than the " + shown(last / unit) + " before it");
  last = next;
  return {};
}

/// `reached`: points of increasing tokens, with `key` times `unit`.
Result<RateCurve> curve(Section &section, const char *key, double high, double unit) {
  DISTC_ASSIGN(std::vector<Section> items, section.list("reached"));
  std::vector<std::pair<double, double>> points;
  double tokens = 0, rate = 0;
  for (Section &item : items) {
    DISTC_TRY(place(item, "tokens", 1, tokens));
    DISTC_TRY(item.number(key, 1e-6, high, rate, unit));
    DISTC_TRY(item.done());
    points.emplace_back(tokens, rate);
  }
  return RateCurve(std::move(points));
}

Status readMemory(Section &root, Machine &machine) {
  DISTC_ASSIGN(std::vector<Section> items, root.list("memory"));
  std::vector<std::pair<double, double>> all, one;
  double bytes = 0, rate = 0, coreRate = 0;
  for (Section &item : items) {
    DISTC_TRY(place(item, "megabytes", 1e6, bytes));
    DISTC_TRY(item.number("gb_per_s", kLeastRate, kMostGBs, rate, kGiga));
    DISTC_TRY(item.number("core_gb_per_s", kLeastRate, kMostGBs, coreRate, kGiga));
    DISTC_TRY(item.done());
    all.emplace_back(bytes, rate);
    one.emplace_back(bytes, coreRate);
  }
  machine.memory = RateCurve(std::move(all));
  machine.coreMemory = RateCurve(std::move(one));
  return {};
}

Status readMatrix(Section &root, Machine &machine) {
  DISTC_ASSIGN(Section matrix, root.object("matrix"));
  for (const std::string &key : matrix.keys()) {
    plan::DType type = plan::DType::I32;
    for (plan::DType each : {plan::DType::F32, plan::DType::F16, plan::DType::BF16})
      if (key == EnumNameDType(each))
        type = each;
    if (type == plan::DType::I32)
      return matrix.badKey(key, "is not a type of weights, expected F32, F16 or BF16");
    DISTC_ASSIGN(Section entry, matrix.object(key.c_str()));
    double peak = 0;
    DISTC_TRY(entry.number("peak_gflop_per_s", kLeastRate, kMostGflops, peak, kGiga));
    DISTC_ASSIGN(machine.matrix[type], curve(entry, "share", 1, peak));
    DISTC_TRY(entry.done());
  }
  if (machine.matrix.empty())
    return root.badKey("matrix", "has no type of weights, expected F32, F16 or BF16");
  return {};
}

Status readLinks(Section &root, Machine &machine) {
  DISTC_ASSIGN(std::vector<Section> items, root.list("links"));
  for (Section &item : items) {
    LinkTier link;
    double peak = 0, share = 0;
    DISTC_TRY(item.text("name", link.name));
    DISTC_TRY(item.integer("devices", 1, 1 << 24, link.devices));
    DISTC_TRY(item.number("latency_us", 0, kMostMicroseconds, link.latency, kMicro));
    DISTC_TRY(item.number("collective_us", 0, kMostMicroseconds, link.collective, kMicro));
    DISTC_TRY(item.number("gb_per_s", kLeastRate, kMostGBs, peak, kGiga));
    DISTC_TRY(item.number("share", 0.01, 1, share));
    DISTC_TRY(item.integer("short_bytes", 0, 1 << 30, link.shortBytes));
    DISTC_TRY(item.done());
    link.bandwidth = peak * share;
    if (!machine.links.empty() &&
        (link.devices <= machine.links.back().devices || link.devices % machine.links.back().devices != 0))
      return item.badKey("devices", "is " + std::to_string(link.devices) + ", expected a larger multiple of the " +
                                        std::to_string(machine.links.back().devices) + " of the link before it");
    machine.links.push_back(std::move(link));
  }
  return {};
}

Status readMachine(Section &root, Machine &m) {
  std::string kind;
  DISTC_TRY(root.text("name", m.name));
  DISTC_TRY(root.text("source", m.source));
  DISTC_TRY(root.text("kind", kind));
  if (kind != "cpu" && kind != "gpu")
    return root.badKey("kind", "is " + import::inQuotes(kind) + ", expected cpu or gpu");
  m.cpu = kind == "cpu";
  m.serial = !m.cpu; // how the CUDA backend runs a rank
  uint64_t cores = 0;
  DISTC_TRY(root.integer("cores", 1, 1 << 16, cores));
  m.cores = static_cast<uint32_t>(cores);
  DISTC_TRY(root.integer("memory_bytes", 1 << 20, uint64_t(1) << 50, m.memoryBytes));
  if (m.cpu) {
    DISTC_TRY(readMemory(root, m));
  } else {
    double peak = 0, share = 0;
    DISTC_TRY(root.number("memory_gb_per_s", kLeastRate, kMostGBs, peak, kGiga));
    DISTC_TRY(root.number("memory_share", 0.01, 1, share));
    m.memory = m.coreMemory = RateCurve({{1, peak * share}});
  }
  DISTC_TRY(readMatrix(root, m));
  DISTC_ASSIGN(Section attention, root.object("attention"));
  DISTC_TRY(attention.number("memory_share", 0.01, 1, m.attentionShare));
  DISTC_ASSIGN(m.attention, curve(attention, "gflop_per_s", kMostGflops, kGiga));
  DISTC_TRY(attention.done());
  DISTC_TRY(root.number("elementwise_gb_per_s", kLeastRate, kMostGBs, m.elementwise, kGiga));
  DISTC_TRY(root.number("activation_gelement_per_s", kLeastRate, kMostGBs, m.activation, kGiga));
  DISTC_TRY(root.number("instruction_us", 0, kMostMicroseconds, m.instruction, kMicro));
  DISTC_TRY(root.number("step_us", 0, kMostMicroseconds, m.step, kMicro));
  if (m.cpu) {
    DISTC_TRY(root.number("fork_us", 0, kMostMicroseconds, m.fork, kMicro));
  } else {
    DISTC_TRY(root.number("stage_us", 0, kMostMicroseconds, m.stage, kMicro));
    DISTC_ASSIGN(const std::vector<std::string> ops, root.names("fused_ops"));
    for (const std::string &name : ops) {
      const auto *begin = plan::EnumValuesOp(), *end = begin + size_t(plan::Op::MAX) + 1;
      const auto *op = std::find_if(begin, end, [&](plan::Op each) { return name == plan::EnumNameOp(each); });
      if (op == end || *op == plan::Op::NONE)
        return root.badKey("fused_ops", import::inQuotes(name) + " is not an instruction of a plan, such as Glu");
      m.fused.insert(*op);
    }
  }
  DISTC_TRY(readLinks(root, m));
  return root.done();
}

std::string knownNames() {
  std::string names;
  for (const import::EmbeddedFile &file : import::kEmbeddedMachines)
    names += (names.empty() ? "" : ", ") + std::string(file.name);
  return names;
}

} // namespace

Result<Machine> Machine::parse(std::string_view text, const std::string &file) {
  DISTC_ASSIGN(const Json json, import::parseJson(text, file));
  Section root(json, file, "");
  DISTC_TRY(root.isObject());
  Machine machine;
  DISTC_TRY(readMachine(root, machine));
  return machine;
}

Result<Machine> Machine::open(const std::string &nameOrPath) {
  for (const import::EmbeddedFile &file : import::kEmbeddedMachines)
    if (file.name == nameOrPath)
      return parse(file.text, "models/machines/" + nameOrPath + ".json");
  std::error_code error;
  if (!std::filesystem::is_regular_file(nameOrPath, error))
    return invalidArgument("--machine " + import::inQuotes(nameOrPath) +
                           " is neither a machine file nor a known machine (" + knownNames() + ")");
  DISTC_ASSIGN(const std::string text, readFile(nameOrPath));
  return parse(text, nameOrPath);
}

} // namespace distc
