// A walk over the channels of some pixels, for element-wise gradients with sums in two directions: over the pixels of a channel
// and over the channels of a pixel, in one pass.
//
// A block takes a tile of `lanes` * K * V pixels of one sample and `chunk` of its channels. It has kThreads / lanes groups of
// `lanes` threads; each group processes one channel at a time, and each thread K vectors of V pixels. An Op has
//     kSums                                       number of sums over pixels
//     visit<V>(n, c, C, pixel, pixels, sums, noise)   works on one vector, adds to its sums and to the pixels' sums over channels
//     row(n, c, C, m)                             the row of sum m of this channel in its array
#pragma once
#include "reduce.h"

namespace tux {

// sums: for each m an array [rows][tiles], or NULL; noise: [N][chunks][pixels], or NULL.
template <class A> struct ChannelSums { A* sums[4]; A* noise; };

template <class T, int V, int K, class Op> __global__ void __launch_bounds__(kThreads)
channels_kernel(Op op, ChannelSums<Acc<T>> out, int C, int pixels, int lanes, Divisor tiles, int chunk, Divisor chunks)
{
    SHARED_ARRAY(Acc<T>, part, kThreads * K * V);
    const int thread = threadIdx.x, group = thread / lanes, groups = kThreads / lanes;
    int64_t n, rest;
    int tile, which;
    divide(int64_t(blockIdx.x), tiles, rest, tile);
    divide(rest, chunks, n, which);
    const int first_pixel = (tile * K * lanes + thread % lanes) * V, end = min(C, (which + 1) * chunk);
    Acc<T> noise[K][V] = {};
    for (int first = which * chunk; first < end; first += groups) {     // equally many iterations for all threads, because they meet below
        const int c = first + group;
        Acc<T> sums[Op::kSums] = {};
#pragma unroll
        for (int j = 0; j < K; j++)
            if (c < end && first_pixel + j * lanes * V < pixels)
                op.template visit<V>(n, c, C, first_pixel + j * lanes * V, pixels, sums, noise[j]);
#pragma unroll
        for (int m = 0; m < Op::kSums; m++) {
            if (!out.sums[m])
                continue;
            const Acc<T> sum = sum_lanes(sums[m], lanes);
            if (c < end && thread % lanes == 0)
                out.sums[m][op.row(n, c, C, m) * tiles.d + tile] = sum;
        }
    }
    if (!out.noise)
        return;
#pragma unroll
    for (int i = 0; i < K * V; i++)
        part[i * kThreads + thread] = noise[i / V][i % V];
    __syncthreads();
    if (group > 0)
        return;
#pragma unroll
    for (int j = 0; j < K; j++) {
        const int pixel = first_pixel + j * lanes * V;
        if (pixel >= pixels)
            return;
#pragma unroll
        for (int i = 0; i < V; i++)
            for (int other = 1; other < groups; other++)
                noise[j][i] += part[(j * V + i) * kThreads + other * lanes + thread];
        store_wide<V>(out.noise + (n * chunks.d + which) * pixels + pixel, noise[j]);
    }
}

}   // namespace tux
