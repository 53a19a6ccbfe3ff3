// Sums over groups of neighbouring threads and their second stages, in a fixed order, so that equal inputs give equal bits.
#pragma once
#include "device.h"

namespace tux {

// Sum over a segment of `width` lanes (a power of two up to 32). All lanes of the warp take part, and all lanes of a segment get the sum.
template <class A> __device__ __forceinline__ A sum_lanes(A value, int width)
{
    for (int bits = width / 2; bits > 0; bits /= 2)
        value += __shfl_xor_sync(kAllLanes, value, bits);
    return value;
}

// Sums of M values over groups of `group` neighbouring threads, a power of two up to the THREADS of a block. Called once, by all
// threads of the block; sink(m, sum) is called for each m in one thread of each group.
template <int THREADS, int M, class A, class Sink> __device__ __forceinline__ void sum_group(const A (&values)[M], int group, Sink sink)
{
    SHARED_ARRAY(A, part, THREADS / 32 * M);
    const int thread = threadIdx.x, within = thread & (group - 1);
    if (group <= 32) {
#pragma unroll
        for (int m = 0; m < M; m++) {
            const A sum = sum_lanes(values[m], group);
            if ((m & (group - 1)) == within)
                sink(m, sum);
        }
        return;
    }
#pragma unroll
    for (int m = 0; m < M; m++) {
        const A sum = sum_lanes(values[m], 32);
        if (thread % 32 == 0)
            part[thread / 32 * M + m] = sum;
    }
    __syncthreads();
    const int first = (thread - within) / 32;
    if (within < M) {                       // M < 64 <= group
        A sum = part[first * M + within];
        for (int warp = first + 1; warp < first + group / 32; warp++)
            sum += part[warp * M + within];
        sink(within, sum);
    }
}

//----------------------------------------------------------------------------
// Second stages.

// out[row] = sum of `slices` neighbours part[row][slice]: a warp for each row.
template <class A> __global__ void __launch_bounds__(kThreads) sum_rows_kernel(const A* part, A* out, int64_t rows, int slices)
{
    const int64_t row = (int64_t(blockIdx.x) * kThreads + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    A sum = 0;
    if (row < rows)
        for (int slice = lane; slice < slices; slice += 32)
            sum += part[row * slices + slice];
    sum = sum_lanes(sum, 32);
    if (row < rows && lane == 0)
        out[row] = sum;
}

// out[row][i] = sum over slices of part[row][slice][i]: a thread for each element.
template <class A> __global__ void __launch_bounds__(kThreads) sum_slices_kernel(const A* part, A* out, int64_t rows, int slices,
                                                                               Divisor count)
{
    const int64_t unit = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (unit >= rows * count.d)
        return;
    int64_t row;
    int i;
    divide(unit, count, row, i);
    const A* at = part + row * slices * count.d + i;
    A sum = at[0];
    for (int slice = 1; slice < slices; slice++)
        sum += at[int64_t(slice) * count.d];
    out[unit] = sum;
}

}   // namespace tux
