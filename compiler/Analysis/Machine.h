// A machine as the cost model sees it: a device, or the cores of a host, and the links that join them. Read from
// models/machines or a file of the same form; docs/machines.md says what each key means.
#pragma once

#include "distc/Status.h"
#include "runtime/schema/plan_generated.h"

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace distc {

/// A rate that depends on the number of tokens, or of bytes: between its points on a straight line in logarithms,
/// outside of them that of the nearest.
class RateCurve {
public:
  RateCurve() = default;
  explicit RateCurve(std::vector<std::pair<double, double>> points) : points_(std::move(points)) {}
  double at(double x) const;

private:
  std::vector<std::pair<double, double>> points_; // x (increasing), per second
};

/// What joins `devices` consecutive devices: the smallest that holds all ranks of a group carries its messages.
struct LinkTier {
  std::string name;
  uint64_t devices = 1;
  double latency = 0;      // seconds from a send to its receive, of no bytes
  double collective = 0;   // seconds of a collective of no bytes
  double bandwidth = 0;    // bytes per second that are reached, in each direction
  uint64_t shortBytes = 0; // collectives of up to so many bytes of each member: everyone sends to everyone at once
};

/// Rates are of one device, on a CPU of one core unless said. Times are in seconds, rates per second.
struct Machine {
  bool cpu = false;
  std::string name, source;
  uint32_t cores = 1; // of the host; of a GPU its multiprocessors
  uint64_t memoryBytes = 0;
  // Bytes per second that are reached, by the bytes that a step reads again and again.
  RateCurve memory;                                      // of all cores together
  RateCurve coreMemory;                                  // of one core alone; of a GPU the same
  std::map<plan::DType, RateCurve> matrix;               // FLOP/s of products, by the type of the weight
  RateCurve attention;                                   // FLOP/s of scores and values, by the tokens of the step
  double attentionShare = 1;                             // of the memory's bandwidth, for reading the KV cache
  double elementwise = 0;                                // bytes per second of what reads and writes activations alone
  double activation = 0;                                 // elements per second of Glu
  double instruction = 0, stage = 0, fork = 0, step = 0; // overheads, each time
  std::set<plan::Op> fused;                              // cost nothing beside the product that they follow
  std::vector<LinkTier> links;                           // by growing number of devices
  bool serial = false;                                   // a rank's micro-batches are queued one behind the other

  /// The ranks' plans must be for this target.
  const char *target() const { return cpu ? "cpu" : "sm_90"; }
  /// A name of models/machines, or the path of a file. Errors name file and key, what is expected and what was found.
  static Result<Machine> open(const std::string &nameOrPath);
  static Result<Machine> parse(std::string_view text, const std::string &file);
};

} // namespace distc
