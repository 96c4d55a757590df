// Between ranks: the plans are one set of one mesh. They agree on model, limits, KV pool, groups and programs, and
// their stages hold the layers of the model one after the other.
#include "runtime/verify/Report.h"

#include <algorithm>
#include <set>

namespace distc::verify {

namespace {

class SetCheck {
public:
  SetCheck(std::span<const plan::Plan *const> plans, Reporter &reporter) : plans_(plans), reporter_(reporter) {}

  void run() {
    const plan::Mesh &mesh = *plans_[0]->mesh();
    if (plans_.size() != uint64_t(mesh.tp()) * mesh.pp())
      return reporter_.add("mesh", cat(plans_.size(), " plans, expected ", uint64_t(mesh.tp()) * mesh.pp(), " for tp ",
                                       mesh.tp(), " x pp ", mesh.pp()));
    for (uint32_t rank = 0; rank < plans_.size() && !reporter_.full(); ++rank)
      plan(rank);
    groups();
  }

private:
  void fail(const char *kind, uint32_t rank, std::string message) {
    reporter_.add(kind, cat("rank ", rank, ": ", message), rank == 0 ? std::vector{rank} : std::vector{0u, rank});
  }

  template <typename A, typename B>
  void same(uint32_t rank, std::string_view what, const A &actual, const B &expected) {
    if (actual != expected)
      fail("set-mismatch", rank, cat(what, " is ", actual, ", but ", expected, " on rank 0"));
  }

  void plan(uint32_t rank) {
    const plan::Plan &a = *plans_[0], &b = *plans_[rank];
    const plan::Mesh &mesh = *b.mesh();
    if (mesh.rank() != rank || mesh.tp() != a.mesh()->tp() || mesh.pp() != a.mesh()->pp())
      return fail("mesh", rank,
                  cat("is rank ", mesh.rank(), " of tp ", mesh.tp(), " x pp ", mesh.pp(), ", expected rank ", rank,
                      " of tp ", a.mesh()->tp(), " x pp ", a.mesh()->pp()));
    uint64_t first = 0;
    if (mesh.tp_index() != 0)
      first = plans_[rank - mesh.tp_index()]->mesh()->first_layer();
    else if (mesh.stage() != 0)
      first = uint64_t(plans_[rank - mesh.tp()]->mesh()->first_layer()) + plans_[rank - mesh.tp()]->mesh()->layers();
    uint32_t layers = plans_[rank - mesh.tp_index()]->mesh()->layers();
    bool last = mesh.stage() + 1 == mesh.pp();
    if (mesh.first_layer() != first || mesh.layers() != layers || (last && first + layers != b.model()->layers()))
      fail("mesh", rank,
           cat("stage ", mesh.stage(), " holds layers ", mesh.first_layer(), " to ", mesh.first_layer() + mesh.layers(),
               ", expected ", first, " to ", last ? uint64_t(b.model()->layers()) : first + layers));
    same(rank, "producer", b.producer()->string_view(), a.producer()->string_view());
    same(rank, "target", b.target()->string_view(), a.target()->string_view());
    same(rank, "model", b.model()->name()->string_view(), a.model()->name()->string_view());
    same(rank, "vocabulary", b.model()->vocabulary(), a.model()->vocabulary());
    same(rank, "hidden", b.model()->hidden(), a.model()->hidden());
    same(rank, "model layers", b.model()->layers(), a.model()->layers());
    same(rank, "parameters", b.model()->parameters(), a.model()->parameters());
    same(rank, "max_batch", b.limits()->max_batch(), a.limits()->max_batch());
    same(rank, "max_tokens", b.limits()->max_tokens(), a.limits()->max_tokens());
    same(rank, "max_sequence", b.limits()->max_sequence(), a.limits()->max_sequence());
    same(rank, "kv.block_tokens", b.kv()->block_tokens(), a.kv()->block_tokens());
    same(rank, "kv.blocks", b.kv()->blocks(), a.kv()->blocks());
    same(rank, "number of programs", b.programs()->size(), a.programs()->size());
    for (uint32_t p = 0; p < std::min(a.programs()->size(), b.programs()->size()); ++p)
      program(rank, p);
  }

  /// All ranks choose the same program for a batch, and the host talks to the first and the last stage.
  void program(uint32_t rank, uint32_t index) {
    const plan::Program &a = *plans_[0]->programs()->Get(index), &b = *plans_[rank]->programs()->Get(index);
    std::string name = cat("program ", index, ": ");
    same(rank, name + "regime", unsigned(b.regime()), unsigned(a.regime()));
    same(rank, name + "max_tokens", b.max_tokens(), a.max_tokens());
    same(rank, name + "max_sequences", b.max_sequences(), a.max_sequences());
    same(rank, name + "max_outputs", b.max_outputs(), a.max_outputs());
    same(rank, name + "micro_batches", b.micro_batches(), a.micro_batches());
    size_t ids = 0, embeddings = 0, logits = 0, chunks = 1;
    std::set<uint32_t> parts;
    for (const plan::Instruction *it : *b.instructions()) {
      ids += it->op_type() == plan::Op::EmitIds;
      embeddings += it->op_type() == plan::Op::Embedding;
      if (it->op_type() == plan::Op::EmitLogits) {
        const plan::Buffer &rows = *b.buffers()->Get(it->op_as_EmitLogits()->input());
        chunks = rows.chunks();
        parts.insert(rows.chunk());
        ++logits;
      }
    }
    const plan::Mesh &mesh = *plans_[rank]->mesh();
    size_t first = mesh.stage() == 0, last = mesh.stage() + 1 == mesh.pp();
    auto expect = [&](const char *op, size_t actual, size_t expected) {
      if (actual != expected)
        fail("host-exchange", rank,
             cat(name, actual, " ", op, " instructions on stage ", mesh.stage(), " of ", mesh.pp(), ", expected ",
                 expected));
    };
    expect("EmitIds", ids, first);
    expect("Embedding", embeddings != 0, first);
    expect("EmitLogits", logits, last ? chunks : 0);
    if (parts.size() != logits)
      fail("host-exchange", rank, cat(name, "EmitLogits hands out the same rows twice"));
  }

  /// Members of a group all know it.
  void groups() {
    std::set<std::pair<std::string, std::vector<uint32_t>>> known;
    std::vector<std::set<std::pair<std::string, std::vector<uint32_t>>>> byRank(plans_.size());
    for (size_t rank = 0; rank < plans_.size(); ++rank)
      for (const plan::Group *group : *plans_[rank]->groups()) {
        std::pair<std::string, std::vector<uint32_t>> g{group->name()->str(),
                                                        {group->ranks()->begin(), group->ranks()->end()}};
        if (!byRank[rank].insert(g).second)
          fail("group", static_cast<uint32_t>(rank),
               cat("group '", g.first, "' ", listText(g.second), " is there twice"));
        known.insert(std::move(g));
      }
    for (const auto &group : known)
      for (uint32_t rank : group.second)
        if (!byRank[rank].count(group))
          return fail(
              "group", rank,
              cat("does not know group '", group.first, "' ", listText(group.second), ", of which it is a member"));
  }

  std::span<const plan::Plan *const> plans_;
  Reporter &reporter_;
};

} // namespace

void checkSet(std::span<const plan::Plan *const> plans, Reporter &reporter) { SetCheck(plans, reporter).run(); }

} // namespace distc::verify
