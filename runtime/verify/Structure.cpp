// One plan: mesh, limits, groups, KV pool, rope tables, ledger. (Weights: WeightTables.cpp. Programs: Programs.cpp.)
#include "runtime/schema/PlanFile.h"
#include "runtime/verify/Report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <unordered_set>

namespace distc::verify {

namespace {

class StructureCheck {
public:
  StructureCheck(const plan::Plan &plan, Reporter &reporter) : plan_(plan), reporter_(reporter) {}

  void run() {
    size_t before = reporter_.count();
    mesh();
    if (reporter_.count() != before)
      return; // all else is told in terms of the mesh
    limits();
    groups();
    kv();
    ropeTables();
    arena();
  }

private:
  void fail(const char *kind, std::string message) {
    reporter_.add(kind, cat("rank ", plan_.mesh()->rank(), ": ", message), {plan_.mesh()->rank()});
  }
  /// `actual` must be `expected`.
  void expect(const char *kind, std::string_view what, uint64_t actual, uint64_t expected, std::string_view why) {
    if (actual != expected)
      fail(kind, cat(what, " is ", actual, ", expected ", expected, " (", why, ")"));
  }

  void mesh() {
    const plan::Mesh &mesh = *plan_.mesh();
    if (mesh.tp() == 0 || mesh.pp() == 0 || uint64_t(mesh.tp()) * mesh.pp() > 1'000'000)
      return fail("mesh", cat("tp ", mesh.tp(), " x pp ", mesh.pp(), ", expected 1 to 1000000 ranks"));
    if (mesh.stage() >= mesh.pp() || mesh.tp_index() >= mesh.tp())
      return fail("mesh", cat("stage ", mesh.stage(), " and tp_index ", mesh.tp_index(), " are outside tp ", mesh.tp(),
                              " x pp ", mesh.pp()));
    expect("mesh", "rank", mesh.rank(), uint64_t(mesh.stage()) * mesh.tp() + mesh.tp_index(), "stage x tp + tp_index");
    if (mesh.layers() == 0 || uint64_t(mesh.first_layer()) + mesh.layers() > plan_.model()->layers())
      fail("mesh", cat("layers ", mesh.first_layer(), " to ", uint64_t(mesh.first_layer()) + mesh.layers(),
                       " of a model of ", plan_.model()->layers()));
  }

  void limits() {
    const plan::Limits &limits = *plan_.limits();
    if (limits.max_batch() == 0 || limits.max_tokens() == 0 || limits.max_sequence() == 0 || limits.kv_block() == 0)
      fail("limits", cat("max_batch ", limits.max_batch(), ", max_tokens ", limits.max_tokens(), ", max_sequence ",
                         limits.max_sequence(), ", kv_block ", limits.kv_block(), ": expected none to be 0"));
    if (plan_.model()->vocabulary() == 0 || plan_.model()->hidden() == 0)
      fail("limits", cat("vocabulary ", plan_.model()->vocabulary(), ", hidden ", plan_.model()->hidden(),
                         ": expected neither to be 0"));
  }

  void groups() {
    const plan::Mesh &mesh = *plan_.mesh();
    std::map<std::string_view, std::vector<uint32_t>> ofMesh; // those that every rank has
    for (uint32_t i = 0; i < mesh.tp(); ++i)
      ofMesh["tp"].push_back(mesh.stage() * mesh.tp() + i);
    for (uint32_t i = 0; i < mesh.pp(); ++i)
      ofMesh["pp"].push_back(i * mesh.tp() + mesh.tp_index());
    std::set<std::string_view> found;
    for (const plan::Group *group : *plan_.groups()) {
      std::string name = cat("group '", group->name()->string_view(), "' ", listText(*group->ranks()));
      std::unordered_set<uint32_t> seen;
      for (uint32_t rank : *group->ranks())
        if (rank >= uint64_t(mesh.tp()) * mesh.pp() || !seen.insert(rank).second)
          return fail("group", cat(name, ": rank ", rank, " is outside the mesh or there twice"));
      if (!seen.count(mesh.rank()))
        fail("group", cat(name, ": this rank is not a member"));
      const auto expected = ofMesh.find(group->name()->string_view());
      if (expected == ofMesh.end())
        continue;
      found.insert(expected->first);
      if (!std::equal(expected->second.begin(), expected->second.end(), group->ranks()->begin(), group->ranks()->end()))
        fail("group", cat(name, ": expected ", listText(expected->second)));
    }
    for (const auto &[name, ranks] : ofMesh)
      if (!found.contains(name))
        fail("group", cat("group '", name, "' ", listText(ranks), " is missing"));
  }

  void kv() {
    const plan::KvPool &pool = *plan_.kv();
    const plan::Limits &limits = *plan_.limits();
    if (pool.block_tokens() == 0 || limits.max_sequence() == 0)
      return fail("kv", "a KV block holds no token");
    expect("kv", "kv.block_tokens", pool.block_tokens(), limits.kv_block(), "limits.kv_block");
    uint64_t perSequence = (uint64_t(limits.max_sequence()) + pool.block_tokens() - 1) / pool.block_tokens();
    expect("kv", "kv.blocks_per_sequence", pool.blocks_per_sequence(), perSequence,
           "max_sequence / block_tokens, rounded up");
    if (pool.blocks() < perSequence)
      fail("kv", cat("kv.blocks is ", pool.blocks(), ", expected at least the ", perSequence, " of one sequence"));

    struct Range {
      uint64_t begin, end;
      uint32_t layer;
    };
    std::vector<Range> ranges;
    std::unordered_set<uint32_t> layers;
    for (const plan::KvCache *cache : *pool.caches()) {
      std::string name = cat("KV cache of layer ", cache->layer());
      if (cache->dtype() > plan::DType::BF16)
        return fail("kv", cat(name, ": dtype ", unsigned(cache->dtype()), ", expected f32, f16 or bf16"));
      if (cache->layer() < plan_.mesh()->first_layer() ||
          cache->layer() - plan_.mesh()->first_layer() >= plan_.mesh()->layers() ||
          !layers.insert(cache->layer()).second)
        fail("kv", cat(name, ": the layer is not of this stage, or has two caches"));
      uint64_t bytes = saturatingMul(saturatingMul(saturatingMul(pool.blocks(), 2 * uint64_t(cache->heads())),
                                                   saturatingMul(pool.block_tokens(), cache->head_dim())),
                                     dtypeBytes(cache->dtype()));
      if (bytes == 0 || cache->head_dim() % 2 != 0)
        fail("kv", cat(name, ": ", cache->heads(), " heads of ", cache->head_dim(),
                       " elements, expected at least one of an even number"));
      expect("kv", name + ": bytes", cache->bytes(), bytes, "blocks x 2 x heads x block_tokens x head_dim x element");
      if (cache->offset() % 16 != 0)
        fail("kv", cat(name, ": offset ", cache->offset(), ", expected a multiple of 16"));
      ranges.push_back({cache->offset(), saturatingAdd(cache->offset(), cache->bytes()), cache->layer()});
    }
    expect("kv", "number of KV caches", layers.size(), plan_.mesh()->layers(), "one for each layer of the stage");
    std::sort(ranges.begin(), ranges.end(), [](const Range &a, const Range &b) { return a.begin < b.begin; });
    for (size_t i = 1; i < ranges.size(); ++i)
      if (ranges[i].begin < ranges[i - 1].end)
        fail("kv-overlap",
             cat("the KV caches of layers ", ranges[i - 1].layer, " and ", ranges[i].layer, " overlap: bytes ",
                 ranges[i - 1].begin, " to ", ranges[i - 1].end, " and from ", ranges[i].begin));
    uint64_t end = ranges.empty() ? 0 : ranges.back().end;
    if (plan_.ledger()->kv() != end && plan_.ledger()->kv() != saturatingAdd(end, 255) / 256 * 256)
      fail("ledger", cat("ledger.kv is ", plan_.ledger()->kv(), ", expected ", end, " (the end of the last KV cache)"));
  }

  void ropeTables() {
    uint64_t bytes = 0;
    for (const plan::RopeTable *table : *plan_.rope_tables()) {
      bool finite = std::isfinite(table->magnitude()) && table->inv_freq()->size() > 0;
      for (double frequency : *table->inv_freq())
        finite = finite && std::isfinite(frequency);
      if (!finite)
        fail("rope", "a rope table is empty or holds a frequency that is not finite");
      const uint64_t sets = 1 + (table->over() ? table->over()->size() : 0);
      if (table->inv_freq()->size() % sets != 0 || saturatingMul(sets, plan_.limits()->max_sequence()) > INT32_MAX)
        fail("rope",
             cat("a rope table has ", table->inv_freq()->size(), " frequencies in ", sets, " sets for ",
                 plan_.limits()->max_sequence(), " positions, expected sets of one size, fewer than 2^31 rows"));
      for (uint32_t i = 1; i < sets; ++i)
        if (table->over()->Get(i - 1) >= (i + 1 < sets ? table->over()->Get(i) : plan_.limits()->max_sequence()))
          fail("rope",
               cat("a rope table's sets are for sequences of more than ", listText(*table->over()),
                   " tokens, expected increasing numbers below max_sequence, ", plan_.limits()->max_sequence()));
      bytes = saturatingAdd(bytes, saturatingMul(plan_.limits()->max_sequence(), table->inv_freq()->size() * 8ull));
    }
    expect("ledger", "ledger.tables", plan_.ledger()->tables(), bytes, "max_sequence x frequencies x 2 f32");
  }

  void arena() {
    uint64_t bytes = 0;
    for (const plan::Program *program : *plan_.programs())
      bytes = std::max(bytes, saturatingMul(program->arena_bytes(), program->micro_batches()));
    expect("ledger", "ledger.arena", plan_.ledger()->arena(), bytes,
           "the largest arena_bytes x micro_batches of the programs");
  }

  const plan::Plan &plan_;
  Reporter &reporter_;
};

} // namespace

void checkStructure(const plan::Plan &plan, Reporter &reporter) { StructureCheck(plan, reporter).run(); }

} // namespace distc::verify
