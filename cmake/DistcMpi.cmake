# Open MPI for `distrun --ranks mpi`. AUTO: where it is found.
if(NOT DISTC_MPI STREQUAL "OFF")
  set(MPI_CXX_SKIP_MPICXX TRUE) # the C interface; the C++ one is gone from the standard
  if(DISTC_MPI STREQUAL "ON")
    find_package(MPI REQUIRED COMPONENTS CXX)
  else()
    find_package(MPI QUIET COMPONENTS CXX)
  endif()
endif()
