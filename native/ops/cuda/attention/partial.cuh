#pragma once

#include "ops/cuda/attention/math.cuh"
#include "ops/cuda/attention/task.cuh"

namespace apar::cuda {

// The partial results of attention in mma.cu: in registers, in shared memory, in global memory.

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

// Where a query's partial result lies. `chunk` is 0 when the item's chunks are folded.
__device__ inline int64_t partial_at(const MmaArgs& args, const Task& task, int chunk, int query) {
  const int32_t group = args.shape.group();
  const int32_t index = task.item.first_partial + chunk * task.item.num_rows + query / group;
  return static_cast<int64_t>(index) * args.shape.heads + task.kv_head * group + query % group;
}

// Writes a thread's share of a query's partial result: pairs of sums that lie kStride dimensions apart, from
// dimension 2 * lane on; lane 0 also writes the scales. With `fold` it is folded into the result that is
// there, as the merge kernel does, where the same lanes or earlier ones of the block have written that. All
// lanes of a warp call this; those without a query pass `valid` false. sum(pair, i): element i of a pair.
template <int kDim, int kStride, class Sum>
__device__ inline void store_row(const AttentionPartials& to, int64_t at, bool valid, int lane, float max,
                                 float total, bool fold, Sum sum) {
  float2* const scales = reinterpret_cast<float2*>(to.scales + 2 * at);
  float weight = 0, next_weight = 1;
  if (fold) {
    if (valid) {
      const float2 before = *scales;
      const float common = fmaxf(before.x, max);
      weight = partial_weight(before.x, common);
      next_weight = partial_weight(max, common);
      total = merged_sum(before.y, weight, total, next_weight);
      max = common;
    }
    __syncwarp();  // before the scales are overwritten
  }
  if (!valid) return;
  if (lane == 0) *scales = make_float2(max, total);
  float* const sums = to.sums + at * kDim + 2 * lane;
#pragma unroll
  for (int pair = 0; pair < kDim / kStride; ++pair) {
    float2* const stored = reinterpret_cast<float2*>(sums + pair * kStride);
    float2 value = make_float2(sum(pair, 0), sum(pair, 1));
    if (fold) {
      const float2 before = *stored;
      value = make_float2(merged_sum(before.x, weight, value.x, next_weight),
                          merged_sum(before.y, weight, value.y, next_weight));
    }
    *stored = value;
  }
}

template <class Kv>
__device__ inline void store_partial(const MmaArgs& args, const Task& task, int chunk, int first_query,
                                     bool fold, const Partial<Kv::kDim>& partial) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = first_query + lane / 4 + 8 * half;
    store_row<Kv::kDim, 8>(args.partials, partial_at(args, task, chunk, query),
                           query < num_queries(args, task), lane % 4, partial.max[half], partial.total[half],
                           fold, [&](int pair, int i) { return partial.sums[pair][2 * half + i]; });
  }
}

// The place of a pair of a query's sums among those that warps exchange. Eight rows begin in the same bank,
// so they are rotated.
template <int kDim>
__device__ inline int exchanged_pair(int query, int pair) {
  const int rotated = pair + query % 8 * 4;
  return query * (kDim / 2) + (rotated < kDim / 2 ? rotated : rotated - kDim / 2);
}

// Gives a warp's partial result to the other warps, in the unit of its ring that it has read last.
template <class Kv>
__device__ inline void give_partial(unsigned char* shared, unsigned char* unit,
                                    const Partial<Kv::kDim>& partial) {
  static_assert(kQueriesPerWarp * Kv::kDim * sizeof(float) <= Layout<Kv>::kUnitBytes);
  static_assert(7 * 4 <= Kv::kDim / 2);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  Exchange& with = exchange<Kv>(shared);
  float2* const sums = reinterpret_cast<float2*>(unit);
  __syncwarp();  // other lanes may still read the unit
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = lane / 4 + 8 * half;
#pragma unroll
    for (int block = 0; block < Kv::kDim / 8; ++block)
      sums[exchanged_pair<Kv::kDim>(query, block * 4 + lane % 4)] =
          make_float2(partial.sums[block][2 * half], partial.sums[block][2 * half + 1]);
    if (lane % 4 == 0) {
      with.scales[warp][query][0] = partial.max[half];
      with.scales[warp][query][1] = partial.total[half];
    }
  }
  if (lane == 0) with.sums[warp] = static_cast<int32_t>(unit - shared);
}

// Folds the partial results of the first `count` warps in order, as Partial::fold() does, and writes the
// result, or folds it into the one that is there. A thread folds every eighth pair of one query.
template <class Kv>
__device__ inline void fold_given(const MmaArgs& args, const Task& task, int count, bool fold,
                                  const unsigned char* shared, const Exchange& given) {
  constexpr int kPairs = Kv::kDim / 16;
  const int query = threadIdx.x / 8, lane = threadIdx.x % 8;
  float max = -INFINITY, total = 0;
  float sums[kPairs][2] = {};
  for (int warp = 0; warp < count; ++warp) {
    const float next_max = given.scales[warp][query][0];
    const float common = fmaxf(max, next_max);
    const float weight = partial_weight(max, common), next_weight = partial_weight(next_max, common);
    total = merged_sum(total, weight, given.scales[warp][query][1], next_weight);
    max = common;
    const float2* const next = reinterpret_cast<const float2*>(shared + given.sums[warp]);
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      const float2 sum = next[exchanged_pair<Kv::kDim>(query, pair * 8 + lane)];
      sums[pair][0] = merged_sum(sums[pair][0], weight, sum.x, next_weight);
      sums[pair][1] = merged_sum(sums[pair][1], weight, sum.y, next_weight);
    }
  }
  store_row<Kv::kDim, 16>(args.partials, partial_at(args, task, 0, query), query < num_queries(args, task),
                          lane, max, total, fold, [&](int pair, int i) { return sums[pair][i]; });
}

}  // namespace apar::cuda
