#pragma once

#include <cstddef>
#include <cstdint>

// The parts of the C ABI of TVM FFI 0.1 (tvm/ffi/c_api.h of the package apache-tvm-ffi) and of DLPack 1 that
// calls of the grammar engine need. Its library is opened at run time, so that an engine can be built where
// there is none.
namespace apar::ffi {

constexpr int32_t kNone = 0, kInt = 1, kBool = 2, kTensor = 7;
constexpr int32_t kSmallString = 11, kSmallBytes = 12, kFirstObject = 64;
constexpr int32_t kString = 65, kBytes = 66, kFunction = 68;

struct ByteArray {
  const char* data;
  size_t size;
};

// An argument or a result. Those of type kFirstObject or larger are counted references.
struct Any {
  int32_t type = kNone;
  uint32_t small_length = 0;  // of a small string; else 0
  union {
    int64_t integer = 0;
    void* pointer;
    char small[8];
  };
};
static_assert(sizeof(Any) == 16);

// What precedes the fields of each object.
struct ObjectHeader {
  uint64_t references;
  int32_t type;
  uint32_t padding;
  void (*deleter)(void*, int);
};
static_assert(sizeof(ObjectHeader) == 24);

struct StringObject {
  ObjectHeader header;
  ByteArray text;
};
struct ErrorObject {
  ObjectHeader header;
  ByteArray kind, message;
};

struct MethodInfo {
  ByteArray name, doc, metadata;
  int64_t flags;
  Any method;  // a function
};

struct TypeInfo {
  int32_t type, depth;
  ByteArray key;
  const TypeInfo** ancestors;
  uint64_t key_hash;
  int32_t num_fields, num_methods;
  const void* fields;
  const MethodInfo* methods;
};

// DLTensor: a tensor that belongs to the caller.
struct Tensor {
  void* data = nullptr;
  int32_t device_type = 1, device_id = 0;  // the CPU
  int32_t num_dimensions = 1;
  uint8_t type_code = 0, type_bits = 32;  // int32
  uint16_t type_lanes = 1;
  int64_t* shape = nullptr;
  int64_t* strides = nullptr;
  uint64_t byte_offset = 0;
};
static_assert(sizeof(Tensor) == 48);

}  // namespace apar::ffi
