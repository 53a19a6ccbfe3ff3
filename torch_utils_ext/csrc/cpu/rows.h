// Planes at least a vector wide are read in place, R rows of output at a time. The neighbours outside the first and the last
// vector of a row are zeros instead of the memory there. If the width is not a multiple of a vector, the last vector overlaps the
// one before it. Rows outside the plane are read from a row of zeros.

#pragma once

#include "taps.h"

namespace tux {

enum { INSIDE = 0, FIRST = 1, LAST = 2 };       // position of a vector in its row; both if it is the whole row

template <int WHERE, class T> TUX_INLINE vec<arithmetic_t<T>> tap(const T* p, int v) {
    if (v == 0 && (WHERE & FIRST)) return shift_up<arithmetic_t<T>>(load(p));
    if (v == 2 && (WHERE & LAST)) return shift_down<arithmetic_t<T>>(load(p));
    return load(p + v - 1);
}

// job(column, compile-time position) for the vectors of a row.
template <class A, class Job> TUX_INLINE void each_vector(int64_t W, Job job) {
    const int L = lanes<A>::count;
    if (W == L) return job((int64_t)0, std::integral_constant<int, FIRST | LAST>{});
    job((int64_t)0, std::integral_constant<int, FIRST>{});
    for (int64_t i = L; i + L < W; i += L) job(i, std::integral_constant<int, INSIDE>{});
    job(W - L, std::integral_constant<int, LAST>{});
}

// Prefetches the data a few thousand bytes after row r, a part of it at each column, because the processor does not recognise
// that rows read in turn are contiguous.
template <int R, class T> TUX_INLINE void ask_ahead(const T* row, int64_t i) {
    const char* p = (const char*)(row + i * R) + 4096;
    TUX_UNROLL
    for (int64_t b = 0; b < R * lanes<arithmetic_t<T>>::count * (int64_t)sizeof(T); b += 64) __builtin_prefetch(p + b);
}

// The rows that rows r ... r + R - 1 of the output see.
template <int R, class T> struct window {
    const T* row[R + 2];

    TUX_INLINE window(const T* plane, const T* zeros, int64_t r, int64_t H, int64_t W) {
        for (int j = 0; j < R + 2; j++) {
            int64_t at = r - 1 + j;
            row[j] = at >= 0 && at < H ? plane + at * W : zeros;
        }
    }
};

// y rows r ... r + R - 1 = x correlated with k[9].
template <bool STREAMED, int R, class T, class A = arithmetic_t<T>>
TUX_INLINE void correlate_block(const window<R, T>& x, const vec<A>* filter, T* y, int64_t W) {
    vec<A> k[9];
    TUX_UNROLL
    for (int t = 0; t < 9; t++) k[t] = filter[t];
    each_vector<A>(W, [&](int64_t i, auto where) {
        ask_ahead<R>(x.row[1], i);
        vec<A> acc[R] = {};
        correlate<R, A>([&](int j, int v) { return tap<where()>(x.row[j] + i, v); }, k, acc);
        TUX_UNROLL
        for (int r = 0; r < R; r++) write<STREAMED>(y + r * W + i, acc[r]);
    });
}

// sum[9] += products of R rows of g with their neighbours in x. last: the lanes of the last vector that no other vector holds.
template <int R, class T, class A = arithmetic_t<T>>
TUX_INLINE void accumulate_block(const window<R, T>& x, const T* g, mask<A> last, vec<A>* total, int64_t W) {
    vec<A> sum[9];
    TUX_UNROLL
    for (int t = 0; t < 9; t++) sum[t] = total[t];
    each_vector<A>(W, [&](int64_t i, auto where) {
        ask_ahead<R>(x.row[1], i);
        ask_ahead<R>(g, i);
        vec<A> gv[R];
        TUX_UNROLL
        for (int r = 0; r < R; r++) {
            gv[r] = load(g + r * W + i);
            if (where() == LAST) gv[r] = (vec<A>)((mask<A>)gv[r] & last);
            keep(gv[r]);
        }
        accumulate<R, A>([&](int j, int v) { return tap<where()>(x.row[j] + i, v); }, gv, sum);
    });
    TUX_UNROLL
    for (int t = 0; t < 9; t++) total[t] = sum[t];
}

template <class A> TUX_INLINE mask<A> last_lanes(int64_t W) {
    const int L = lanes<A>::count;
    mask<A> m;
    for (int l = 0; l < L; l++) m[l] = l >= (L - W % L) % L ? -1 : 0;
    return m;
}

}  // namespace tux
