#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ops/cuda/device/platform_types.h"

namespace apar::cuda {

// The functions of NCCL 2 that are used here, by the ABI of its nccl.h. A result other than 0 is an error.
struct Nccl {
  using Comm = void*;                     // ncclComm_t
  static constexpr int32_t kFloat32 = 7;  // ncclFloat32

  int (*comm_init_all)(Comm* comms, int count, const int* devices) = nullptr;
  int (*all_gather)(const void* from, void* to, size_t count, int type, Comm comm, Stream stream) = nullptr;
  int (*comm_destroy)(Comm comm) = nullptr;
  int (*comm_abort)(Comm comm) = nullptr;
  const char* (*error_string)(int result) = nullptr;
};

// NCCL from libnccl.so.2, or from the file that APAR_NCCL_LIBRARY names; loaded when first asked for. Throws
// Error{unavailable}.
const Nccl& load_nccl();

// The communicators of devices that share a model, one per rank.
class NcclGroup {
 public:
  // Throws Error{unavailable} when NCCL cannot connect the devices.
  NcclGroup(const Nccl& nccl, std::span<const int32_t> devices);
  // Graphs that hold a gather must be gone: NCCL waits for them.
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  int32_t ranks() const { return static_cast<int32_t>(comms_.size()); }
  // to[ranks][count] = `from` of every rank, in stream order on each. Throws Error{internal}.
  void all_gather(int32_t rank, const float* from, float* to, size_t count, Stream stream) const;
  // Frees a rank that waits for others. Any thread; all_gather() of that rank throws from then on.
  void abort(int32_t rank);

 private:
  const Nccl& nccl_;
  std::vector<std::atomic<Nccl::Comm>> comms_;  // nullptr: aborted
};

}  // namespace apar::cuda
