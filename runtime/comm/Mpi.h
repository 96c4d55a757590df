// MPI, for processes that mpirun has started: who they are, and a link between them.
//
// Sends and receives are MPI_Isend and MPI_Improbe with MPI_Imrecv, polled with MPI_Test: nothing of MPI blocks, so
// that time limits, interrupts and failures of other ranks end every wait. Collectives are made of these messages
// (Messages.h) and not MPI_Iallreduce, since reductions must add in member order; Open MPI's own non-blocking
// collectives are schedules of the same messages, and could neither be compared nor given up.
#pragma once

#include "runtime/comm/Link.h"
#include "runtime/comm/Socket.h"

#include <memory>

namespace distc {

class Mpi {
public:
  /// Starts MPI, once in a process.
  static Result<std::unique_ptr<Mpi>> start();

  uint32_t rank() const { return rank_; }
  uint32_t world() const { return world_; }

  /// Rank 0's text to all, at most 4 KiB.
  Status broadcast(std::string &text, const Patience &patience);
  /// Another link between the same processes, all of which make it: messages of links never meet.
  std::unique_ptr<Link> link();
  /// The orderly end, after which mpirun waits for nobody; left out after a failure, since it waits for all ranks.
  void finish();

private:
  Mpi(uint32_t rank, uint32_t world) : rank_(rank), world_(world) {}
  const uint32_t rank_, world_;
  int links_ = 0;
};

} // namespace distc
