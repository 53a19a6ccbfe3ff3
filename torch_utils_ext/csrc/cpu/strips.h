// Depthwise kernels work on strips: a few rows of one plane in the type of arithmetic, with zeros around them, small enough for
// the first-level cache. Rows of any width and dtype then need no code for edges.
//
//   a strip row:   | lanes - 1 cells | 0 | W values | zeros to the next multiple of lanes | lanes zeros |
//   row j of a strip is row first - 1 + j of the plane; rows outside the plane are zero

#pragma once

#include <stdlib.h>
#include "vec.h"

namespace tux {

const int strip_bytes = 10 * 1024;      // aim for one strip; two or three share the cache with the output

template <class A> struct strip {
    A* data;
    int64_t stride;

    A* row(int64_t j) const { return data + j * stride + lanes<A>::count; }     // its first value, at column 0

    static int64_t stride_for(int64_t W) { const int L = lanes<A>::count; return (W + L - 1) / L * L + 2 * L; }

    static int64_t rows_for(int64_t H, int64_t W) {     // rows of output that one strip serves
        int64_t rows = strip_bytes / (stride_for(W) * (int64_t)sizeof(A)) - 2;
        rows = rows < 4 ? 4 : rows / 4 * 4;
        return rows < H ? rows : H;
    }

    static int64_t cells(int64_t rows, int64_t W) { return (rows + 2) * stride_for(W); }
};

//---------------------------------------------------------------------------
// Scratch memory of this thread, zeroed: cells values of type A. NULL where there is none.

template <class A> A* scratch(int64_t cells) {
    struct owner {
        void* memory = nullptr;
        int64_t bytes = 0;
        ~owner() { free(memory); }
    };
    static thread_local owner own;
    int64_t bytes = (cells * (int64_t)sizeof(A) + 4095) / 4096 * 4096;
    if (bytes > own.bytes) {
        free(own.memory);
        own.memory = aligned_alloc(4096, bytes);
        own.bytes = own.memory ? bytes : 0;
    }
    if (own.memory) memset(own.memory, 0, cells * sizeof(A));
    return (A*)own.memory;
}

//---------------------------------------------------------------------------
// Rows first - 1 ... first + rows of a plane into a strip whose zeros are in place.

template <class T, class A = arithmetic_t<T>>
TUX_INLINE void stage_row(const T* from, A* to, int64_t W) {
    const int L = lanes<A>::count;
    int64_t i = 0;
    for (; i + L <= W; i += L) store(to + i, load(from + i));
    if (i < W) store(to + i, load_part(from + i, (int)(W - i)));
}

template <class T, class A = arithmetic_t<T>>
TUX_INLINE void stage(const T* plane, strip<A> s, int64_t first, int64_t rows, int64_t H, int64_t W) {
    for (int64_t j = 0; j < rows + 2; j++) {
        int64_t r = first - 1 + j;
        if (r >= 0 && r < H) stage_row(plane + r * W, s.row(j), W);
        else memset(s.row(j), 0, W * sizeof(A));
    }
}

// The same for one phase of a plane twice as large: pixel (2r + a, 2c + b) of the plane is pixel (r, c) of phase 2a + b.
template <class T, class A = arithmetic_t<T>>
TUX_INLINE void stage_phases(const T* plane, const strip<A>* s, int64_t first, int64_t rows, int64_t H, int64_t W) {
    const int L = lanes<A>::count;
    for (int64_t j = 0; j < rows + 2; j++) {
        int64_t r = first - 1 + j;
        for (int a = 0; a < 2; a++) {
            A* even = s[2 * a].row(j);
            A* odd = s[2 * a + 1].row(j);
            if (r < 0 || r >= H) {
                memset(even, 0, W * sizeof(A));
                memset(odd, 0, W * sizeof(A));
                continue;
            }
            const T* from = plane + (2 * r + a) * 2 * W;
            for (int64_t i = 0; i < W; i += L) {
                vec<A> lo, hi;
                int64_t left = 2 * (W - i);
                if (left >= 2 * L) lo = load(from + 2 * i), hi = load(from + 2 * i + L);
                else if (left > L) lo = load(from + 2 * i), hi = load_part(from + 2 * i + L, (int)(left - L));
                else if (left == L) lo = load(from + 2 * i), hi = vec<A>{};
                else lo = load_part(from + 2 * i, (int)left), hi = vec<A>{};
                mask<A> pick;
                TUX_UNROLL
                for (int l = 0; l < L; l++) pick[l] = 2 * l;
                store(even + i, __builtin_shuffle(lo, hi, pick));
                store(odd + i, __builtin_shuffle(lo, hi, pick + 1));
            }
        }
    }
}

//---------------------------------------------------------------------------
// acc[r] += the 3x3 neighbourhoods of rows r = 0 ... R - 1 (strip rows r ... r + 2) at columns i ... i + lanes - 1, times k[9].
// step: from a column to the next.

template <int R, class A>
TUX_INLINE void correlate(const A* row, int64_t stride, int64_t step, const vec<A>* k, vec<A>* acc) {
    TUX_UNROLL
    for (int j = 0; j < R + 2; j++)
        TUX_UNROLL
        for (int v = 0; v < 3; v++) {
            vec<A> x = load(row + j * stride + (v - 1) * step);
            keep(x);
            TUX_UNROLL
            for (int u = 2; u >= 0; u--)
                if (j - u >= 0 && j - u < R) acc[j - u] += k[3 * u + v] * x;
        }
}

// sum[9] += products of g rows 0 ... R - 1 with the neighbourhoods of x: the gradient of k.
template <int R, class A>
TUX_INLINE void accumulate(const A* x, int64_t x_stride, int64_t x_step, const A* g, int64_t g_stride, vec<A>* sum) {
    vec<A> gv[R];
    TUX_UNROLL
    for (int r = 0; r < R; r++) {
        gv[r] = load(g + r * g_stride);
        keep(gv[r]);
    }
    TUX_UNROLL
    for (int j = 0; j < R + 2; j++)
        TUX_UNROLL
        for (int v = 0; v < 3; v++) {
            vec<A> here = load(x + j * x_stride + (v - 1) * x_step);
            keep(here);
            TUX_UNROLL
            for (int u = 2; u >= 0; u--)
                if (j - u >= 0 && j - u < R) sum[3 * u + v] += gv[j - u] * here;
        }
}

// A strip's worth of both, R rows at a time and what remains one by one.
template <class A>
TUX_INLINE void accumulate_strip(strip<A> x, strip<A> g, int64_t rows, int64_t W, A* total) {
    vec<A> sum[9] = {};
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4)
        for (int64_t i = 0; i < W; i += lanes<A>::count)
            accumulate<4>(x.row(r) + i, x.stride, 1, g.row(r + 1) + i, g.stride, sum);
    for (; r < rows; r++)
        for (int64_t i = 0; i < W; i += lanes<A>::count)
            accumulate<1>(x.row(r) + i, x.stride, 1, g.row(r + 1) + i, g.stride, sum);
    for (int t = 0; t < 9; t++) total[t] += sum_lanes<A>(sum[t]);
}

}  // namespace tux
