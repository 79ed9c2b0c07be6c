// Attention on the tensor cores, with keys and values in bf16 or fp8 and sums in f32. A block of four warps
// computes one pair of a work item and a KV head after another. Each warp computes 16 queries of a large
// item, and all chunks of it; of a small item it computes every fourth chunk, for all queries.
#include "ops/cuda/attention/partial.cuh"
#include "ops/cuda/device/overlap.cuh"

namespace apar::cuda {
namespace {

constexpr int kTokenBlocks = kChunkTokens / 8;

__device__ inline float quad_max(float value) {
  for (int mask = 1; mask < 4; mask *= 2) value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, mask));
  return value;
}
__device__ inline float quad_sum(float value) {
  for (int mask = 1; mask < 4; mask *= 2) value += __shfl_xor_sync(kFullWarp, value, mask);
  return value;
}

// Computes the partial result of one chunk for 16 queries. `visible`: how many tokens of the chunk each of
// the thread's two queries sees. next() returns the chunk's keys and then its values, kTokens at a time.
template <class Kv, int kTokens, class Next>
__device__ inline void attend_chunk(const unsigned char* queries, float scale, const int (&visible)[2],
                                    Next next, Partial<Kv::kDim>& result) {
  constexpr int kDim = Kv::kDim, kLoads = Kv::kLoadTokens / 8, kBlocks = kTokens / 8;
  const int lane = threadIdx.x % 32;
  float scores[kTokenBlocks][4] = {};
#pragma unroll
  for (int first = 0; first < kTokenBlocks; first += kBlocks) {
    const unsigned char* const keys = next();
    const typename Kv::Scales scales = Kv::key_scales(keys + kTokens * Kv::kRowBytes, lane);
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step) {
      uint32_t a[4];
      load_matrices(a, queries + Layout<Kv>::QueryRows::at(0, lane % 16, step * 2 + lane / 16));
#pragma unroll
      for (int block = 0; block < kBlocks; block += kLoads) {
        uint32_t b[kLoads][2];
        Kv::load_keys(b, keys, scales, block * 8, step, lane);
#pragma unroll
        for (int i = 0; i < kLoads; ++i) mma_bf16(scores[first + block + i], a, b[i][0], b[i][1]);
      }
    }
  }
  result.clear();
#pragma unroll
  for (int block = 0; block < kTokenBlocks; ++block) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = block * 8 + lane % 4 * 2 + i % 2;
      scores[block][i] = token < visible[i / 2] ? scores[block][i] * scale : -INFINITY;
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
#pragma unroll
  for (int first = 0; first < kTokenBlocks / 2; first += kBlocks / 2) {
    const unsigned char* const values = next();
    const typename Kv::Scales scales = Kv::value_scales(values + kTokens * Kv::kRowBytes, lane);
#pragma unroll
    for (int tokens = 0; tokens < kBlocks / 2; tokens += kLoads / 2) {
#pragma unroll
      for (int dims = 0; dims < kDim / 16; ++dims) {
        uint32_t b[kLoads / 2][2][2];
        Kv::load_values(b, values, scales, tokens * 16, dims, lane);
#pragma unroll
        for (int i = 0; i < kLoads / 2; ++i) {
          mma_bf16(result.sums[2 * dims], weights[first + tokens + i], b[i][0][0], b[i][0][1]);
          mma_bf16(result.sums[2 * dims + 1], weights[first + tokens + i], b[i][1][0], b[i][1][1]);
        }
      }
    }
  }
}

// How many of the task's tokens its queries `query` and query + 8 see; not positive if none.
struct Visible {
  int32_t tokens[2];

  __device__ Visible(const MmaArgs& args, const Task& task, int query) {
    for (int half = 0; half < 2; ++half) {
      const int32_t seen = context_of(args, task, query + 8 * half) - task.item.first_position;
      tokens[half] = seen < task.item.num_tokens ? seen : task.item.num_tokens;
    }
  }
};

// Computes the block's large items from `index` on, and returns the number of its first item beyond them.
template <class Kv>
__device__ inline int32_t attend_large(const MmaArgs& args, int32_t index, int32_t end) {
  unsigned char* const shared = shared_memory();
  unsigned char* const queries = warp_queries<Kv>(shared);
  const int first_query = static_cast<int>(threadIdx.x / 32) * kQueriesPerWarp, lane = threadIdx.x % 32;
  Chunks<Kv> ring(args, index, end, shared);
  for (; index < end; index = next_in_turn(index)) {
    const Task task = task_at(args, index);
    const int chunks = task.chunks();
    const bool has_queries = first_query < num_queries(args, task);
    if (has_queries) load_queries<Kv>(args, task, first_query, queries);
    const Visible visible(args, task, first_query + lane / 4);
    Partial<Kv::kDim> folded;
    folded.clear();
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const unsigned char* at = ring.next();
      if (!has_queries) continue;
      const int first = chunk * kChunkTokens;
      const int seen[2] = {visible.tokens[0] - first, visible.tokens[1] - first};
      const auto next_side = [&] {
        const unsigned char* const side = at;
        at += Layout<Kv>::kSideBytes;
        return side;
      };
      Partial<Kv::kDim> partial;
      attend_chunk<Kv, kChunkTokens>(queries, args.scale, seen, next_side, partial);
      if (task.item.folded == 0) {
        store_partial<Kv>(args, task, chunk, first_query, false, partial);
        continue;
      }
      folded.fold(partial);
      if (chunk % kSpanChunks != kSpanChunks - 1 && chunk != chunks - 1) continue;
      store_partial<Kv>(args, task, 0, first_query, chunk >= kSpanChunks, folded);
      folded.clear();
    }
  }
  return index;
}

// Computes the block's small items from `index` on.
template <class Kv>
__device__ inline void attend_small(const MmaArgs& args, int32_t index, int32_t end) {
  unsigned char* const shared = shared_memory();
  unsigned char* const queries = warp_queries<Kv>(shared);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  Units<Kv> units(args, index, end, shared);
  for (; index < end; index = next_in_turn(index)) {
    const Task task = task_at(args, index);
    const int chunks = task.chunks();
    if (warp < chunks) load_queries<Kv>(args, task, 0, queries);
    const Visible visible(args, task, lane / 4);
    for (int span = 0; span < chunks; span += kSpanChunks) {
      const int count = chunks - span < kSpanChunks ? chunks - span : kSpanChunks;
      // Folding one partial result into an empty one does not change it.
      const bool exchanges = task.item.folded != 0 && count > 1;
      if (warp < count) {
        const int chunk = span + warp, first = chunk * kChunkTokens;
        const int seen[2] = {visible.tokens[0] - first, visible.tokens[1] - first};
        Partial<Kv::kDim> partial;
        attend_chunk<Kv, Kv::kUnitTokens>(
            queries, args.scale, seen, [&] { return units.next(); }, partial);
        if (exchanges)
          give_partial<Kv>(shared, units.current(), partial);
        else
          store_partial<Kv>(args, task, task.item.folded != 0 ? 0 : chunk, 0, span > 0, partial);
      }
      if (!exchanges) continue;
      __syncthreads();
      fold_given<Kv>(args, task, count, span > 0, shared, exchange<Kv>(shared));
      __syncthreads();  // the next copies overwrite what was exchanged
    }
  }
}

template <class Kv>
__global__ void __launch_bounds__(kWarps * 32, Kv::kMinBlocks)
    mma_items(const __grid_constant__ MmaArgs args) {
  begin_overlapping();
  const int32_t heads = args.shape.kv_heads;
  const int32_t index = attend_large<Kv>(args, blockIdx.x, args.step->num_large_items * heads);
  __syncthreads();  // the rings overlap
  attend_small<Kv>(args, index, args.step->num_items * heads);
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
  const MmaArgs args = {step,     shape,     kLog2E / sqrtf(static_cast<float>(shape.head_dim)), q, kv,
                        partials, grid.depth};
  with_kv(shape.head_dim, kv.format, [&]<class Kv>() {
    launch_overlapping<mma_items<Kv>>(stream, {static_cast<uint32_t>(grid.blocks)}, kWarps * 32,
                                      Layout<Kv>::bytes(grid.depth), args);
  });
}

// Among depths with the same number of blocks, the largest.
AttentionGrid attention_mma_grid(HeadShape shape, KvFormat format) {
  return with_kv(shape.head_dim, format, [&]<class Kv>() {
    AttentionGrid grid = {blocks_at_once<mma_items<Kv>>(kWarps * 32, Layout<Kv>::bytes(2)), 2};
    for (int depth = 3; depth <= Kv::kMaxDepth; ++depth) {
      const int32_t blocks = fitting_blocks<mma_items<Kv>>(kWarps * 32, Layout<Kv>::bytes(depth));
      if (blocks >= grid.blocks) grid = {blocks, depth};
    }
    return grid;
  });
}

}  // namespace apar::cuda
