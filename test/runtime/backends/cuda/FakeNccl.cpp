// A library of which nothing but its version is NCCL's.
extern "C" int ncclGetVersion(int *version) {
  *version = DISTC_FAKE_NCCL_VERSION;
  return 0;
}
