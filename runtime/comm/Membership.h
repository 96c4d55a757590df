// The groups of one rank, and what every communicator checks of a call before it begins.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/comm/World.h"

#include <algorithm>

namespace distc {

inline std::vector<CommGroup> groupsOf(const plan::Plan &plan) {
  std::vector<CommGroup> groups;
  for (const plan::Group *group : *plan.groups())
    groups.push_back({group->name()->str(), {group->ranks()->begin(), group->ranks()->end()}});
  return groups;
}

class Memberships {
public:
  Memberships(uint32_t rank, std::vector<CommGroup> groups) : rank_(rank), groups_(std::move(groups)) {
    for (const CommGroup &group : groups_)
      members_.push_back(
          static_cast<uint32_t>(std::find(group.ranks.begin(), group.ranks.end(), rank) - group.ranks.begin()));
  }

  uint32_t rank() const { return rank_; }
  const std::vector<CommGroup> &all() const { return groups_; }
  const CommGroup &group(const CommCall &call) const { return groups_[call.group]; }
  uint32_t member(const CommCall &call) const { return members_[call.group]; }

  Status check(const CommCall &call, std::string_view op) const {
    if (call.group < groups_.size() && members_[call.group] < groups_[call.group].ranks.size())
      return {};
    return internal(describeCall(rank_, call, op, std::to_string(call.group)) + ": this rank is not in it");
  }

  /// All-gather and reduce-scatter: `part` elements of each member must reach as far as `whole`.
  Status checkCounts(const CommCall &call, std::string_view op, size_t part, size_t whole) const {
    DISTC_TRY(check(call, op));
    const size_t members = group(call).ranks.size();
    if ((whole + members - 1) / members <= part)
      return {};
    return internal(describeCall(rank_, call, op, group(call).name) + ": " + std::to_string(whole) +
                    " elements do not fit " + std::to_string(members) + " members with " + std::to_string(part) +
                    " each; compile the model again");
  }

  /// The rank behind a peer's index.
  Result<uint32_t> peer(const CommCall &call, std::string_view op, uint32_t peer) const {
    DISTC_TRY(check(call, op));
    const CommGroup &in = group(call);
    if (peer < in.ranks.size() && in.ranks[peer] != rank_)
      return in.ranks[peer];
    return internal(describeCall(rank_, call, op, in.name) + ": member " + std::to_string(peer) +
                    " is not another rank of it");
  }

private:
  uint32_t rank_;
  std::vector<CommGroup> groups_;
  std::vector<uint32_t> members_; // this rank's index in each group; its size where it is not in it
};

} // namespace distc
