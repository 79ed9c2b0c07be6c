// A fake cuBLASLt on host memory. It implements the calls of ops/cuda/gemm/cublaslt.cpp as that library
// documents them, with column-major matrices, so that their arguments are tested without a GPU.
#include <cstddef>
#include <cstdint>

#include "common/float16.h"

#define FAKE extern "C" __attribute__((visibility("default"))) int

namespace {

constexpr int kSuccess = 0, kInvalidValue = 7;
constexpr uint64_t kAlgorithm = 42;

struct Desc {
  int compute, scale;
  int32_t transposed_a = 0;
};
struct Layout {
  int type;
  uint64_t rows, cols;
  int64_t leading;
};
struct Preference {
  uint64_t workspace_bytes = 0;
};
struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
};

bool is_valid(const Desc& desc, const Layout& a, const Layout& b, const Layout& d) {
  constexpr int kReal32F = 0, kReal16BF = 14, kCompute32F = 68;
  return desc.compute == kCompute32F && desc.scale == kReal32F && a.type == kReal16BF &&
         b.type == kReal16BF && d.type == kReal32F && (desc.transposed_a ? a.cols : a.rows) == d.rows &&
         (desc.transposed_a ? a.rows : a.cols) == b.rows && b.cols == d.cols &&
         a.leading >= static_cast<int64_t>(a.rows) && b.leading >= static_cast<int64_t>(b.rows) &&
         d.leading >= static_cast<int64_t>(d.rows);
}

template <class Object, class... Args>
int make(void** object, Args... args) {
  *object = new Object{args...};
  return kSuccess;
}
template <class Object>
int drop(void* object) {
  delete static_cast<Object*>(object);
  return kSuccess;
}

}  // namespace

FAKE cublasLtCreate(void** handle) {
  return make<int>(handle, 1);
}
FAKE cublasLtDestroy(void* handle) {
  return drop<int>(handle);
}
FAKE cublasLtMatmulDescCreate(void** desc, int compute, int scale) {
  return make<Desc>(desc, compute, scale);
}
FAKE cublasLtMatmulDescDestroy(void* desc) {
  return drop<Desc>(desc);
}
FAKE cublasLtMatmulDescSetAttribute(void* desc, int attribute, const void* value, size_t bytes) {
  if (attribute != 3 || bytes != sizeof(int32_t)) return kInvalidValue;  // CUBLASLT_MATMUL_DESC_TRANSA
  static_cast<Desc*>(desc)->transposed_a = *static_cast<const int32_t*>(value);
  return kSuccess;
}
FAKE cublasLtMatrixLayoutCreate(void** layout, int type, uint64_t rows, uint64_t cols, int64_t leading) {
  return make<Layout>(layout, type, rows, cols, leading);
}
FAKE cublasLtMatrixLayoutDestroy(void* layout) {
  return drop<Layout>(layout);
}
FAKE cublasLtMatmulPreferenceCreate(void** preference) {
  return make<Preference>(preference);
}
FAKE cublasLtMatmulPreferenceDestroy(void* preference) {
  return drop<Preference>(preference);
}
FAKE cublasLtMatmulPreferenceSetAttribute(void* preference, int attribute, const void* value, size_t bytes) {
  if (attribute != 1 || bytes != sizeof(uint64_t)) return kInvalidValue;  // MAX_WORKSPACE_BYTES
  static_cast<Preference*>(preference)->workspace_bytes = *static_cast<const uint64_t*>(value);
  return kSuccess;
}
FAKE cublasLtMatmulAlgoGetHeuristic(void*, void* desc, void* a, void* b, void*, void* d, void* preference,
                                    int wanted, Heuristic* found, int* count) {
  if (!is_valid(*static_cast<Desc*>(desc), *static_cast<Layout*>(a), *static_cast<Layout*>(b),
                *static_cast<Layout*>(d)) ||
      wanted < 1)
    return kInvalidValue;
  *found = {{{kAlgorithm}}, static_cast<Preference*>(preference)->workspace_bytes, kSuccess, 1, {}};
  *count = 1;
  return kSuccess;
}
FAKE cublasLtMatmul(void*, void* desc, const void* alpha, const void* a, void* a_layout, const void* b,
                    void* b_layout, const void* beta, const void*, void*, void* d, void* d_layout,
                    const Algorithm* algorithm, void*, size_t, void*) {
  const Desc& product = *static_cast<Desc*>(desc);
  const Layout &la = *static_cast<Layout*>(a_layout), &lb = *static_cast<Layout*>(b_layout),
               &ld = *static_cast<Layout*>(d_layout);
  if (!is_valid(product, la, lb, ld) || algorithm->data[0] != kAlgorithm ||
      *static_cast<const float*>(alpha) != 1 || *static_cast<const float*>(beta) != 0)
    return kInvalidValue;
  const auto at = [](const void* matrix, uint64_t index) {
    return double{apar::bf16_to_f32(static_cast<const uint16_t*>(matrix)[index])};
  };
  for (uint64_t col = 0; col < ld.cols; ++col) {
    for (uint64_t row = 0; row < ld.rows; ++row) {
      double sum = 0;
      for (uint64_t k = 0; k < lb.rows; ++k)
        sum += at(a, product.transposed_a ? row * la.leading + k : k * la.leading + row) *
               at(b, col * lb.leading + k);
      static_cast<float*>(d)[col * ld.leading + row] = static_cast<float>(sum);
    }
  }
  return kSuccess;
}
