// Depthwise 3x3: forward, filter gradient, both gradients at once. See ../abi.h for what each computes.

#include "../abi.h"
#include "launch.h"
#include "strips.h"

namespace tux {

template <class A> TUX_INLINE void splat_filter(const A* k, int flip, vec<A>* to) {
    for (int t = 0; t < 9; t++) to[t] = splat<A>(k[flip ? 8 - t : t]);
}

template <int R, class T, class A>
TUX_INLINE void correlate_rows(strip<A> s, int64_t row, const vec<A>* k, T* y, int64_t W) {
    for (int64_t i = 0; i < W; i += lanes<A>::count) {
        vec<A> acc[R] = {};
        correlate<R>(s.row(row) + i, s.stride, k, acc);
        TUX_UNROLL
        for (int r = 0; r < R; r++) put<T, A>(y + (row + r) * W + i, acc[r], W - i);
    }
}

template <class T, class A>
TUX_INLINE void correlate_strip(strip<A> s, int64_t rows, const vec<A>* filter, T* y, int64_t W) {
    vec<A> k[9];
    TUX_UNROLL
    for (int t = 0; t < 9; t++) k[t] = filter[t];
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) correlate_rows<4>(s, r, k, y, W);
    for (; r < rows; r++) correlate_rows<1>(s, r, k, y, W);
}

//---------------------------------------------------------------------------

template <class T>
int forward(const T* x, const void* filters, int k_per_sample, int flip, T* y, int64_t N, int64_t C, int64_t H, int64_t W) {
    typedef arithmetic_t<T> A;
    const A* k = (const A*)filters;
    int64_t rows = strip<A>::rows_for(H, W);
    return parallel_planes(N * C, H * W, [&](int64_t begin, int64_t end) {
        strip<A> s = {scratch<A>(strip<A>::cells(rows, W)), strip<A>::stride_for(W)};
        if (!s.data) return TUX_NO_MEMORY;
        for (int64_t i = begin; i < end; i++) {
            vec<A> kv[9] = {};
            splat_filter(k + (k_per_sample ? i : i % C) * 9, flip, kv);
            for (int64_t r = 0; r < H; r += rows) {
                int64_t n = H - r < rows ? H - r : rows;
                stage(x + i * H * W, s, r, n, H, W);
                correlate_strip(s, n, kv, y + i * H * W + r * W, W);
            }
        }
        return TUX_OK;
    });
}

// gk, and gx where it is wanted.
template <class T>
int backward(const T* x, const void* filters, int k_per_sample, const T* g, T* gx, void* filter_grad,
             int64_t N, int64_t C, int64_t H, int64_t W) {
    typedef arithmetic_t<T> A;
    const A* k = (const A*)filters;
    A* gk = (A*)filter_grad;
    int64_t rows = strip<A>::rows_for(H, W), cells = strip<A>::cells(rows, W);
    return parallel_planes(N * C, 2 * H * W, [&](int64_t begin, int64_t end) {
        A* memory = scratch<A>(2 * cells);
        if (!memory) return TUX_NO_MEMORY;
        strip<A> sx = {memory, strip<A>::stride_for(W)}, sg = {memory + cells, sx.stride};
        for (int64_t i = begin; i < end; i++) {
            vec<A> kv[9] = {};
            if (gx) splat_filter(k + (k_per_sample ? i : i % C) * 9, 1, kv);
            A total[9] = {};
            for (int64_t r = 0; r < H; r += rows) {
                int64_t n = H - r < rows ? H - r : rows;
                stage(x + i * H * W, sx, r, n, H, W);
                stage(g + i * H * W, sg, r, n, H, W);
                if (gx) correlate_strip(sg, n, kv, gx + i * H * W + r * W, W);
                accumulate_strip(sx, sg, n, W, total);
            }
            memcpy(gk + i * 9, total, sizeof total);
        }
        return TUX_OK;
    });
}

}  // namespace tux

//---------------------------------------------------------------------------

extern "C" {

int tux_depthwise(int dtype, const void* x, const void* k, int k_per_sample, int flip, void* y,
                  int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::forward((const T*)x, k, k_per_sample, flip, (T*)y, N, C, H, W));
}

int64_t tux_depthwise_weight_grad_workspace(int, int64_t, int64_t, int64_t, int64_t) { return 0; }

int tux_depthwise_weight_grad(int dtype, const void* x, const void* g, void* gk, void*,
                              int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::backward((const T*)x, nullptr, 0, (const T*)g, (T*)nullptr, gk, N, C, H, W));
}

int tux_depthwise_backward(int dtype, const void* x, const void* k, int k_per_sample, const void* g, void* gx, void* gk,
                           void*, int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::backward((const T*)x, k, k_per_sample, (const T*)g, (T*)gx, gk, N, C, H, W));
}

}  // extern "C"
