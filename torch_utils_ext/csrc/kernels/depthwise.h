// Depthwise 3x3 and its gradients. A thread processes strips of V columns by `height` rows of one plane and keeps the three rows
// that it needs in registers. Loops are unrolled by three, so that the register of each row is known. Rows that neighbouring strips
// share come from L1. Planes of all sizes are spread over threads in the same way; a small plane has few strips, so a block then
// holds many planes.
#pragma once
#include "reduce.h"

namespace tux {

// Planes of H x W pixels in strips of `height` rows: `columns` strips side by side, `strips` in a plane.
struct Strips { int64_t planes; int H, W, height; Divisor C, columns, strips; };

struct Strip { int row, column, end; };

// The strip of that number in its plane, of V columns: its first row and column, and the row behind it.
template <int V> __device__ __forceinline__ Strip strip_of(const Strips& in, int number)
{
    Strip at;
    divide(number, in.columns, at.row, at.column);
    at.row *= in.height;
    at.column *= V;
    at.end = min(at.row + in.height, in.H);
    return at;
}

// The strips of planes in `slices` parts of `share` strips, and for each part a group of 2^group threads.
struct Slices { Divisor slices; int share, group; };

// The plane and slice of a thread in a block of `threads`.
__device__ __forceinline__ void slice_of(const Slices& in, int threads, int64_t& plane, int& slice)
{
    divide(int64_t(blockIdx.x) * (threads >> in.group) + (threadIdx.x >> in.group), in.slices, plane, slice);
}

// values[i] = plane[row][column - 1 + i] for i = 0..V+1, zeros outside the plane. V > 1 divides W and column.
template <int V, class T>
__device__ __forceinline__ void load_row(const T* plane, int row, int column, int H, int W, Acc<T> (&values)[V + 2])
{
    if (row < 0 || row >= H) {
#pragma unroll
        for (int i = 0; i < V + 2; i++)
            values[i] = 0;
        return;
    }
    const T* at = plane + row * W + column;
    values[0] = column > 0 ? widen<T>(at[-1]) : Acc<T>(0);
    load<V>(at, values + 1);
    values[V + 1] = column + V < W ? widen<T>(at[V]) : Acc<T>(0);
}

// filter[i] = k[i], or k[8 - i].
template <class A> __device__ __forceinline__ void load_filter(const A* k, bool flip, A (&filter)[9])
{
#pragma unroll
    for (int i = 0; i < 9; i++)
        filter[i] = k[flip ? 8 - i : i];
}

// sum[i] += the correlation of one row with one row of the filter.
template <int V, class A> __device__ __forceinline__ void correlate_row(const A (&row)[V + 2], const A* filter, A (&sum)[V])
{
#pragma unroll
    for (int v = 0; v < 3; v++)
#pragma unroll
        for (int i = 0; i < V; i++)
            sum[i] += row[i + v] * filter[v];
}

//----------------------------------------------------------------------------
// y = correlation of x with k, or with k flipped, which is the gradient for x. A strip for each thread.

template <class T, int V> __global__ void __launch_bounds__(kThreads)
depthwise_kernel(const T* x, const Acc<T>* k, int k_per_sample, int flip, T* y, Strips in)
{
    const int H = in.H, W = in.W;
    int64_t plane;
    int strip;
    divide(int64_t(blockIdx.x) * kThreads + threadIdx.x, in.strips, plane, strip);
    if (plane >= in.planes)
        return;
    const Strip at = strip_of<V>(in, strip);
    const int row = at.row, column = at.column, end = at.end;
    Acc<T> filter[9], rows[3][V + 2];
    load_filter(k + (k_per_sample ? plane : remainder_of(int(plane), in.C)) * 9, flip, filter);
    x += plane * H * W;
    y += plane * H * W;
    load_row<V>(x, row - 1, column, H, W, rows[0]);
    load_row<V>(x, row, column, H, W, rows[1]);
    for (int first = row; first < end; first += 3)
#pragma unroll
        for (int r = 0; r < 3; r++) {
            if (first + r >= end)
                return;
            load_row<V>(x, first + r + 1, column, H, W, rows[(r + 2) % 3]);
            Acc<T> sum[V] = {};
#pragma unroll
            for (int u = 0; u < 3; u++)
                correlate_row<V>(rows[(r + u) % 3], filter + 3 * u, sum);
            store<V>(y + (first + r) * W + column, sum);
        }
}

//----------------------------------------------------------------------------
// The gradients in one pass over x and the output's gradient g. Each pair (x[p], g[p + d]) of neighbours, d = (u - 1, v - 1),
// serves both:     gx[p] += g[p + d] k[2 - u][2 - v]        gk[2 - u][2 - v] += x[p] g[p + d]
// A group of threads for each slice of a plane's strips. gk: [plane][9][slice]. With GX = false k and gx are not touched.

template <class T, int V, bool GX> __global__ void __launch_bounds__(kThreads, 2)
depthwise_backward_kernel(const T* x, const Acc<T>* k, int k_per_sample, const T* g, T* gx, Acc<T>* gk, Strips in, Slices parts)
{
    const int H = in.H, W = in.W, group = 1 << parts.group;
    int64_t plane;
    int slice;
    slice_of(parts, kThreads, plane, slice);
    Acc<T> filter[9], sums[9] = {};
    if (plane < in.planes) {
        if (GX)
            load_filter(k + (k_per_sample ? plane : remainder_of(int(plane), in.C)) * 9, true, filter);
        const int64_t offset = plane * H * W;
        const int last = min((slice + 1) * parts.share, int(in.strips.d));
        for (int strip = slice * parts.share + (threadIdx.x & (group - 1)); strip < last; strip += group) {
            const Strip at = strip_of<V>(in, strip);
            const int row = at.row, column = at.column, end = at.end;
            Acc<T> rows[3][V + 2], centre[V];
            load_row<V>(g + offset, row - 1, column, H, W, rows[0]);
            load_row<V>(g + offset, row, column, H, W, rows[1]);
            for (int first = row; first < end; first += 3)
#pragma unroll
                for (int r = 0; r < 3; r++) {
                    if (first + r >= end)
                        break;
                    load_row<V>(g + offset, first + r + 1, column, H, W, rows[(r + 2) % 3]);
                    load<V>(x + offset + (first + r) * W + column, centre);
#pragma unroll
                    for (int t = 0; t < 9; t++)
#pragma unroll
                        for (int i = 0; i < V; i++)
                            sums[8 - t] += centre[i] * rows[(r + t / 3) % 3][i + t % 3];
                    if (GX) {
                        Acc<T> sum[V] = {};
#pragma unroll
                        for (int u = 0; u < 3; u++)
                            correlate_row<V>(rows[(r + u) % 3], filter + 3 * u, sum);
                        store<V>(gx + offset + (first + r) * W + column, sum);
                    }
                }
        }
    }
    sum_group<kThreads>(sums, group, [&](int m, Acc<T> sum) {
        if (plane < in.planes)
            gk[(plane * 9 + m) * parts.slices.d + slice] = sum;
    });
}

}   // namespace tux
