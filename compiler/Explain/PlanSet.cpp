#include "compiler/Explain/PlanSet.h"

#include "runtime/verify/Verify.h"

#include <filesystem>

namespace distc::explain {

std::vector<const plan::Plan *> PlanSet::stage(uint32_t stage) const {
  std::vector<const plan::Plan *> result;
  for (const plan::Plan *plan : plans)
    if (plan->mesh()->stage() == stage)
      result.push_back(plan);
  return result;
}

std::vector<const plan::Plan *> PlanSet::stages() const {
  std::vector<const plan::Plan *> result;
  for (const plan::Plan *plan : plans)
    if (result.empty() || result.back()->mesh()->stage() != plan->mesh()->stage())
      result.push_back(plan);
  return result;
}

Result<PlanSet> openFolder(const std::string &path) {
  PlanSet set;
  set.path = path;
  DISTC_ASSIGN(set.files, openPlanSet(path));
  for (const PlanFile &file : set.files)
    set.plans.push_back(&file.plan());
  DISTC_TRY(provePlanSet(set.plans, path));
  return set;
}

Result<PlanSet> openPlans(const std::string &path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored))
    return openFolder(path);
  PlanSet set;
  set.path = path;
  DISTC_ASSIGN(PlanFile file, PlanFile::open(path));
  set.files.push_back(std::move(file));
  set.plans.push_back(&set.files[0].plan());
  if (const std::vector<Violation> violations = verifyPlan(*set.plans[0]); !violations.empty())
    return dataLoss(path + ": " + violations[0].kind + ": " + violations[0].message);
  return set;
}

} // namespace distc::explain
