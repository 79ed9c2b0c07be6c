#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "ops/cuda/device/device.h"
#include "ops/cuda/gemm/gemm.h"

namespace apar::cuda {

constexpr size_t kCublasLtWorkspaceBytes = size_t{32} << 20;  // NVIDIA's recommendation for Hopper

// Matrix products of long prompts with cuBLASLt, which is loaded at run time (docs/adr/0014). bf16 weights
// are unpacked into scratch memory before each product.
class CublasLt {
 public:
  // Loads the library that APAR_CUBLASLT_LIBRARY names, else the system's. Throws Error{unavailable} if there
  // is none.
  explicit CublasLt(Device& device);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  // Opens cuBLASLt if the backend uses it. Returns null for mma and wgmma, and for automatic without the
  // library.
  static std::unique_ptr<CublasLt> open(Device& device, GemmBackend backend);

  // Reserves scratch memory for a layer with this number of weights. Throws Error{out_of_memory}.
  void reserve(int64_t weights);
  // Like packed_gemm() for bf16 weights, except for the order of sums.
  void multiply(const GemmCall& call);

 private:
  struct Library;
  struct Product;  // the descriptors and the algorithm of one shape

  const Product& product(int32_t outs, int32_t rows, int32_t in);

  Device& device_;
  std::unique_ptr<Library> library_;
  void* handle_ = nullptr;
  void* workspace_ = nullptr;
  uint16_t* scratch_ = nullptr;
  int64_t scratch_weights_ = 0;
  std::map<std::tuple<int32_t, int32_t, int32_t>, std::unique_ptr<Product>> products_;
};

}  // namespace apar::cuda
