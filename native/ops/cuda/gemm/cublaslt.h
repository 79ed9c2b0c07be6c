#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "ops/cuda/device/device.h"
#include "ops/cuda/gemm/gemm.h"

namespace apar::cuda {

// Products of long prompts by cuBLASLt, which is found at run time (docs/adr/0014): bf16 weights are unpacked
// into a scratch layer before each product.
class CublasLt {
 public:
  // The library that APAR_CUBLASLT_LIBRARY names, else the system's. Throws Error{unavailable} where there is
  // none.
  explicit CublasLt(Device& device);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  // When the choice wants it: null for mma and wgmma, and for automatic where there is no library.
  static std::unique_ptr<CublasLt> open(Device& device, GemmChoice choice);

  // Makes room for a layer of so many weights. Throws Error{out_of_memory}.
  void reserve(int64_t weights);
  // As packed_gemm() for bf16 weights, up to the order of sums.
  void multiply(const GemmCall& call);

 private:
  struct Library;
  struct Product;  // one shape's descriptors and algorithm

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
