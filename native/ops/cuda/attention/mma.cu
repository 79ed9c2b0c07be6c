// Attention on the tensor cores, with keys and values in bf16 or fp8 and sums in f32. A block computes one
// pair of a work item and a KV head after another; each warp computes 16 of its query vectors.
#include "ops/cuda/attention/math.cuh"
#include "ops/cuda/attention/task.cuh"
#include "ops/cuda/device/overlap.cuh"

namespace apar::cuda {
namespace {

constexpr float kLog2E = 1.4426950408889634f;
constexpr int kTokenBlocks = kChunkTokens / 8;

// A thread's share of the partial result of its warp's 16 queries: rows g and g + 8 of the accumulators
// (intrinsics.cuh).
template <int kDim>
struct Partial {
  float sums[kDim / 8][4];
  float max[2];
  float total[2];

  __device__ void clear() {
    for (auto& block : sums)
      for (float& value : block) value = 0;
    max[0] = max[1] = -INFINITY;
    total[0] = total[1] = 0;
  }

  __device__ void fold(const Partial& next) {
    float weight[2], next_weight[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float common = fmaxf(max[half], next.max[half]);
      weight[half] = partial_weight(max[half], common);
      next_weight[half] = partial_weight(next.max[half], common);
      total[half] = merged_sum(total[half], weight[half], next.total[half], next_weight[half]);
      max[half] = common;
    }
#pragma unroll
    for (int block = 0; block < kDim / 8; ++block)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        sums[block][i] = merged_sum(sums[block][i], weight[i / 2], next.sums[block][i], next_weight[i / 2]);
  }
};

__device__ inline float quad_max(float value) {
  for (int mask = 1; mask < 4; mask *= 2) value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, mask));
  return value;
}
__device__ inline float quad_sum(float value) {
  for (int mask = 1; mask < 4; mask *= 2) value += __shfl_xor_sync(kFullWarp, value, mask);
  return value;
}

// Computes the partial result of one chunk. `visible`: how many tokens of the chunk each of the thread's two
// queries sees.
template <class Kv, int kWarps>
__device__ inline void attend_chunk(const Task<Kv, kWarps>& task, int chunk, const int (&visible)[2],
                                    Partial<Kv::kDim>& result) {
  constexpr int kDim = Kv::kDim, kQueryBytes = Layout<Kv>::kQueryBytes, kLoads = Kv::kLoadTokens / 8;
  const int lane = threadIdx.x % 32;
  const unsigned char* const queries =
      task.queries() + threadIdx.x / 32 * kQueriesPerWarp * kQueryBytes + lane % 16 * kQueryBytes;
  const typename Kv::Scales key_scales = Kv::key_scales(task.scales(chunk), lane);
  float scores[kTokenBlocks][4] = {};
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    uint32_t a[4];
    load_matrices(a, queries + (step * 2 + lane / 16) * kCopyBytes);
#pragma unroll
    for (int block = 0; block < kTokenBlocks; block += kLoads) {
      uint32_t b[kLoads][2];
      Kv::load_keys(b, task.keys(chunk), key_scales, block * 8, step, lane);
#pragma unroll
      for (int i = 0; i < kLoads; ++i) mma_bf16(scores[block + i], a, b[i][0], b[i][1]);
    }
  }
  result.clear();
#pragma unroll
  for (int block = 0; block < kTokenBlocks; ++block) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = block * 8 + lane % 4 * 2 + i % 2;
      scores[block][i] = token < visible[i / 2] ? scores[block][i] * task.args.scale : -INFINITY;
      result.max[i / 2] = fmaxf(result.max[i / 2], scores[block][i]);
    }
  }
  for (int half = 0; half < 2; ++half) result.max[half] = quad_max(result.max[half]);
  uint32_t weights[kTokenBlocks / 2][4];
#pragma unroll
  for (int block = 0; block < kTokenBlocks; ++block) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float low = partial_weight(scores[block][2 * half], result.max[half]);
      const float high = partial_weight(scores[block][2 * half + 1], result.max[half]);
      result.total[half] += low + high;
      weights[block / 2][block % 2 * 2 + half] = bf16_pair(low, high);
    }
  }
  for (int half = 0; half < 2; ++half) result.total[half] = quad_sum(result.total[half]);
  const typename Kv::Scales value_scales = Kv::value_scales(task.scales(chunk), lane);
#pragma unroll
  for (int tokens = 0; tokens < kTokenBlocks / 2; tokens += kLoads / 2) {
#pragma unroll
    for (int dims = 0; dims < kDim / 16; ++dims) {
      uint32_t b[kLoads / 2][2][2];
      Kv::load_values(b, task.values(chunk), value_scales, tokens * 16, dims, lane);
#pragma unroll
      for (int i = 0; i < kLoads / 2; ++i) {
        mma_bf16(result.sums[2 * dims], weights[tokens + i], b[i][0][0], b[i][0][1]);
        mma_bf16(result.sums[2 * dims + 1], weights[tokens + i], b[i][1][0], b[i][1][1]);
      }
    }
  }
}

// Writes a partial result to global memory. `chunk` is 0 when the item's chunks are folded.
template <class Kv, int kWarps>
__device__ inline void store_partial(const Task<Kv, kWarps>& task, int chunk,
                                     const Partial<Kv::kDim>& partial) {
  constexpr int kDim = Kv::kDim;
  const int lane = threadIdx.x % 32, group = task.args.shape.group();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = threadIdx.x / 32 * kQueriesPerWarp + lane / 4 + 8 * half;
    if (query >= task.item.num_rows * group) continue;
    const int32_t index = task.item.first_partial + chunk * task.item.num_rows + query / group;
    const int64_t at =
        static_cast<int64_t>(index) * task.args.shape.heads + task.kv_head * group + query % group;
    if (lane % 4 == 0) {
      task.args.partials.scales[2 * at] = partial.max[half];
      task.args.partials.scales[2 * at + 1] = partial.total[half];
    }
    float* const sums = task.args.partials.sums + at * kDim + lane % 4 * 2;
#pragma unroll
    for (int block = 0; block < kDim / 8; ++block)
      *reinterpret_cast<float2*>(sums + block * 8) =
          make_float2(partial.sums[block][2 * half], partial.sums[block][2 * half + 1]);
  }
}

template <class Kv, int kWarps>
__device__ inline void attend(const Task<Kv, kWarps>& task) {
  const int chunks = task.chunks(), lane = threadIdx.x % 32;
  const int first_query = threadIdx.x / 32 * kQueriesPerWarp;
  const int32_t context[2] = {task.context(first_query + lane / 4), task.context(first_query + lane / 4 + 8)};
  task.load_chunk(0);
  copy_commit();
  task.load_queries();
  Partial<Kv::kDim> folded;
  folded.clear();
  for (int chunk = 0; chunk < chunks; ++chunk) {
    if (chunk + 1 < chunks) task.load_chunk(chunk + 1);
    copy_commit();
    copy_wait<1>();
    __syncthreads();
    const int first = chunk * kChunkTokens;
    int visible[2];
    for (int half = 0; half < 2; ++half) {
      const int seen = context[half] - task.item.first_position - first, left = task.item.num_tokens - first;
      visible[half] = seen < left ? seen : left;
    }
    Partial<Kv::kDim> partial;
    attend_chunk(task, chunk, visible, partial);
    if (task.item.folded != 0)
      folded.fold(partial);
    else
      store_partial(task, chunk, partial);
    __syncthreads();  // the next copy overwrites this stage
  }
  if (task.item.folded != 0) store_partial(task, 0, folded);
}

// Blocks of a multiprocessor that leave a thread enough registers: no spills (ptxas-ceilings.json).
template <class Kv, int kWarps>
constexpr int kPlannedBlocks = kWarps == 1                              ? 8
                               : Kv::kDim == 64 && Kv::kScaleBytes == 0 ? 3
                                                                        : 2;

template <class Kv, int kWarps>
__global__ void __launch_bounds__(kWarps * 32, kPlannedBlocks<Kv, kWarps>)
    mma_items(const __grid_constant__ MmaArgs args) {
  begin_overlapping();
  const StepHeader* const step = args.step;
  const AttentionItem* const items = step_items(step, args.large ? step->large_items : step->small_items);
  const int32_t count = args.large ? step->num_large_items : step->num_small_items;
  for (int32_t index = blockIdx.x; index < count * args.shape.kv_heads; index += gridDim.x)
    attend(Task<Kv, kWarps>{args, items[index / args.shape.kv_heads], index % args.shape.kv_heads,
                            shared_memory()});
}

constexpr int kSmallWarps = kSmallQueries / kQueriesPerWarp;
constexpr int kLargeWarps = kLargeQueries / kQueriesPerWarp;

template <class Kv, int kWarps>
void launch_items(Stream stream, int32_t blocks, const MmaArgs& args) {
  launch_overlapping<mma_items<Kv, kWarps>>(stream, {static_cast<uint32_t>(blocks)}, kWarps * 32,
                                            Layout<Kv>::shared_bytes(kWarps), args);
}

template <class Kv, int kWarps>
int32_t item_blocks() {
  return blocks_at_once<mma_items<Kv, kWarps>>(kWarps * 32, Layout<Kv>::shared_bytes(kWarps));
}

// Calls body<Kv>() with the class that reads keys and values of this format and head size.
template <class Body>
auto with_kv(int32_t head_dim, KvFormat format, Body body) {
  const auto with_dim = [&]<int kDim>() {
    return format == KvFormat::fp8 ? body.template operator()<Fp8Kv<kDim>>()
                                   : body.template operator()<Bf16Kv<kDim>>();
  };
  if (head_dim == 64) return with_dim.template operator()<64>();
  if (head_dim == 80) return with_dim.template operator()<80>();
  if (head_dim == 96) return with_dim.template operator()<96>();
  return with_dim.template operator()<128>();
}

}  // namespace

bool attention_mma_supports(HeadShape shape, KvFormat format) {
  const int32_t dim = shape.head_dim;
  return format != KvFormat::f32 && shape.group() <= kLargeQueries &&
         (dim == 64 || dim == 80 || dim == 96 || dim == 128);
}

void attention_mma(Stream stream, const StepHeader* step, HeadShape shape, const float* q, KvLayer kv,
                   AttentionPartials partials, AttentionGrid grid) {
  MmaArgs args = {step, false, shape, kLog2E / sqrtf(static_cast<float>(shape.head_dim)), q, kv, partials};
  with_kv(shape.head_dim, kv.format, [&]<class Kv>() {
    args.large = false;
    launch_items<Kv, kSmallWarps>(stream, grid.small_blocks, args);
    args.large = true;
    launch_items<Kv, kLargeWarps>(stream, grid.large_blocks, args);
  });
}

AttentionGrid attention_mma_grid(HeadShape shape, KvFormat format) {
  return with_kv(shape.head_dim, format, [&]<class Kv>() {
    return AttentionGrid{item_blocks<Kv, kSmallWarps>(), item_blocks<Kv, kLargeWarps>()};
  });
}

}  // namespace apar::cuda
