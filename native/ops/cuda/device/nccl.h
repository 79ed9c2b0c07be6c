#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ops/cuda/device/platform_types.h"

namespace apar::cuda {

// The functions of NCCL 2 that are used here, with the ABI of nccl.h. A result other than 0 is an error.
struct Nccl {
  using Comm = void*;                     // ncclComm_t
  static constexpr int32_t kFloat32 = 7;  // ncclFloat32

  int (*comm_init_all)(Comm* comms, int count, const int* devices) = nullptr;
  int (*all_gather)(const void* from, void* to, size_t count, int type, Comm comm, void* stream) = nullptr;
  int (*comm_destroy)(Comm comm) = nullptr;
  int (*comm_abort)(Comm comm) = nullptr;
  const char* (*error_string)(int result) = nullptr;
};

// Loads NCCL on the first call, from libnccl.so.2 or from the file that APAR_NCCL_LIBRARY names. Throws
// Error{unavailable}.
const Nccl& load_nccl();

// The NCCL communicators of the devices that share a model, one per rank.
class NcclGroup {
 public:
  // Throws Error{unavailable} when NCCL cannot connect the devices.
  NcclGroup(const Nccl& nccl, std::span<const int32_t> devices);
  // CUDA graphs that contain an all-gather must be destroyed first: NCCL waits for them.
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  int32_t ranks() const { return static_cast<int32_t>(comms_.size()); }
  // to[ranks][count] = `from` of every rank, in stream order on every device. Throws Error{internal}.
  void all_gather(int32_t rank, const float* from, float* to, size_t count, Stream stream) const;
  // Releases a rank that waits for others. Can be called from any thread; all_gather() of that rank throws
  // from then on.
  void abort(int32_t rank);

 private:
  const Nccl& nccl_;
  std::vector<std::atomic<Nccl::Comm>> comms_;  // nullptr after abort()
};

}  // namespace apar::cuda
