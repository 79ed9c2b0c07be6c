#include "ops/cuda/gemm/cublaslt.h"

#include <dlfcn.h>

#include <cstdlib>
#include <initializer_list>
#include <string>

#include "common/error.h"

namespace apar::cuda {
namespace {

constexpr size_t kMaxProducts = 256;  // prompts have many different lengths

// The declarations of cublasLt.h (CUDA 12 and 13) that are used here, because some toolkits lack that header.
using Status = int;  // 0: success
constexpr int kCompute32F = 68, kReal32F = 0, kReal16BF = 14;
constexpr int kTransposeA = 3, kMaxWorkspaceBytes = 1;  // attributes of a matmul descriptor, of a preference
constexpr int32_t kTransposed = 1;

struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};

void check(Status status, const char* what) {
  if (status != 0)
    throw Error(ErrorCode::internal, std::string(what) + ": cuBLASLt status " + std::to_string(status));
}

void* open_library() {
  if (const char* const named = std::getenv("APAR_CUBLASLT_LIBRARY"))
    return dlopen(named, RTLD_NOW | RTLD_LOCAL);
  for (const char* const name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"})
    if (void* const found = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return found;
  return nullptr;
}

}  // namespace

// The library is never closed: its kernels live as long as the process.
struct CublasLt::Library {
  void* const opened = open_library();

  template <class Function>
  Function* symbol(const char* name) const {
    void* const found = opened == nullptr ? nullptr : dlsym(opened, name);
    if (found == nullptr) {
      const char* const reason = dlerror();
      throw Error(ErrorCode::unavailable, std::string("no cuBLASLt: ") + (reason ? reason : name));
    }
    return reinterpret_cast<Function*>(found);
  }

#define APAR_LT(name, ...) Status (*const name)(__VA_ARGS__) = symbol<Status(__VA_ARGS__)>("cublasLt" #name)
  APAR_LT(Create, void** handle);
  APAR_LT(Destroy, void* handle);
  APAR_LT(MatmulDescCreate, void** desc, int compute, int scale);
  APAR_LT(MatmulDescDestroy, void* desc);
  APAR_LT(MatmulDescSetAttribute, void* desc, int attribute, const void* value, size_t bytes);
  APAR_LT(MatrixLayoutCreate, void** layout, int type, uint64_t rows, uint64_t cols, int64_t leading);
  APAR_LT(MatrixLayoutDestroy, void* layout);
  APAR_LT(MatmulPreferenceCreate, void** preference);
  APAR_LT(MatmulPreferenceDestroy, void* preference);
  APAR_LT(MatmulPreferenceSetAttribute, void* preference, int attribute, const void* value, size_t bytes);
  APAR_LT(MatmulAlgoGetHeuristic, void* handle, void* desc, void* a, void* b, void* c, void* d,
          void* preference, int wanted, Heuristic* found, int* count);
  APAR_LT(Matmul, void* handle, void* desc, const void* alpha, const void* a, void* a_layout, const void* b,
          void* b_layout, const void* beta, const void* c, void* c_layout, void* d, void* d_layout,
          const Algorithm* algorithm, void* workspace, size_t workspace_bytes, void* stream);
#undef APAR_LT
};

// cuBLAS matrices are column-major. Our weights [outs][in] are an [in, outs] matrix for cuBLAS, which it
// transposes; x is [in, rows], and the product [outs, rows] is our [rows][outs].
struct CublasLt::Product {
  const Library& library;
  void *desc = nullptr, *w = nullptr, *x = nullptr, *out = nullptr;
  Algorithm algorithm{};

  Product(const Library& lt, void* handle, int32_t outs, int32_t rows, int32_t in) : library(lt) {
    check(lt.MatmulDescCreate(&desc, kCompute32F, kReal32F), "MatmulDescCreate");
    check(lt.MatmulDescSetAttribute(desc, kTransposeA, &kTransposed, sizeof(kTransposed)), "TRANSA");
    check(lt.MatrixLayoutCreate(&w, kReal16BF, in, outs, in), "MatrixLayoutCreate");
    check(lt.MatrixLayoutCreate(&x, kReal16BF, in, rows, in), "MatrixLayoutCreate");
    check(lt.MatrixLayoutCreate(&out, kReal32F, outs, rows, outs), "MatrixLayoutCreate");
    void* preference = nullptr;
    check(lt.MatmulPreferenceCreate(&preference), "MatmulPreferenceCreate");
    const uint64_t bytes = kCublasLtWorkspaceBytes;
    Heuristic best{};
    int found = 0;
    Status status = lt.MatmulPreferenceSetAttribute(preference, kMaxWorkspaceBytes, &bytes, sizeof(bytes));
    if (status == 0)
      status = lt.MatmulAlgoGetHeuristic(handle, desc, w, x, out, out, preference, 1, &best, &found);
    lt.MatmulPreferenceDestroy(preference);
    check(status, "MatmulAlgoGetHeuristic");
    if (found == 0) throw Error(ErrorCode::internal, "cuBLASLt has no algorithm for this shape");
    algorithm = best.algorithm;
  }
  ~Product() {
    for (void* const layout : {w, x, out})
      if (layout != nullptr) library.MatrixLayoutDestroy(layout);
    if (desc != nullptr) library.MatmulDescDestroy(desc);
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;
};

CublasLt::CublasLt(Device& device) : device_(device), library_(std::make_unique<Library>()) {
  check(library_->Create(&handle_), "cublasLtCreate");
  workspace_ = device_.allocate(kCublasLtWorkspaceBytes, "cuBLASLt workspace");
}

CublasLt::~CublasLt() {
  products_.clear();
  library_->Destroy(handle_);
}

std::unique_ptr<CublasLt> CublasLt::open(Device& device, GemmBackend backend) {
  if (backend == GemmBackend::mma || backend == GemmBackend::wgmma) return nullptr;
  try {
    return std::make_unique<CublasLt>(device);
  } catch (const Error& error) {
    if (backend == GemmBackend::automatic && error.code() == ErrorCode::unavailable) return nullptr;
    throw;
  }
}

void CublasLt::reserve(int64_t weights) {
  if (weights <= scratch_weights_) return;
  scratch_ = static_cast<uint16_t*>(
      device_.allocate(static_cast<size_t>(weights) * sizeof(uint16_t), "unpacked weights"));
  scratch_weights_ = weights;
}

const CublasLt::Product& CublasLt::product(int32_t outs, int32_t rows, int32_t in) {
  if (products_.size() >= kMaxProducts) products_.clear();
  auto& known = products_[{outs, rows, in}];
  if (!known) known = std::make_unique<Product>(*library_, handle_, outs, rows, in);
  return *known;
}

void CublasLt::multiply(const GemmCall& call) {
  const float one = 1, zero = 0;
  for (int32_t i = 0; i < call.num_projections; ++i) {
    const GemmProjection& layer = call.projections[i];
    if (int64_t{layer.outs} * call.in > scratch_weights_)
      throw Error(ErrorCode::internal, "a layer's unpacked weights exceed the scratch memory");
    const Product& p = product(layer.outs, call.rows, call.in);
    unpack_bf16(device_.stream(), layer.weights, layer.half, layer.outs, call.in, scratch_);
    check(library_->Matmul(handle_, p.desc, &one, scratch_, p.w, call.x_bf16, p.x, &zero, layer.out, p.out,
                           layer.out, p.out, &p.algorithm, workspace_, kCublasLtWorkspaceBytes,
                           device_.stream().handle),
          "cublasLtMatmul");
    if (layer.bias != nullptr) add_bias(device_.stream(), call.rows, layer.outs, layer.bias, layer.out);
  }
}

}  // namespace apar::cuda
