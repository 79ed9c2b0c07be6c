#include "ops/cuda/device/nccl.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>

#include "common/error.h"

namespace apar::cuda {
namespace {

template <class Function>
void find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  if (function == nullptr)
    throw Error(ErrorCode::unavailable, std::string("the NCCL library has no ") + name);
}

Nccl open_library() {
  const char* const named = std::getenv("APAR_NCCL_LIBRARY");
  // Never closed: the library has its own threads and device code.
  void* const library = dlopen(named != nullptr ? named : "libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* const reason = dlerror();
    throw Error(
        ErrorCode::unavailable,
        std::string("several devices need NCCL; set APAR_NCCL_LIBRARY to the path of libnccl.so.2: ") +
            (reason != nullptr ? reason : "not found"));
  }
  Nccl nccl;
  find(library, "ncclCommInitAll", nccl.comm_init_all);
  find(library, "ncclAllGather", nccl.all_gather);
  find(library, "ncclCommDestroy", nccl.comm_destroy);
  find(library, "ncclCommAbort", nccl.comm_abort);
  find(library, "ncclGetErrorString", nccl.error_string);
  return nccl;
}

}  // namespace

const Nccl& load_nccl() {
  static const Nccl nccl = open_library();
  return nccl;
}

NcclGroup::NcclGroup(const Nccl& nccl, std::span<const int32_t> devices)
    : nccl_(nccl), comms_(devices.size()) {
  const std::vector<int> list(devices.begin(), devices.end());
  std::vector<Nccl::Comm> made(list.size());
  const int result = nccl_.comm_init_all(made.data(), static_cast<int>(list.size()), list.data());
  if (result != 0)
    throw Error(ErrorCode::unavailable,
                std::string("NCCL cannot connect the devices: ") + nccl_.error_string(result));
  std::copy(made.begin(), made.end(), comms_.begin());
}

NcclGroup::~NcclGroup() {
  for (Nccl::Comm comm : comms_)
    if (comm != nullptr) nccl_.comm_destroy(comm);
}

void NcclGroup::all_gather(int32_t rank, const float* from, float* to, size_t count, Stream stream) const {
  const Nccl::Comm comm = comms_[static_cast<size_t>(rank)];
  if (comm == nullptr) throw Error(ErrorCode::internal, "another device has failed");
  const int result = nccl_.all_gather(from, to, count, Nccl::kFloat32, comm, stream.handle);
  if (result != 0) throw Error(ErrorCode::internal, std::string("NCCL: ") + nccl_.error_string(result));
}

void NcclGroup::abort(int32_t rank) {
  const Nccl::Comm comm = comms_[static_cast<size_t>(rank)].exchange(nullptr);
  if (comm != nullptr) nccl_.comm_abort(comm);
}

}  // namespace apar::cuda
