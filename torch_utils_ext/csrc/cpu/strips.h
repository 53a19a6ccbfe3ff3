// A strip is a few rows of one plane in the type of arithmetic, with zeros around them, small enough for the first-level cache.
// Planes that are rearranged before they are processed use strips, whose rows need no code for edges.
//
//   a strip row:   | lanes - 1 cells | 0 | W values | zeros to the next multiple of lanes | lanes zeros |
//   row j of a strip is row first - 1 + j of the plane; rows outside the plane are zero

#pragma once

#include "taps.h"

namespace tux {

const int strip_bytes = 4 * 1024;       // target size of a strip; five share the cache with the output

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
// Rows first - 1 ... first + rows of a plane into a strip whose zeros are in place.

template <class T, class A = arithmetic_t<T>>
TUX_INLINE void stage_row(const T* from, A* to, int64_t W) {
    const int L = lanes<A>::count;
    int64_t i = 0;
    for (; i + L <= W; i += L) store(to + i, load(from + i));
    if (i < W) store(to + i, load_part(from + i, (int)(W - i)));
}

template <class A> TUX_INLINE void clear_row(A* to, int64_t W) {
    for (int64_t i = 0; i < W; i += lanes<A>::count) store(to + i, vec<A>{});
}

template <class T, class A = arithmetic_t<T>>
TUX_INLINE void stage(const T* plane, strip<A> s, int64_t first, int64_t rows, int64_t H, int64_t W) {
    for (int64_t j = 0; j < rows + 2; j++) {
        int64_t r = first - 1 + j;
        if (r >= 0 && r < H) stage_row(plane + r * W, s.row(j), W);
        else clear_row(s.row(j), W);
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
                clear_row(even, W);
                clear_row(odd, W);
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
// sum[9] += products of the rows of g with their neighbours in x.

template <class A>
TUX_INLINE void accumulate_strip(strip<A> x, strip<A> g, int64_t rows, int64_t W, vec<A>* total) {
    vec<A> sum[9];
    TUX_UNROLL
    for (int t = 0; t < 9; t++) sum[t] = total[t];
    each_block(0, rows, [&](int64_t r, auto block) {
        for (int64_t i = 0; i < W; i += lanes<A>::count) {
            vec<A> gv[block()];
            TUX_UNROLL
            for (int j = 0; j < block(); j++) {
                gv[j] = load(g.row(r + 1 + j) + i);
                keep(gv[j]);
            }
            accumulate<block(), A>([&](int j, int v) { return load(x.row(r + j) + i + v - 1); }, gv, sum);
        }
    });
    TUX_UNROLL
    for (int t = 0; t < 9; t++) total[t] = sum[t];
}

}  // namespace tux
