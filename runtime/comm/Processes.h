// The processes of a run, one for each rank: how they find each other, and what they speak through.
#pragma once

#include "runtime/comm/ControlPlane.h"
#include "runtime/comm/Link.h"

#include <memory>
#include <optional>

namespace distc {

enum class Launcher {
  Mpi,         // mpirun: MPI says who is who, and carries the tensors of ranks on CPUs
  Environment, // torchrun, Slurm or a script: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; tensors go over TCP
};

/// Whether this build has MPI.
bool hasMpi();

class Mpi;

class Processes {
public:
  /// Waits until all processes are there. A failure is every process's own to report: they know nothing of each other.
  static Result<std::unique_ptr<Processes>> join(Launcher launcher, double timeoutSeconds,
                                                 const std::atomic<bool> *interrupted);
  ~Processes();

  uint32_t rank() const { return control_->rank(); }
  uint32_t world() const { return control_->world(); }
  /// This process's number on its host, where the launcher says so.
  std::optional<uint32_t> localRank() const { return localRank_; }
  /// "mpirun -n", "WORLD_SIZE=": what decides the number of processes, for errors.
  const char *sizeFlag() const { return mpi_ ? "mpirun -n " : "WORLD_SIZE="; }

  const std::shared_ptr<ControlPlane> &control() const { return control_; }
  /// Connects all pairs; every process calls it as often as the others, at the same places. The links know nothing of
  /// each other, and each may be used by a thread of its own.
  Result<std::unique_ptr<Link>> connect();

  /// The last call: how this process has ended. True if it must report the failure (ControlPlane::finish).
  bool finish(const Status &status);

private:
  Processes();
  std::unique_ptr<Mpi> mpi_;
  std::shared_ptr<ControlPlane> control_;
  std::optional<uint32_t> localRank_;
};

} // namespace distc
