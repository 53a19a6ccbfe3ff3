// The inner loops of every depthwise kernel, in registers: R rows of one vector each, and the R + 2 rows that they see.
// get(j, v) is row j of the rows seen, v - 1 columns to the right.

#pragma once

#include <stdlib.h>
#include "vec.h"

namespace tux {

// acc[r] += what row r sees, times k[9].
template <int R, class A, class Get> TUX_INLINE void correlate(Get get, const vec<A>* k, vec<A>* acc) {
    TUX_UNROLL
    for (int j = 0; j < R + 2; j++)
        TUX_UNROLL
        for (int v = 0; v < 3; v++) {
            vec<A> here = get(j, v);
            keep(here);
            TUX_UNROLL
            for (int u = 2; u >= 0; u--)
                if (j - u >= 0 && j - u < R) acc[j - u] += k[3 * u + v] * here;
        }
}

// sum[9] += products of the rows g[R] with the rows that they see, the gradient of k.
template <int R, class A, class Get> TUX_INLINE void accumulate(Get get, const vec<A>* g, vec<A>* sum) {
    TUX_UNROLL
    for (int j = 0; j < R + 2; j++)
        TUX_UNROLL
        for (int v = 0; v < 3; v++) {
            vec<A> here = get(j, v);
            keep(here);
            TUX_UNROLL
            for (int u = 2; u >= 0; u--)
                if (j - u >= 0 && j - u < R) sum[3 * u + v] += g[j - u] * here;
        }
}

// job(row, constant R) for the rows from begin to end, R at a time.
const int64_t block_rows = 4;

template <class Job> TUX_INLINE void each_block(int64_t begin, int64_t end, Job job) {
    int64_t r = begin;
    for (; r + block_rows <= end; r += block_rows) job(r, std::integral_constant<int, block_rows>{});
    for (; r < end; r++) job(r, std::integral_constant<int, 1>{});
}

//---------------------------------------------------------------------------
// Filters of planes, TAPS each, per sample or shared by the samples, and optionally turned by 180 degrees.

template <class A, int TAPS> struct filters_of {
    const A* k;
    int64_t C;
    bool per_sample, flip;

    TUX_INLINE const A* of(int64_t plane) const { return k + (per_sample ? plane : plane % C) * TAPS; }
    TUX_INLINE int tap(int t) const { return flip ? t / 9 * 9 + 8 - t % 9 : t; }
    TUX_INLINE void splat_to(int64_t plane, vec<A>* to) const {
        const A* from = of(plane);
        for (int t = 0; t < TAPS; t++) to[t] = splat<A>(from[tap(t)]);
    }
};

//---------------------------------------------------------------------------
// Scratch memory of this thread, zeroed: cells values of type A. NULL if there is not enough.

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

}  // namespace tux
