// Twofold upsampling with four 3x3 phase filters, and its gradients. H, W: size of the small image.
#pragma once
#include "depthwise.h"
#include "epilogue.h"

namespace tux {

// Blocks of the gradients are small, because a thread needs so many registers that a large block leaves many of them unused.
constexpr unsigned kUp2Threads = 128;

// filter[i] = k[i]; k is a multiple of a vector if V > 1.
template <int V, class A> __device__ __forceinline__ void load_phases(const A* k, A (&filter)[36])
{
    if constexpr (V > 1) {
        load_wide<36>(k, filter);
    } else {
#pragma unroll
        for (int i = 0; i < 36; i++)
            filter[i] = k[i];
    }
}

// P pairs of neighbours in the large image. If V > 1, rows and strips begin at multiples of a vector; else they may not.
template <int V, int P, class T> __device__ __forceinline__ void load_pairs(const T* address, Acc<T>* values)
{
    if constexpr (V > 1) {
        load<2 * P>(address, values);
    } else {
#pragma unroll
        for (int i = 0; i < 2 * P; i++)
            values[i] = widen<T>(address[i]);
    }
}

template <int V, class A> __device__ __forceinline__ void load_noise(const A* address, A* values)
{
    if constexpr (V > 1)
        load_wide<2 * V>(address, values);
    else
        load_pairs<1, 1>(address, values);
}

template <int V, class T> __device__ __forceinline__ void store_pairs(T* address, const Acc<T>* values)
{
    if constexpr (V > 1) {
        store<2 * V>(address, values);
    } else {
        address[0] = narrow<T>(values[0]);
        address[1] = narrow<T>(values[1]);
    }
}

//----------------------------------------------------------------------------
// y[2i + a][2j + b] = correlation of x around (i, j) with k[2a + b], with its epilogue if EPILOGUE is true; else args are not read.
// A strip of V columns by `height` rows of x for each thread.

template <class T, int V, bool EPILOGUE> __global__ void __launch_bounds__(kThreads, EPILOGUE ? 2 : 3)
depthwise_up2_kernel(const T* x, const Acc<T>* k, int k_per_sample, EpilogueArgs<Acc<T>> args, T* y, Strips in)
{
    const int H = in.H, W = in.W;
    int64_t plane;
    int strip, n, c;
    divide(int64_t(blockIdx.x) * kThreads + threadIdx.x, in.strips, plane, strip);
    if (plane >= in.planes)
        return;
    const Strip at = strip_of<V>(in, strip);
    const int row = at.row, column = at.column, end = at.end;
    Acc<T> filter[36], rows[3][V + 2];
    divide(int(plane), in.C, n, c);
    load_phases<V>(k + (k_per_sample ? plane : c) * 36, filter);
    x += plane * H * W;
    y += plane * 4 * H * W;
    const Acc<T>* noise = args.noise + (args.noise_per_sample ? int64_t(n) * 4 * H * W : 0);
    const Acc<T> bias = EPILOGUE && args.bias ? args.bias[c] : Acc<T>(0);
    load_row<V>(x, row - 1, column, H, W, rows[0]);
    load_row<V>(x, row, column, H, W, rows[1]);
    for (int first = row; first < end; first += 3)
#pragma unroll
        for (int r = 0; r < 3; r++) {
            if (first + r >= end)
                return;
            load_row<V>(x, first + r + 1, column, H, W, rows[(r + 2) % 3]);
#pragma unroll
            for (int a = 0; a < 2; a++) {
                const int pixel = (2 * (first + r) + a) * (2 * W) + 2 * column;
                Acc<T> left[V] = {}, right[V] = {}, both[2 * V] = {};
                if constexpr (EPILOGUE) {
                    if (args.noise)
                        load_noise<V>(noise + pixel, both);
#pragma unroll
                    for (int i = 0; i < V; i++) {
                        left[i] = both[2 * i] + bias;
                        right[i] = both[2 * i + 1] + bias;
                    }
                }
#pragma unroll
                for (int u = 0; u < 3; u++) {
                    correlate_row<V>(rows[(r + u) % 3], filter + 18 * a + 3 * u, left);
                    correlate_row<V>(rows[(r + u) % 3], filter + 18 * a + 9 + 3 * u, right);
                }
#pragma unroll
                for (int i = 0; i < V; i++) {
                    both[2 * i] = left[i];
                    both[2 * i + 1] = right[i];
                }
                if constexpr (EPILOGUE)
#pragma unroll
                    for (int i = 0; i < 2 * V; i++)
                        both[i] = epilogue_value(args, both[i]);
                store_pairs<V>(y + pixel, both);
            }
        }
}

//----------------------------------------------------------------------------
// The gradients. With the large image's six rows and columns around a small pixel p = (i, j), at q = (2i - 2 + s, 2j - 2 + t) for
// s, t = 0..5, each pair (x[p], g[q]) serves both:      gx[p] += g[q] K[s][t]        gK[s][t] += x[p] g[q]
// where K[2(2 - u) + a][2(2 - v) + b] = k[2a + b][u][v].

__device__ __forceinline__ int up2_tap(int s, int t)
{
    return ((s % 2) * 2 + t % 2) * 9 + (2 - s / 2) * 3 + 2 - t / 2;
}

// values[i] = plane[row][2 column - 2 + i] of the large image for i = 0..2V+3, zeros outside.
template <int V, class T>
__device__ __forceinline__ void load_large_row(const T* plane, int row, int column, int H, int W, Acc<T> (&values)[2 * V + 4])
{
#pragma unroll
    for (int i = 0; i < 2 * V + 4; i++)
        values[i] = 0;
    if (row < 0 || row >= 2 * H)
        return;
    const T* at = plane + row * (2 * W) + 2 * column;
    if (column > 0)
        load_pairs<V, 1>(at - 2, values);
    load_pairs<V, V>(at, values + 2);
    if (column + V < W)
        load_pairs<V, 1>(at + 2 * V, values + 2 + 2 * V);
}

// Writes gx if GX is true and gx is not NULL, and gk, [plane][36][slice], likewise. x is read only for gk, k only for gx. A group
// of threads for each slice.
template <class T, int V, bool GX, bool GK> __global__ void __launch_bounds__(kUp2Threads, 3)
depthwise_up2_backward_kernel(const T* x, const Acc<T>* k, int k_per_sample, const T* g, T* gx, Acc<T>* gk, Strips in, Slices parts)
{
    const int H = in.H, W = in.W, group = 1 << parts.group;
    int64_t plane;
    int slice;
    slice_of(parts, kUp2Threads, plane, slice);
    const bool with_x = GX && gx, with_k = GK && gk;
    Acc<T> filter[36], sums[36] = {};
    if (plane < in.planes) {
        if (with_x)
            load_phases<V>(k + (k_per_sample ? plane : remainder_of(int(plane), in.C)) * 36, filter);
        const int64_t offset = plane * H * W;
        const T* large = g + 4 * offset;
        const int last = min((slice + 1) * parts.share, int(in.strips.d));
        for (int strip = slice * parts.share + (threadIdx.x & (group - 1)); strip < last; strip += group) {
            const Strip at = strip_of<V>(in, strip);
            const int row = at.row, column = at.column, end = at.end;
            Acc<T> rows[6][2 * V + 4];
#pragma unroll
            for (int s = 0; s < 4; s++)
                load_large_row<V>(large, 2 * row - 2 + s, column, H, W, rows[s]);
            for (int first = row; first < end; first += 3)
#pragma unroll
                for (int r = 0; r < 3; r++) {
                    if (first + r >= end)
                        break;
#pragma unroll
                    for (int s = 4; s < 6; s++)
                        load_large_row<V>(large, 2 * (first + r) - 2 + s, column, H, W, rows[(2 * r + s) % 6]);
                    Acc<T> centre[V], sum[V] = {};
                    if (with_k) {
                        load<V>(x + offset + (first + r) * W + column, centre);
#pragma unroll
                        for (int s = 0; s < 6; s++)
#pragma unroll
                            for (int t = 0; t < 6; t++)
#pragma unroll
                                for (int i = 0; i < V; i++)
                                    sums[up2_tap(s, t)] += centre[i] * rows[(2 * r + s) % 6][2 * i + t];
                    }
                    if (with_x) {
#pragma unroll
                        for (int s = 0; s < 6; s++)
#pragma unroll
                            for (int t = 0; t < 6; t++)
#pragma unroll
                                for (int i = 0; i < V; i++)
                                    sum[i] += rows[(2 * r + s) % 6][2 * i + t] * filter[up2_tap(s, t)];
                        store<V>(gx + offset + (first + r) * W + column, sum);
                    }
                }
        }
    }
    if (with_k)
        sum_group<kUp2Threads>(sums, group, [&](int m, Acc<T> sum) {
            if (plane < in.planes)
                gk[(plane * 36 + m) * parts.slices.d + slice] = sum;
        });
}

}   // namespace tux
